"""What words of a language said about when, and the text that is still to be understood."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from storage.errors import Invalid


@dataclass(slots=True)
class Found:
    """What the words of one language said. Times are (hour, minute); weekdays 1 (Monday) to 7."""

    times: list[tuple[int, int]] = field(default_factory=list)
    window: tuple[int, int] | None = None
    minutes: int = 0
    hours: int = 0
    minute: int = 0
    repeats: bool = False
    working: str = ""
    weekdays: set[int] = field(default_factory=set)
    week_items: list[str] = field(default_factory=list)
    days: list[str] = field(default_factory=list)
    months: set[int] = field(default_factory=set)
    dates: list[date] = field(default_factory=list)
    exact: list[datetime] = field(default_factory=list)


class Text:
    """A text of which understood pieces are taken away."""

    def __init__(self, text: str) -> None:
        self.left = text

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The first match, which is gone afterwards."""
        found = pattern.search(self.left)
        if found:
            self.left = f"{self.left[: found.start()]} {self.left[found.end() :]}"
        return found

    def take_all(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        """All matches, in order."""
        made = list(pattern.finditer(self.left))
        self.left = pattern.sub(" ", self.left)
        return made


def soon(found: Found, now: datetime, amount: int, unit: str) -> None:
    """A span from now: `minute`, `hour` or `day`. Days keep the time of day unless another one is said."""
    local = now.replace(tzinfo=None, second=0, microsecond=0)
    if unit == "day":
        found.dates.append(local.date() + timedelta(days=amount))
        if not found.times:
            found.times.append((local.hour, local.minute))
        return
    if not 1 <= amount <= 100_000:
        raise Invalid("schedule.plain_past", field="plain")
    # the minute is full: never earlier than was said
    extra = timedelta(minutes=1) if now.second or now.microsecond else timedelta()
    found.exact.append(local + extra + (timedelta(minutes=amount) if unit == "minute" else timedelta(hours=amount)))


def upcoming(now: datetime, month: int, day: int, year: int | None) -> date:
    """The next such date, or the one of the year that was said. Raises `Invalid` for a date that is none."""
    today = now.date()
    for candidate in [year] if year else range(today.year, today.year + 9):
        try:
            found = date(candidate, month, day)
        except ValueError:
            continue
        if year or found >= today:
            return found
    raise Invalid("schedule.plain", field="plain", left=f"{month}-{day}")
