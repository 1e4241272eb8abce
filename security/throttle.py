"""How many requests one address may make: token buckets in memory, bounded."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from security.guessing import by_address
from storage.clock import Clock

MOST_BUCKETS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """So many a second in the long run, so many at once."""

    per_second: float
    at_once: float


# Whole offices come from one address, vendors in bursts: these stop floods, not work.
RATES = {
    "panel": Rate(per_second=100, at_once=600),
    "api": Rate(per_second=300, at_once=1500),
    "webhooks": Rate(per_second=1000, at_once=4000),
}


class Throttle:
    """One bucket per kind and address (an IPv6 network counts as one)."""

    def __init__(self, clock: Clock, rates: dict[str, Rate] | None = None) -> None:
        self.clock, self.rates = clock, rates or RATES
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._names: dict[str, str] = {}

    def wait(self, kind: str, ip: str) -> float:
        """Take one token. 0 if there was one, else the seconds until there is."""
        rate = self.rates.get(kind)
        if rate is None:
            return 0.0
        now, key = self.clock.monotonic(), (kind, self._name(ip))
        tokens, at = self._buckets.pop(key, (rate.at_once, now))
        tokens = min(rate.at_once, tokens + (now - at) * rate.per_second)
        short = tokens < 1
        self._buckets[key] = (tokens if short else tokens - 1, now)
        while len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return (1 - tokens) / rate.per_second if short else 0.0

    def _name(self, ip: str) -> str:
        name = self._names.get(ip)
        if name is None:
            if len(self._names) >= MOST_BUCKETS:
                self._names.clear()
            name = self._names[ip] = by_address(ip).value
        return name
