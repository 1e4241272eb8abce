"""Buckets that refill: how often one caller may knock. In memory and bounded."""

from __future__ import annotations

from collections import OrderedDict

from storage.clock import Clock
from storage.errors import Throttled

MOST_KEYS = 5_000


class Buckets:
    """A bucket for each key: `burst` at once, refilled at `per_minute`."""

    def __init__(self, clock: Clock, *, burst: int, per_minute: float) -> None:
        self._clock, self._burst, self._rate = clock, float(burst), per_minute / 60.0
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """Take one. Raises `Throttled` `hook.too_fast` if the bucket is empty."""
        now = self._clock.monotonic()
        left, at = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        self._left[key] = (max(left - 1.0, 0.0), now) if left >= 1.0 else (left, now)
        if len(self._left) > MOST_KEYS:
            self._left.popitem(last=False)
        if left < 1.0:
            raise Throttled("hook.too_fast", retry_after=max(1.0, (1.0 - left) / self._rate))
