"""Days on which people in China work: the admin's own list, then the bundled calendar, then Monday to Friday.

The State Council publishes each year's holidays in November of the year before; until then nobody knows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """What is known of a day.

    Attributes:
        name: of the holiday, in English as the bundled calendar has it, or as the admin wrote it; empty for none.
        known: False where only the weekday tells, because the year's holidays are not published yet.
        edited: the admin said so.
    """

    working: bool
    name: str = ""
    known: bool = True
    edited: bool = False


@dataclass(frozen=True, slots=True)
class Workdays:
    """A calendar. `edited` are the admin's own days, by date: whether people work, and a name."""

    edited: Mapping[date, tuple[bool, str]] = field(default_factory=dict)

    def day(self, day: date) -> Day:
        """What is known of a day."""
        if (own := self.edited.get(day)) is not None:
            return Day(working=own[0], name=own[1], edited=True)
        return _bundled(day)

    def works(self, day: date) -> bool:
        """True on a working day, make-up days included."""
        own = self.edited.get(day)
        return own[0] if own is not None else _bundled(day).working

    def of_month(self, year: int, month: int) -> list[date]:
        """All working days of a month."""
        day, found = date(year, month, 1), []
        while day.month == month:
            if self.works(day):
                found.append(day)
            day += timedelta(days=1)
        return found


@lru_cache(maxsize=4000)
def _bundled(day: date) -> Day:
    # imported here: only schedules that ask for working days need it
    import chinese_calendar

    try:
        off, name = chinese_calendar.get_holiday_detail(day)
    except NotImplementedError:
        return Day(working=day.weekday() < 5, known=False)
    return Day(working=not off, name=str(name or ""))
