"""Expressions: five cron fields with China's working days, or exact local times. Pure.

The day of the month may also be `W` (working days), `H` (days off), `LW` (last working day), `W3` (third working
day) and `W-2` (last but one), joined by commas. Cron itself is cronsim's, with Debian's rules for summer time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from agent.schedules.workdays import Workdays
from storage.errors import Invalid

ZONE = "Asia/Shanghai"
MOST_TIMES = 50
MOST_CHARS = 1_000
HORIZON_DAYS = 366 * 5
_DAY = re.compile(r"W|H|LW|W-?[1-9]\d?")
_EXACT = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Expression:
    """A parsed expression.

    Attributes:
        text: as it is kept: single spaces, upper case.
        cron: what cronsim runs, with the day of the month as `*` where `days` choose it; empty for exact times.
        days: the working-day items of the day of the month.
        exact: local times, in order.
    """

    text: str
    cron: str = ""
    days: tuple[str, ...] = ()
    exact: tuple[datetime, ...] = field(default_factory=tuple)

    @property
    def once(self) -> bool:
        """True if it names exact times, so that it ends."""
        return bool(self.exact)

    def times(self, after: int, zone: str, workdays: Workdays) -> Iterator[int]:
        """Planned times in ms, strictly after `after`, in order. Ends for exact times, or if there is none for years.

        Raises:
            Invalid: `schedule.zone`.
        """
        place = zone_of(zone)
        if self.exact:
            for local in self.exact:
                at = _ms(local.replace(tzinfo=place))
                if at > after:
                    yield at
            return
        start = datetime.fromtimestamp(after // 1000, UTC).astimezone(place)
        if not self.days:
            for found in islice(CronSim(self.cron, start), 1_000_000):
                yield _ms(found)
            return
        yield from self._on_days(start, place, workdays)

    def _on_days(self, start: datetime, place: tzinfo, workdays: Workdays) -> Iterator[int]:
        last = start.date() + timedelta(days=HORIZON_DAYS)
        ticks = CronSim(self.cron, start)
        while True:
            try:
                found = next(ticks)
            except StopIteration:
                return
            day = found.date()
            if day > last:
                return
            if self._fits(day, workdays):
                yield _ms(found)
                last = day + timedelta(days=HORIZON_DAYS)
                continue
            after = datetime.combine(day + timedelta(days=1), time(), place) - timedelta(seconds=1)
            ticks = CronSim(self.cron, after)

    def _fits(self, day: date, workdays: Workdays) -> bool:
        return any(_fits(item, day, workdays) for item in self.days)


def parse(text: str) -> Expression:
    """Read an expression.

    Raises:
        Invalid: `schedule.cron_fields`, `schedule.cron_field` (with its name), `schedule.cron_never`,
            `schedule.exact`; the field is `expression`.
    """
    plain = " ".join(text.split()).upper()[:MOST_CHARS]
    return _parsed(plain)


@lru_cache(maxsize=512)
def _parsed(plain: str) -> Expression:
    if re.match(r"\d{4}-", plain):
        return _exact(plain)
    fields = plain.split(" ")
    if len(fields) != 5:
        raise Invalid("schedule.cron_fields", field="expression", n=len(fields) if plain else 0)
    items = fields[2].split(",")
    special = tuple(dict.fromkeys(item for item in items if _DAY.fullmatch(item)))
    if special and len(special) != len(items):
        raise Invalid("schedule.cron_field", field="expression", name="day-of-month", value=fields[2][:40])
    cron = " ".join([*fields[:2], "*" if special else fields[2], *fields[3:]])
    try:
        # a year with a 29th of February within reach, so that rare days are found, and days that never come are not
        found = CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC))
        next(found)
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")
        raise Invalid("schedule.cron_field", field="expression", name=name, value=_value(fields, name)) from error
    except StopIteration:
        raise Invalid("schedule.cron_never", field="expression", text=plain[:60]) from None
    return Expression(text=plain, cron=cron, days=special)


def _value(fields: list[str], name: str) -> str:
    names = ("minute", "hour", "day-of-month", "month", "day-of-week")
    return fields[names.index(name)][:40] if name in names else ""


def _exact(plain: str) -> Expression:
    items = [item.strip() for item in plain.split(",")]
    if len(items) > MOST_TIMES or not all(_EXACT.fullmatch(item) for item in items):
        raise Invalid("schedule.exact", field="expression", most=MOST_TIMES)
    try:
        found = sorted({datetime.fromisoformat(item) for item in items})
    except ValueError as error:
        raise Invalid("schedule.exact", field="expression", most=MOST_TIMES) from error
    return Expression(text=", ".join(f"{at:%Y-%m-%d %H:%M}" for at in found), exact=tuple(found))


def _fits(item: str, day: date, workdays: Workdays) -> bool:
    if item == "H":
        return not workdays.works(day)
    if not workdays.works(day):
        return False
    if item == "W":
        return True
    place = -1 if item == "LW" else int(item[1:])
    found = workdays.of_month(day.year, day.month)
    place = place - 1 if place > 0 else place
    return -len(found) <= place < len(found) and found[place] == day


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """The time zone of an IANA name. Raises `Invalid` `schedule.zone`."""
    try:
        if not re.fullmatch(r"[A-Za-z0-9_+/-]{1,64}", name):
            raise ValueError(name)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid("schedule.zone", field="zone", name=name[:60]) from error


def next_times(text: str, zone: str, after: int, count: int, workdays: Workdays) -> list[int]:
    """The next planned times in ms, at most `count`. CPU work: call in a thread. Raises `Invalid`."""
    return list(islice(parse(text).times(after, zone, workdays), count))


def _ms(at: datetime) -> int:
    return int(at.timestamp()) * 1000
