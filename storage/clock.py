"""The one reader of the clock. Tests pass their own."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Wall time for records, monotonic time for durations and timeouts."""

    def ms(self) -> int:
        """Milliseconds since the epoch, UTC: the form in which all times are stored."""
        return time.time_ns() // 1_000_000

    def now(self) -> datetime:
        """The same as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.ms() / 1000, UTC)

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()


class ManualClock(Clock):
    """A clock that moves only when told to. Used by tests and by dry runs of schedules."""

    def __init__(self, ms: int = 1_767_225_600_000) -> None:
        self._ms = ms
        self._monotonic = 0.0

    def ms(self) -> int:
        return self._ms

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both times forward."""
        self._ms += int(seconds * 1000)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Move wall time only, as when an operator or NTP sets the clock."""
        self._ms += int(seconds * 1000)
