"""Where an answer goes at WeCom, as kept in the ledger."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

from storage.errors import Invalid

NAME = re.compile(r"[A-Za-z0-9._@-]{1,128}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """An address at WeCom.

    Attributes:
        kind: `direct` or `group`.
        to: userid, or chatid of a group.
        request: id of the AI bot's request that is answered, while its connection lives.
    """

    kind: str
    to: str
    request: str = ""

    def to_json(self) -> str:
        return json.dumps({k: v for k, v in asdict(self).items() if v})

    @staticmethod
    def from_json(text: str) -> Address:
        """The reverse. Raises `Invalid` `wecom.address` for what this channel has not made."""
        try:
            raw = json.loads(text)
            address = Address(kind=raw["kind"], to=raw["to"], request=raw.get("request", ""))
            good = address.kind in ("direct", "group") and NAME.fullmatch(address.to) is not None
        except (ValueError, TypeError, KeyError) as error:
            raise Invalid("wecom.address") from error
        if not good:
            raise Invalid("wecom.address")
        return address


def target(text: str) -> Address:
    """The address of `user:<userid>` or `group:<chatid>`, as an admin writes it.

    Raises:
        Invalid: `wecom.target_form`.
    """
    kind, _, to = text.strip().partition(":")
    to = to.strip()
    if kind not in ("user", "group") or not NAME.fullmatch(to):
        raise Invalid("wecom.target_form", field="target")
    return Address(kind="direct" if kind == "user" else "group", to=to)
