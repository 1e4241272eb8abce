"""An expression in plain words, such as `plain.py` reads them. Empty for what has no short words."""

from __future__ import annotations

from agent.schedules.shape import Shape, shape_of
from storage.errors import Invalid
from storage.words import Words

FIRST, LAST = (1, 4, 7, 10), (3, 6, 9, 12)


def said(words: Words, lang: str, expression: str) -> str:
    """`0 18 LW * *` as `每月最后一个工作日 18:00`."""
    try:
        shape = shape_of(expression)
    except Invalid:
        return ""
    if shape.every == "custom":
        return ""
    if shape.every == "once":
        return _list(words, lang, shape.exact) if len(shape.exact) == 1 else ""
    if shape.every in ("minutes", "hours"):
        return _repeated(words, lang, shape)
    at = _list(words, lang, shape.times)
    match shape.every:
        case "week":
            return words.say(lang, "when.week", days=_weekdays(words, lang, shape.weekdays), at=at)
        case "month":
            return _month(words, lang, shape, at)
        case "year":
            if len(shape.days) != 1:
                return ""
            month = words.say(lang, f"when.month.{shape.months[0]}")
            if shape.days[0].isdigit():
                return words.say(lang, "when.year", month=month, day=shape.days[0], at=at)
            if lang != "zh_CN":  # read back, "the last workday of March" would be a date
                return ""
            return words.say(lang, "when.year_place", month=month, day=_place(words, lang, shape.days[0]), at=at)
        case every:
            return words.say(lang, f"when.{every}", at=at)


def _month(words: Words, lang: str, shape: Shape, at: str) -> str:
    late = any(day in ("L", "LW") or day.startswith("W-") for day in shape.days)
    quarter = (shape.months == LAST and late) or (shape.months == FIRST and not late)
    if shape.months and not quarter:
        return ""
    if all(day.isdigit() for day in shape.days):
        days = words.say(lang, "when.and").join(
            words.say(lang, "when.nth", n=_ordinal(lang, day)) for day in shape.days
        )
    elif len(shape.days) == 1:
        days = _place(words, lang, shape.days[0])
    else:
        return ""
    return words.say(lang, "when.quarter" if quarter else "when.month", day=days, at=at)


def _place(words: Words, lang: str, day: str) -> str:
    if day.isdigit():
        return words.say(lang, "when.nth", n=_ordinal(lang, day))
    if day in ("L", "LW"):
        return words.say(lang, "when.last_day" if day == "L" else "when.last_workday")
    n = day.removeprefix("W")
    if n.startswith("-"):
        return words.say(lang, "when.workday_back", n=_ordinal(lang, n[1:]))
    return words.say(lang, "when.workday_nth", n=_ordinal(lang, n))


def _repeated(words: Words, lang: str, shape: Shape) -> str:
    kind = "minutes" if shape.every == "minutes" else "hours"
    text = words.say(lang, f"when.{kind}_1" if shape.step == 1 else f"when.{kind}", n=shape.step)
    if kind == "hours" and shape.minute:
        text = words.say(lang, "when.minute", text=text, minute=shape.minute)
    if shape.start is not None and shape.end is not None:
        last = shape.end + 1 if kind == "minutes" else shape.end
        text = words.say(lang, "when.window", text=text, start=shape.start, end=last)
    if shape.working:
        text = words.say(lang, "when.on_workdays", text=text)
    elif shape.weekdays:
        text = words.say(lang, "when.on_days", text=text, days=_weekdays(words, lang, shape.weekdays))
    return text


def _weekdays(words: Words, lang: str, days: tuple[int, ...]) -> str:
    if len(days) > 2 and days == tuple(range(days[0], days[-1] + 1)):
        first, last = (words.say(lang, f"when.weekday.{day}") for day in (days[0], days[-1]))
        return words.say(lang, "when.range", first=first, last=last)
    return _list(words, lang, tuple(words.say(lang, f"when.weekday.{day}") for day in days))


def _list(words: Words, lang: str, items: tuple[str, ...]) -> str:
    return words.say(lang, "when.and").join(items)


def _ordinal(lang: str, n: str) -> str:
    if lang == "zh_CN":
        return n
    end = "th" if n[-2:] in ("11", "12", "13") else {"1": "st", "2": "nd", "3": "rd"}.get(n[-1], "th")
    return f"{n}{end}"
