"""Dates in both languages: those that a text names, and the span that a question asks about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

_MONTH_TEXT = "january february march april may june july august september october november december"
_MONTHS = _MONTH_TEXT.split()
_MONTH_OF = {name: n for n, name in enumerate(_MONTHS, 1)} | {name[:3]: n for n, name in enumerate(_MONTHS, 1)}
_MONTH_OF["sept"] = 9
_MONTH = "|".join(sorted(_MONTH_OF, key=len, reverse=True))
_WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_DIGITS = {c: n for n, c in enumerate("〇一二三四五六七八九")} | {"零": 0, "两": 2, "日": 7, "天": 7}
_NUM = r"(?:\d{1,2}|[一二三四五六七八九]?十[一二三四五六七八九]?|[一二三四五六七八九])"
_YEAR = r"(?:19|20)\d\d"

_ISO = re.compile(rf"(?<!\d)({_YEAR})[-/.](\d{{1,2}})(?:[-/.](\d{{1,2}}))?(?!\d)")
_ZH = re.compile(rf"(?:({_YEAR}|[〇零一二三四五六七八九]{{4}})年)?(?:({_NUM})月(?:份)?)(?:({_NUM})(?:日|号))?")
_ZH_YEAR = re.compile(rf"({_YEAR}|[〇零一二三四五六七八九]{{4}})年(?!\s*{_NUM}月)")
_EN_MD = re.compile(rf"\b({_MONTH})\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?(?!\d|:)(?:,?\s*({_YEAR}))?\b", re.IGNORECASE)
_EN_DM = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?({_MONTH})\b\.?(?:,?\s*({_YEAR}))?", re.IGNORECASE)
_EN_MY = re.compile(rf"\b({_MONTH})\.?,?\s+(?:of\s+)?({_YEAR})\b", re.IGNORECASE)
_EN_M = re.compile(rf"\b(?:in|last|next|this|since|until|by|during|of)\s+({_MONTH})\b", re.IGNORECASE)
_EN_Y = re.compile(rf"\b(?:in|since|during|of|year)\s+({_YEAR})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Named:
    """A date as far as it was said: any part may be missing (0)."""

    year: int = 0
    month: int = 0
    day: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """Days from `first` to `last`, both included. `kind`: day, week, month, year."""

    first: date
    last: date
    kind: str


def number(text: str) -> int:
    """A number up to 99 in Arabic or Chinese digits; 0 if it is none."""
    if text.isdigit():
        return int(text)
    if "十" in text:
        tens, _, ones = text.partition("十")
        return _DIGITS.get(tens, 1) * 10 + _DIGITS.get(ones, 0)
    return _DIGITS.get(text, 0)


def _year(text: str | None) -> int:
    if not text:
        return 0
    return int(text) if text.isdigit() else int("".join(str(_DIGITS[c]) for c in text))


def _named(year: int, month: int, day: int) -> Named | None:
    return Named(year, month, day) if 0 <= month <= 12 and 0 <= day <= 31 and (year or month) else None


def named_dates(text: str) -> list[Named]:
    """All calendar dates that the text names, each once, in no order that means anything."""
    found: list[Named | None] = []
    found += [_named(int(m[1]), int(m[2]), int(m[3] or 0)) for m in _ISO.finditer(text)]
    if "月" in text or "年" in text:
        found += [_named(_year(m[1]), number(m[2]), number(m[3] or "")) for m in _ZH.finditer(text)]
        found += [Named(_year(m[1])) for m in _ZH_YEAR.finditer(text)]
    if any(c.isascii() and c.isalpha() for c in text):
        taken: list[tuple[int, int]] = []
        for pattern, order in ((_EN_MD, "mdy"), (_EN_DM, "dmy"), (_EN_MY, "my"), (_EN_M, "m"), (_EN_Y, "y")):
            for m in pattern.finditer(text):
                if any(a < m.end() and m.start() < b for a, b in taken):
                    continue
                taken.append(m.span())
                part = dict(zip(order, m.groups(), strict=True))
                month = _MONTH_OF.get((part.get("m") or "").lower(), 0)
                found.append(_named(_year(part.get("y")), month, int(part.get("d") or 0)))
    return list(dict.fromkeys(one for one in found if one is not None))


def date_terms(day: date) -> list[str]:
    """Words under which a day is found; the same ones that `named_terms` makes of a date in a text."""
    return [f"@y{day.year}", f"@m{day.month}", f"@d{day.day}"]


def named_terms(text: str) -> list[str]:
    """Words for the dates that a text names, whatever the language: "May 8th", "5月8号", "2023-05-08"."""
    out: list[str] = []
    for one in named_dates(text):
        out += [f"@{mark}{value}" for mark, value in (("y", one.year), ("m", one.month), ("d", one.day)) if value]
    return list(dict.fromkeys(out))


def _month(year: int, month: int) -> Span:
    while month < 1:
        year, month = year - 1, month + 12
    while month > 12:
        year, month = year + 1, month - 12
    first = date(year, month, 1)
    after = date(year + month // 12, month % 12 + 1, 1)
    return Span(first, after - timedelta(days=1), "month")


def _week(day: date, shift: int) -> Span:
    monday = day - timedelta(days=day.weekday()) + timedelta(weeks=shift)
    return Span(monday, monday + timedelta(days=6), "week")


def _day(day: date) -> Span:
    return Span(day, day, "day")


_RELATIVE_DAYS = {
    "大前天": -3, "前天": -2, "昨天": -1, "昨日": -1, "昨晚": -1, "今天": 0, "今日": 0, "今晚": 0, "今早": 0,
    "明天": 1, "明日": 1, "后天": 2, "大后天": 3,
    "day before yesterday": -2, "yesterday": -1, "last night": -1, "today": 0, "tonight": 0, "this morning": 0,
    "day after tomorrow": 2, "tomorrow": 1,
}  # fmt: skip
_REL_DAY = re.compile("|".join(sorted(_RELATIVE_DAYS, key=len, reverse=True)), re.IGNORECASE)
_SHIFT = {
    "上上个": -2,
    "上上": -2,
    "上个": -1,
    "上": -1,
    "这个": 0,
    "本": 0,
    "这": 0,
    "下个": 1,
    "下": 1,
    "下下": 2,
    "下下个": 2,
}
_ZH_UNIT = re.compile(
    r"(上上个|上上|上个|上|这个|这|本|下下个|下下|下个|下)(?:星期|周|礼拜)([一二三四五六日天])?|(上上个|上个|这个|本|下个)月"
)
_ZH_YEARS = re.compile(
    r"(前年|去年|今年|明年)(?:的)?(?:(\d{1,2}|[一二三四五六七八九]?十[一二三四五六七八九]?|[一二三四五六七八九])月)?"
)
_ZH_AGO = re.compile(r"(\d{1,3}|[一二两三四五六七八九十]{1,3})(?:个)?(天|日|周|星期|礼拜|月|年)(?:以)?前")
_EN_UNIT = re.compile(rf"\b(last|this|next|past)\s+(week|month|year|{'|'.join(_WEEKDAYS)}|{_MONTH})\b", re.IGNORECASE)
_EN_AGO = re.compile(
    r"\b(\d{1,3}|a|an|one|two|three|four|five|six|seven|eight|nine|ten)\s+(day|week|month|year)s?\s+ago\b",
    re.IGNORECASE,
)
_COUNT_TEXT = "zero one two three four five six seven eight nine ten"
_WORDS = {w: n for n, w in enumerate(_COUNT_TEXT.split())} | {"a": 1, "an": 1}


def _ago(count: int, unit: str, now: date) -> Span:
    if unit in ("天", "日", "day"):
        return _day(now - timedelta(days=count))
    if unit in ("周", "星期", "礼拜", "week"):
        return _week(now, -count)
    if unit in ("月", "month"):
        return _month(now.year, now.month - count)
    return Span(date(max(1, now.year - count), 1, 1), date(max(1, now.year - count), 12, 31), "year")


def _relative_zh(text: str, now: date) -> list[Span]:
    out: list[Span] = []
    for m in _ZH_UNIT.finditer(text):
        if m[3]:
            out.append(_month(now.year, now.month + _SHIFT[m[3]]))
        elif m[2]:
            monday = _week(now, _SHIFT[m[1]]).first
            out.append(_day(monday + timedelta(days=_DIGITS[m[2]] - 1)))
        else:
            out.append(_week(now, _SHIFT[m[1]]))
    for m in _ZH_YEARS.finditer(text):
        year = now.year + {"前年": -2, "去年": -1, "今年": 0, "明年": 1}[m[1]]
        month = number(m[2] or "")
        out.append(_month(year, month) if 1 <= month <= 12 else Span(date(year, 1, 1), date(year, 12, 31), "year"))
    out += [_ago(number(m[1]), m[2], now) for m in _ZH_AGO.finditer(text) if number(m[1])]
    return out


def _relative_en(text: str, now: date) -> list[Span]:
    out: list[Span] = []
    for m in _EN_UNIT.finditer(text):
        shift, unit = {"last": -1, "past": -1, "this": 0, "next": 1}[m[1].lower()], m[2].lower()
        if unit == "week":
            out.append(_week(now, shift))
        elif unit == "month":
            out.append(_month(now.year, now.month + shift))
        elif unit == "year":
            out.append(Span(date(now.year + shift, 1, 1), date(now.year + shift, 12, 31), "year"))
        elif unit in _WEEKDAYS:
            ahead = (_WEEKDAYS.index(unit) - now.weekday()) % 7
            out.append(_day(now + timedelta(days=ahead if shift >= 0 else ahead - 7)))
        else:  # "last May": the latest one that is over; "next May": the first to come
            month, year = _MONTH_OF[unit], now.year
            if shift < 0 and month >= now.month:
                year -= 1
            elif shift > 0 and month <= now.month:
                year += 1
            out.append(_month(year, month))
    for m in _EN_AGO.finditer(text):
        count = int(m[1]) if m[1].isdigit() else _WORDS[m[1].lower()]
        out.append(_ago(count, m[2].lower(), now))
    return out


def spans(text: str, now: date) -> list[Span]:
    """The spans of time that a question asks about, relative words taken from `now`.

    A date without a year means the latest such date that is not after `now`: questions look back.
    """
    out: list[Span] = []
    for one in named_dates(text):
        try:
            if one.month and one.day:
                year = one.year or (now.year if (one.month, one.day) <= (now.month, now.day) else now.year - 1)
                out.append(_day(date(year, one.month, one.day)))
            elif one.month:
                out.append(_month(one.year or (now.year if one.month <= now.month else now.year - 1), one.month))
            else:
                out.append(Span(date(one.year, 1, 1), date(one.year, 12, 31), "year"))
        except ValueError:  # 31 February
            continue
    out += [_day(now + timedelta(days=_RELATIVE_DAYS[m[0].lower()])) for m in _REL_DAY.finditer(text)]
    out += _relative_zh(text, now)
    out += _relative_en(text, now)
    return list(dict.fromkeys(out))
