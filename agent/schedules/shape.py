"""A schedule as a builder shows it, and the expression that says the same. Pure, both ways."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.schedules.cron import parse
from storage.errors import Invalid

EVERY = ("minutes", "hours", "day", "workday", "dayoff", "week", "month", "year", "once", "custom")
STEPS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)
HOUR_STEPS = (1, 2, 3, 4, 6, 8, 12)
DAYS_OF_MONTH = ("L", "LW", "W1", "W2", "W3", "W-2", *(str(n) for n in range(1, 32)))
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What a builder's fields hold.

    Attributes:
        every: one of EVERY; `custom` for what the builder cannot show.
        step: of `minutes` and `hours`.
        start, end: the hours within which `minutes` and `hours` run, both included; None: all day.
        minute: past the hour, for `hours`.
        times: `09:00`, for all kinds that happen at a time of day; all with the same minute.
        weekdays: 1 (Monday) to 7, for `week`; also narrows `minutes` and `hours`.
        working: narrows `minutes` and `hours` to working days.
        days: of the month: numbers, `L`, or items of working days, for `month` and `year`.
        months: for `month` (empty: all) and `year`.
        exact: local times, for `once`.
    """

    every: str
    step: int = 1
    start: int | None = None
    end: int | None = None
    minute: int = 0
    times: tuple[str, ...] = ("09:00",)
    weekdays: tuple[int, ...] = ()
    working: bool = False
    days: tuple[str, ...] = ()
    months: tuple[int, ...] = ()
    exact: tuple[str, ...] = ()


def expression_of(shape: Shape) -> str:
    """The expression of a shape.

    Raises:
        Invalid: `schedule.times` (several times must share their minute), `schedule.exact` or `schedule.builder`.
    """
    match shape.every:
        case "once":
            return parse(", ".join(shape.exact)).text
        case "minutes":
            minutes = "*" if shape.step == 1 else f"*/{shape.step}"
            return parse(f"{minutes} {_hours(shape)} {_day(shape)} * {_weekdays(shape.weekdays)}").text
        case "hours":
            return parse(f"{shape.minute} {_hours(shape, shape.step)} {_day(shape)} * {_weekdays(shape.weekdays)}").text
        case "day" | "workday" | "dayoff":
            day = {"day": "*", "workday": "W", "dayoff": "H"}[shape.every]
            return parse(f"{_clock(shape)} {day} * *").text
        case "week":
            if not shape.weekdays:
                raise Invalid("schedule.builder", field="weekdays")
            return parse(f"{_clock(shape)} * * {_weekdays(shape.weekdays)}").text
        case "month" | "year":
            if not shape.days or (shape.every == "year" and not shape.months):
                raise Invalid("schedule.builder", field="days")
            months = ",".join(str(n) for n in sorted(set(shape.months))) or "*"
            return parse(f"{_clock(shape)} {','.join(shape.days)} {months} *").text
        case _:
            raise Invalid("schedule.builder", field="every")


def shape_of(expression: str) -> Shape:
    """The shape of an expression; `custom` where the builder has no fields for it. Raises `Invalid`."""
    found = parse(expression)
    if found.once:
        return Shape(every="once", exact=tuple(f"{at:%Y-%m-%d %H:%M}" for at in found.exact))
    shape = _read(found.text.split(" "))
    # whatever does not come back the same was not understood
    try:
        same = shape is not None and _same(expression_of(shape), found.text)
    except Invalid:
        same = False
    return shape if shape is not None and same else Shape(every="custom")


def _read(fields: list[str]) -> Shape | None:
    minute, hour, day, month, week = fields
    weekdays = numbers(week, 1, 7) if week != "*" else ()
    if weekdays is None:
        return None
    if minute == "*" or minute.startswith("*/"):
        if month != "*" or day not in ("*", "W"):
            return None
        hours = _window(hour)
        step = 1 if minute == "*" else int(minute[2:])
        if hours is None or step not in STEPS:
            return None
        return Shape(every="minutes", step=step, start=hours[0], end=hours[1], weekdays=weekdays, working=day == "W")
    if minute.isdigit() and (hour == "*" or "/" in hour or re.fullmatch(r"\d+-\d+", hour)):
        return _hourly(int(minute), hour, day, month, weekdays)
    return _daily(minute, hour, day, month, weekdays)


def _hourly(minute: int, hour: str, day: str, month: str, weekdays: tuple[int, ...]) -> Shape | None:
    whole, _, step = hour.partition("/")
    window = _window(whole)
    if month != "*" or day not in ("*", "W") or window is None or (step and int(step) not in HOUR_STEPS):
        return None
    return Shape(
        every="hours",
        step=int(step or 1),
        start=window[0],
        end=window[1],
        minute=minute,
        weekdays=weekdays,
        working=day == "W",
    )


def _daily(minute: str, hour: str, day: str, month: str, weekdays: tuple[int, ...]) -> Shape | None:
    hours = numbers(hour, 0, 23)
    months = numbers(month, 1, 12) if month != "*" else ()
    if not minute.isdigit() or not hours or months is None:
        return None
    times = tuple(f"{h:02}:{int(minute):02}" for h in hours)
    if weekdays:
        return Shape(every="week", times=times, weekdays=weekdays) if day == "*" and not months else None
    if day in ("*", "W", "H"):
        every = {"*": "day", "W": "workday", "H": "dayoff"}[day]
        return Shape(every=every, times=times) if not months else None
    days = tuple("LW" if item == "W-1" else item for item in _days(day))
    if any(item not in DAYS_OF_MONTH for item in days):
        return None
    if len(months) == 1:
        return Shape(every="year", times=times, days=days, months=months)
    return Shape(every="month", times=times, days=days, months=months)


def numbers(text: str, least: int, most: int) -> tuple[int, ...] | None:
    """The numbers of a cron field made of numbers and ranges; 7 and 0 are both Sunday. None for anything else."""
    out: list[int] = []
    for item in text.split(","):
        low, dash, high = item.partition("-")
        names = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
        if most == 7:
            low, high = (str(names.index(x)) if x in names else x for x in (low, high))
        if not low.isdigit() or (dash and not high.isdigit()):
            return None
        out += range(int(low), int(high if dash else low) + 1)
    if most == 7:
        out = [n or 7 for n in out]
    made = tuple(sorted(set(out)))
    return made if made and all(least <= n <= most for n in made) else None


def _days(text: str) -> list[str]:
    out: list[str] = []
    for item in text.split(","):
        low, dash, high = item.partition("-")
        if dash and low.isdigit() and high.isdigit():
            out += [str(n) for n in range(int(low), min(int(high), 31) + 1)]
        else:
            out.append(item)
    return out


def _window(text: str) -> tuple[int | None, int | None] | None:
    if text == "*":
        return (None, None)
    found = re.fullmatch(r"(\d+)-(\d+)", text)
    return (int(found[1]), int(found[2])) if found and int(found[2]) < 24 else None


def _hours(shape: Shape, step: int = 1) -> str:
    window = "*" if shape.start is None or shape.end is None else f"{shape.start}-{shape.end}"
    return window if step == 1 else f"{window}/{step}"


def _day(shape: Shape) -> str:
    return "W" if shape.working else "*"


def _weekdays(days: tuple[int, ...]) -> str:
    found = sorted(set(days))
    if not found:
        return "*"
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return f"{found[0]}-{found[-1]}"
    return ",".join(str(n) for n in found)


def _clock(shape: Shape) -> str:
    found = [_TIME.fullmatch(text.strip()) for text in shape.times]
    times = [(int(m[1]), int(m[2])) for m in found if m]
    if not times or len(times) != len(shape.times):
        raise Invalid("schedule.time", field="times")
    minutes = {minute for _, minute in times}
    if len(minutes) > 1:
        raise Invalid("schedule.times", field="times")
    return f"{minutes.pop()} {','.join(str(h) for h in sorted({hour for hour, _ in times}))}"


def _same(one: str, two: str) -> bool:
    return _fields(one) == _fields(two)


def _fields(text: str) -> list[object]:
    minute, hour, day, month, week = text.split(" ")
    return [
        minute,
        numbers(hour, 0, 23) or hour,
        sorted("LW" if item == "W-1" else item for item in _days(day)),
        numbers(month, 1, 12) or month,
        numbers(week, 1, 7) or week,
    ]
