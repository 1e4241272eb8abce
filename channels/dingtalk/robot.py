"""A DingTalk group's custom robot: pushes only, signed in the address. Source: protocols.md 2.3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from channels.base import Pace
from channels.dingtalk.faults import fault
from channels.dingtalk.render import robot_body, split
from channels.dingtalk.signature import sign
from channels.exchange import send_once
from security.egress import VENDOR, Egress
from storage.clock import Clock
from storage.envelope import Outgoing, Receipt


class _Answer(BaseModel):
    """Always HTTP 200; the vendor's block for speed has no `errcode` at all, which is a failure."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    errcode: int | None = None
    errmsg: str = ""
    punish: str = ""
    wait: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DingTalkRobot:
    """Posts to one robot.

    Attributes:
        endpoint: its address without a query.
        token: the `access_token` of its address; a secret.
        secret: of the protection by signature, empty if that is off.
        keyword: put under messages that lack it, for the protection by keyword.
    """

    endpoint: str
    egress: Egress
    clock: Clock
    token: str = field(repr=False)
    secret: str = field(default="", repr=False)
    keyword: str = ""
    idempotent = False
    pace = Pace(count=20, seconds=61.0)  # 20 a minute, then the vendor blocks for ten

    def split(self, out: Outgoing) -> Sequence[Outgoing]:
        """As the app robot: shorter than this robot's 20 000 bytes."""
        return split(out)

    def url(self) -> str:
        """The address with token and a fresh signature. Made anew for each send; never logged."""
        query = {"access_token": self.token}
        if self.secret:
            timestamp = str(self.clock.ms())
            query |= {"timestamp": timestamp, "sign": sign(self.secret, timestamp)}
        return f"{self.endpoint}?{urlencode(query)}"

    async def send(self, out: Outgoing, key: str, written: Callable[[], None]) -> Receipt:
        """Post one message.

        Raises:
            Throttled, Unavailable, Rejected, OutcomeUnknown: as `Channel.send`.
        """
        if self.keyword and self.keyword not in out.text and self.keyword not in out.title:
            out = replace(out, text=f"{out.text}\n\n{self.keyword}")
        policy = replace(VENDOR, most_bytes=200_000, seconds=10)
        answer = await send_once(self.egress, "POST", self.url(), policy=policy, json=robot_body(out), written=written)
        try:
            found = _Answer.model_validate(orjson.loads(answer.content))
        except (orjson.JSONDecodeError, ValidationError):
            found = _Answer()
        if found.errcode == 0:
            return Receipt(vendor_id="errcode=0")  # the vendor gives no message id for this robot
        if found.errcode is None and found.punish:
            raise fault(429, "", "", retry_after=max(found.wait, 60.0))
        raise fault(answer.status_code, "" if found.errcode is None else str(found.errcode), found.errmsg)
