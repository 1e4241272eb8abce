"""A WeCom group's robot: pushes only; the key in its address is its secret. Source: protocols.md 3.1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

import orjson

from channels.base import Pace
from channels.exchange import send_once
from channels.split import split_markdown
from channels.wecom.faults import read_answer
from channels.wecom.render import MOST_BYTES, markdown
from security.egress import VENDOR, Egress
from storage.envelope import Outgoing, Receipt

JSON = {"content-type": "application/json"}


@dataclass(frozen=True, kw_only=True, slots=True)
class WeComRobot:
    """Posts to one robot."""

    endpoint: str
    egress: Egress
    key: str = field(repr=False)
    idempotent = False
    pace = Pace(count=20, seconds=61.0)

    def split(self, out: Outgoing) -> Sequence[Outgoing]:
        """Pieces of at most 4096 bytes as Markdown; buttons become links under the last."""
        pieces = split_markdown(out.text, MOST_BYTES - 400, lambda text: len(text.encode())) or [out.text]
        return cut(out, pieces)

    async def send(self, out: Outgoing, key: str, written: Callable[[], None]) -> Receipt:
        """Post one message.

        Raises:
            Throttled, Unavailable, Rejected, OutcomeUnknown: as `Channel.send`.
        """
        url = f"{self.endpoint}?{urlencode({'key': self.key})}"
        body = {"msgtype": "markdown", "markdown": {"content": markdown(out)}}
        policy = replace(VENDOR, most_bytes=200_000, seconds=10)
        answer = await send_once(
            self.egress, "POST", url, policy=policy, content=orjson.dumps(body), headers=JSON, written=written
        )
        _ = read_answer(answer)
        return Receipt(vendor_id="errcode=0")


def cut(out: Outgoing, pieces: Sequence[str]) -> Sequence[Outgoing]:
    """One message as several: who is told at the start, links at the end."""
    made = [
        replace(out, text=piece, title=out.title if n == 0 else "", buttons=(), mentions=())
        for n, piece in enumerate(pieces)
    ]
    made[0] = replace(made[0], mentions=out.mentions)
    made[-1] = replace(made[-1], buttons=out.buttons)
    return made
