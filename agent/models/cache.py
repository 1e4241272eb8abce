"""Answers to identical requests, kept for a while. Off unless an admin switches it on."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson

from agent.models.base import Completed, ModelChoice, ModelRequest
from storage.clock import Clock

SECONDS = 600.0
MOST = 500
MOST_TEXT = 20_000


@dataclass(frozen=True, slots=True)
class _Kept:
    done: Completed
    until: float


class AnswerCache:
    """Keeps whole answers without tool calls, apart for each tenant and model.

    Args:
        enabled: whether a tenant wants it; the router knows.
    """

    def __init__(self, clock: Clock, enabled: Callable[[str], bool]) -> None:
        self.clock, self.enabled = clock, enabled
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()

    def key(self, chain: Sequence[ModelChoice], request: ModelRequest) -> bytes | None:
        """What an identical request has too; None where nothing is to be kept."""
        spender = request.spender
        if spender is None or not chain or not self.enabled(spender.tenant):
            return None
        parts = orjson.dumps(
            [
                spender.tenant,
                chain[0].ref,
                request.temperature,
                request.max_tokens,
                request.messages,
                [(tool.name, tool.description, tool.parameters) for tool in request.tools],
            ],
            option=orjson.OPT_SORT_KEYS,
        )
        return hashlib.blake2b(parts, digest_size=24).digest()

    def find(self, key: bytes | None) -> Completed | None:
        """The kept answer; its counts are zero, for it cost nothing."""
        kept = self._kept.get(key) if key is not None else None
        if kept is None or key is None:
            return None
        if kept.until <= self.clock.monotonic():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return replace(kept.done, tokens_in=0, tokens_out=0, estimated=False, first_token_ms=0, total_ms=0)

    def clear(self) -> None:
        """Drop all answers: something that they were made from was forgotten."""
        self._kept.clear()

    def keep(self, key: bytes | None, done: Completed) -> None:
        """Keep an answer that came to its end."""
        if key is None or done.stop != "end" or done.calls or done.bad_calls or len(done.text) > MOST_TEXT:
            return
        self._kept[key] = _Kept(done, self.clock.monotonic() + SECONDS)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
