"""Pushes to any other system: JSON, signed, with a delivery id by which the receiver drops repetitions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx
import orjson

from channels.base import Pace
from channels.exchange import send_once
from channels.webhook.signing import DELIVERY, SIGNATURE, TIMESTAMP, signature
from security.egress import ADMIN, Egress
from storage.clock import Clock
from storage.envelope import Outgoing, Receipt
from storage.errors import AppError, Rejected, Throttled, Unavailable

LONGEST_WAIT = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class GenericWebhook:
    """Posts to one address of a company's own. The receiver is told to drop a delivery id that it has seen."""

    endpoint: str
    egress: Egress
    clock: Clock
    secret: str = field(default="", repr=False)
    idempotent = True
    pace = Pace(count=20, seconds=1.0)

    def split(self, out: Outgoing) -> Sequence[Outgoing]:
        """A machine reads it: never cut."""
        return [out]

    async def send(
        self, out: Outgoing, key: str, written: Callable[[], None], event: Mapping[str, object] | None = None
    ) -> Receipt:
        """Post one message.

        Args:
            key: delivery id, the same in every repetition.
            event: name and data of an event, for receivers that act on it.

        Raises:
            Throttled, Unavailable, Rejected, OutcomeUnknown: as `Channel.send`.
        """
        body = orjson.dumps({"id": key, "at": self.clock.ms(), **(event or {}), **json.loads(out.to_json())})
        timestamp = str(self.clock.ms() // 1000)
        headers = {"content-type": "application/json", DELIVERY: key, TIMESTAMP: timestamp}
        if self.secret:
            headers[SIGNATURE] = signature(self.secret, timestamp, body)
        policy = replace(ADMIN, most_bytes=200_000, seconds=15)
        answer = await send_once(
            self.egress, "POST", self.endpoint, policy=policy, headers=headers, content=body, written=written
        )
        if 200 <= answer.status_code < 300:
            return Receipt(vendor_id=_proof(answer))
        raise self._refusal(answer)

    def _refusal(self, answer: httpx.Response) -> AppError:
        status = answer.status_code
        if status == 429:
            return Throttled("webhook.too_fast", retry_after=self._wait(answer), status=status)
        if status in (408, 425) or status >= 500:
            return Unavailable("webhook.down", status=status)
        words = "".join(c for c in answer.text[:200] if c.isprintable())
        return Rejected("webhook.refused", words, status=status)

    def _wait(self, answer: httpx.Response) -> float:
        """Seconds from Retry-After in either of its forms; a minute where it says nothing."""
        text = answer.headers.get("retry-after", "")
        if text.isascii() and text.isdigit():
            return min(max(float(text), 1.0), LONGEST_WAIT)
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return 60.0
        seconds = at.replace(tzinfo=at.tzinfo or UTC).timestamp() - self.clock.ms() / 1000
        return min(max(seconds, 1.0), LONGEST_WAIT)


def _proof(answer: httpx.Response) -> str:
    """The receiver's own id of it, where it gives one; else its status."""
    name = answer.headers.get("x-request-id", "")
    if name and len(name) <= 200 and name.isprintable():
        return str(name)
    return f"http={answer.status_code}"
