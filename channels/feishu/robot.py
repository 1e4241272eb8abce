"""A Feishu group's custom robot: pushes only, signed in the body. Source: protocols.md 1.3."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import orjson

from channels.base import Pace
from channels.exchange import send_once
from channels.feishu.client import JSON, fault_of, judged
from channels.feishu.render import MOST_ROBOT_BYTES, robot_body, split
from security.egress import VENDOR, Egress
from storage.clock import Clock
from storage.envelope import Outgoing, Receipt


def sign(secret: str, timestamp: str) -> str:
    """The robot's own scheme: time and secret are the key, and the message is empty."""
    digest = hmac.new(f"{timestamp}\n{secret}".encode(), b"", hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


@dataclass(frozen=True, kw_only=True, slots=True)
class FeishuRobot:
    """Posts to one robot.

    Attributes:
        endpoint: its address without the token at its end.
        token: the last part of its address; a secret.
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
    pace = Pace(count=5, seconds=3.2)  # 5 a second and 100 a minute, both kept

    def split(self, out: Outgoing) -> Sequence[Outgoing]:
        """Pieces below this robot's 20 KB. Files stay behind: a robot cannot upload."""
        return split(replace(out, files=()), MOST_ROBOT_BYTES)

    async def send(self, out: Outgoing, key: str, written: Callable[[], None]) -> Receipt:
        """Post one message.

        Raises:
            Throttled, Unavailable, Rejected, OutcomeUnknown: as `Channel.send`.
        """
        if self.keyword and self.keyword not in out.text and self.keyword not in out.title:
            out = replace(out, text=f"{out.text}\n\n{self.keyword}")
        body = robot_body(out)
        if self.secret:
            timestamp = str(self.clock.ms() // 1000)
            body |= {"timestamp": timestamp, "sign": sign(self.secret, timestamp)}
        policy = replace(VENDOR, most_bytes=200_000, seconds=10)
        answer = await send_once(
            self.egress,
            "POST",
            f"{self.endpoint}/{self.token}",
            policy=policy,
            content=orjson.dumps(body),
            headers=JSON,
            written=written,
        )
        code, raw = judged(answer)
        if code != 0:
            raise fault_of(code, raw, answer)
        return Receipt(vendor_id="code=0")  # the vendor gives no message id for this robot
