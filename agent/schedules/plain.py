"""Schedules in plain words, Chinese or English, as an expression. What is not understood whole is refused: a
schedule that was only half understood runs at the wrong time.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime, time

from agent.schedules.cron import parse
from agent.schedules.plain_en import read_english
from agent.schedules.plain_found import Found
from agent.schedules.plain_zh import read_chinese
from agent.schedules.shape import HOUR_STEPS, STEPS
from storage.errors import Invalid

MOST_CHARS = 200


def read_plain(text: str, now: datetime) -> str:
    """The expression that the words mean.

    Args:
        now: local time in the schedule's zone, for `tomorrow` and `in 20 minutes`.

    Raises:
        Invalid: `schedule.plain` (with what was not understood), `schedule.plain_time` (no time of day was said),
            `schedule.plain_past`, `schedule.times`, `schedule.step`; the field is `plain`.
    """
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
