"""Schedules in plain words, Chinese or English, as an expression. What is not understood whole is refused: a
schedule that was only half understood runs at the wrong time.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from agent.schedules.cron import parse
from agent.schedules.shape import HOUR_STEPS, STEPS
from storage.errors import Invalid

MOST_CHARS = 200


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


def read_plain(text: str, now: datetime) -> str:
    """The expression that the words mean.

    Args:
        now: local time in the schedule's zone, for `tomorrow` and `in 20 minutes`.

    Raises:
        Invalid: `schedule.plain` (with what was not understood), `schedule.plain_time` (no time of day was said),
            `schedule.plain_past`, `schedule.times`, `schedule.step`; the field is `plain`.
    """
    from agent.schedules.plain_en import read_english
    from agent.schedules.plain_zh import read_chinese

    plain = unicodedata.normalize("NFKC", text).strip().lower()
    if not plain or len(plain) > MOST_CHARS:
        raise Invalid("schedule.plain", field="plain", left=plain[:40])
    chinese = any("\u3400" <= ch <= "\u9fff" for ch in plain)
    found, left = (read_chinese if chinese else read_english)(plain, now)
    if left:
        raise Invalid("schedule.plain", field="plain", left=left[:40])
    try:
        return parse(_expression(found, now, plain)).text
    except Invalid as error:
        error.field = "plain"
        raise


def _expression(f: Found, now: datetime, plain: str) -> str:
    if f.exact or f.dates:
        return _once(f, now)
    week = ",".join([*(_range(sorted(f.weekdays))), *f.week_items]) or "*"
    day = f.working or "*"
    if f.days:
        if f.working or f.weekdays or f.week_items:
            raise Invalid("schedule.plain", field="plain", left=plain[:40])
        day = ",".join(dict.fromkeys(f.days))
    months = ",".join(str(n) for n in sorted(f.months)) or "*"
    if f.minutes or f.hours:
        return _repeated(f, f"{day} {months} {week}")
    if not (f.repeats or f.days or f.working or f.weekdays or f.week_items):
        raise Invalid("schedule.plain", field="plain", left=plain[:40])
    if not f.times:
        raise Invalid("schedule.plain_time", field="plain")
    if f.months and not f.days and not f.week_items:
        raise Invalid("schedule.plain", field="plain", left=plain[:40])
    return f"{_clock(f.times)} {day} {months} {week}"


def _repeated(f: Found, rest: str) -> str:
    if f.times or (f.minutes and f.hours):
        raise Invalid("schedule.step", field="plain")
    window = f"{f.window[0]}-{f.window[1]}" if f.window else "*"
    if f.minutes:
        if f.minutes not in STEPS:
            raise Invalid("schedule.step", field="plain")
        return f"{'*' if f.minutes == 1 else f'*/{f.minutes}'} {window} {rest}"
    if f.hours not in HOUR_STEPS:
        raise Invalid("schedule.step", field="plain")
    return f"{f.minute} {window if f.hours == 1 else f'{window}/{f.hours}'} {rest}"


def _once(f: Found, now: datetime) -> str:
    if f.repeats or f.weekdays or f.week_items or f.working or f.days or f.minutes or f.hours:
        raise Invalid("schedule.plain", field="plain", left="")
    if f.dates and not f.times:
        raise Invalid("schedule.plain_time", field="plain")
    if any(hour > 23 or minute > 59 for hour, minute in f.times):
        raise Invalid("schedule.time", field="plain")
    at = [datetime.combine(day, time(*clock)) for day in f.dates for clock in f.times]
    at += f.exact
    if any(moment <= now.replace(tzinfo=None) for moment in at):
        raise Invalid("schedule.plain_past", field="plain")
    return ", ".join(f"{moment:%Y-%m-%d %H:%M}" for moment in at)


def _clock(times: list[tuple[int, int]]) -> str:
    minutes = {minute for _, minute in times}
    if len(minutes) > 1:
        raise Invalid("schedule.times", field="plain")
    return f"{minutes.pop()} {','.join(str(hour) for hour in sorted({hour for hour, _ in times}))}"


def _range(days: list[int]) -> list[str]:
    if len(days) > 2 and days == list(range(days[0], days[-1] + 1)):
        return [f"{days[0]}-{days[-1]}"]
    return [str(day) for day in days]


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
