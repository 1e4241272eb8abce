"""Where a push goes, as an admin writes it, in the form that the channel keeps it."""

from __future__ import annotations

from channels.dingtalk import address as dingtalk
from channels.feishu import address as feishu
from channels.wecom import address as wecom
from storage.errors import Invalid


def address_of(type: str, text: str) -> str:
    """The address of `text` for a bot of this type, e.g. `user:staff1`, `group:cid…`, `oc_…`.

    A bot of type `webhook` has one address only: anything will do.

    Raises:
        Invalid: `<type>.target_form`, or `bot.type` for a type that cannot be written to.
    """
    match type:
        case "webhook":
            return "{}"
        case "dingtalk":
            return dingtalk.target(text).to_json()
        case "feishu":
            return feishu.target(text).to_json()
        case "wecom":
            return wecom.target(text).to_json()
        case _:
            raise Invalid("bot.type", field="bot", type=type)
