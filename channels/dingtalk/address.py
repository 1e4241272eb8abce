"""Where an answer goes, as kept in the ledger, and which session webhooks are trusted."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from channels.dingtalk.settings import DingTalkSettings
from storage.errors import Invalid

LONGEST = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """An address at DingTalk.

    Attributes:
        kind: `direct` or `group`.
        conversation: openConversationId.
        staff: staff id of the person, empty for somebody outside the organisation.
        message: msgId that is answered.
        session: session webhook, kept only where the open API cannot reach the person.
        until: ms at which it expires.
    """

    kind: str
    conversation: str = ""
    staff: str = ""
    message: str = ""
    session: str = ""
    until: int = 0

    def to_json(self) -> str:
        return json.dumps({k: v for k, v in asdict(self).items() if v}, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Address:
        """The reverse. Raises `Invalid` for what this channel has not made."""
        try:
            raw = json.loads(text)
            address = Address(**raw)
        except (ValueError, TypeError) as error:
            raise Invalid("dingtalk.address") from error
        if address.kind not in ("direct", "group"):
            raise Invalid("dingtalk.address")
        return address


def target(text: str) -> Address:
    """The address of `user:<staff id>` or `group:<openConversationId>`, as an admin writes it.

    Raises:
        Invalid: `dingtalk.target_form`.
    """
    kind, _, value = text.strip().partition(":")
    value = value.strip()
    if not value or len(value) > 256 or kind not in ("user", "group"):
        raise Invalid("dingtalk.target_form", field="target")
    if kind == "user":
        return Address(kind="direct", staff=value)
    return Address(kind="group", conversation=value)


def trusted(url: str, settings: DingTalkSettings) -> bool:
    """True if a session webhook's origin is exactly that of the bot's own addresses.

    A plain comparison of text, so that no two parsers can disagree: the origin as configured, then a slash.
    """
    if not url.isascii() or len(url) > LONGEST or not url.isprintable() or any(c in url for c in ' \\#"<>^`{|}'):
        return False
    return any(url.startswith(f"{base}/") for base in (settings.oapi_base, settings.api_base))
