"""Where an answer goes, as kept in the ledger."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from storage.errors import Invalid

TARGET = re.compile(r"[A-Za-z0-9._@+-]{1,128}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """An address at Feishu.

    Attributes:
        message: message that is replied to; empty for a push.
        to: chat, person or mail address that is written to if nothing is replied to, or no longer can be.
        thread: reply inside the message's thread.
    """

    message: str = ""
    to: str = ""
    thread: bool = False

    def to_json(self) -> str:
        raw: dict[str, object] = {}
        if self.message:
            raw["message"] = self.message
        if self.to:
            raw["to"] = self.to
        if self.thread:
            raw["thread"] = True
        return json.dumps(raw)

    @staticmethod
    def from_json(text: str) -> Address:
        """The reverse. Raises `Invalid` `feishu.address` for what this channel has not made."""
        try:
            raw = json.loads(text)
            address = Address(
                message=str(raw.get("message", "")), to=str(raw.get("to", "")), thread=bool(raw.get("thread"))
            )
        except (ValueError, AttributeError) as error:
            raise Invalid("feishu.address") from error
        if not address.message and not address.to:
            raise Invalid("feishu.address")
        if any(part and not TARGET.fullmatch(part) for part in (address.message, address.to)):
            raise Invalid("feishu.address")
        return address

    @property
    def id_type(self) -> str:
        """What `to` is, by its form."""
        if self.to.startswith("oc_"):
            return "chat_id"
        if self.to.startswith("ou_"):
            return "open_id"
        if self.to.startswith("on_"):
            return "union_id"
        return "email" if "@" in self.to else "user_id"


def target(text: str) -> Address:
    """The address of a chat (`oc_…`), person (`ou_…`, `on_…`, user id) or mail address, as an admin writes it.

    Raises:
        Invalid: `feishu.target_form`.
    """
    to = text.strip().removeprefix("user:").removeprefix("group:").strip()
    if not TARGET.fullmatch(to):
        raise Invalid("feishu.target_form", field="target")
    return Address(to=to)
