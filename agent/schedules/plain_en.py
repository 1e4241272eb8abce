"""How people say when, in English."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from agent.schedules.plain_found import Found, Text, soon, upcoming

_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAME = r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?"
_MONTH_NAME = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_AND = r"(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*)"
_TO = r"\s*(?:-|to|through|until|till|and)\s*"
_TIME = re.compile(r"(?:\bat\s+)?\b(\d{1,2})(?::(\d{2}))?\s*(am|pm)\b|(?:\bat\s+)?\b(\d{1,2}):(\d{2})\b")
_AT = re.compile(rf"\bat\s+(\d{{1,2}}(?:{_AND}\d{{1,2}})*)(?:\s*o'?clock)?\b(?!\s*(?::|am|pm|minutes?))")
_CLOCK = r"(\d{1,2})(?::00)?\s*(am|pm)?"
_WINDOW = re.compile(rf"\b(?:between|from)\s+{_CLOCK}{_TO}{_CLOCK}\b|\b{_CLOCK}\s*-\s*{_CLOCK}\b")
_MINUTES = re.compile(r"\b(?:every|each)\s+(?:(\d+)\s+)?min(?:ute)?s?\b")
_HALF_HOUR = re.compile(r"\b(?:every|each)\s+half(?:\s+an)?\s+hour\b")
_HOURS = re.compile(r"\b(?:every|each)\s+(?:(\d+)\s+)?hours?\b|\bhourly\b")
_PAST = re.compile(r"\bat\s+(?:minute\s+(\d{1,2})|(\d{1,2})\s+minutes?\s+past(?:\s+(?:the|every)\s+hour)?)\b")
_DAILY = re.compile(r"\b(?:every|each)\s+(?:single\s+)?(?:day|morning|afternoon|evening|night)\b|\bdaily\b|\bnightly\b")
_ON = r"\b(?:(?:every|each|all|on)\s+)*(?:the\s+)?"
_WORK = re.compile(_ON + r"(?:work(?:ing)?\s*days?|business\s+days?)\b")
_OFF = re.compile(_ON + r"(?:(?:public\s+)?holidays?|days?\s+off|non-?working\s+days?)\b")
_WEEKDAY = re.compile(_ON + r"week\s*days?\b")
_WEEKEND = re.compile(_ON + r"weekends?\b")
_RANGE = re.compile(rf"{_ON}({_NAME})s?\s*(?:-|to|through|thru)\s*({_NAME})s?\b")
_NAMED = re.compile(rf"\b((?:every|each|on|next|this)\s+)?({_NAME}s?(?:{_AND}(?:every\s+|on\s+)?{_NAME}s?)*)\b")
_NTH = r"(\d{1,2})(?:st|nd|rd|th)"
_OF = r"(?:\s+(?:of|in)\s+(?:(?:the|every|each)\s+)?month)?"
_NTH_WORK = re.compile(rf"{_ON}(?:(last|{_NTH}(?:\s+to\s+last)?)\s+)(?:work(?:ing)?\s*day|business\s+day){_OF}\b")
_NTH_WEEK = re.compile(rf"{_ON}(?:last|{_NTH})\s+({_NAME}){_OF}\b")
_LAST_DAY = re.compile(rf"{_ON}last\s+day{_OF}\b")
_FIRST_DAY = re.compile(rf"{_ON}1st\s+day{_OF}\b")
_DAYS = re.compile(rf"{_ON}(?:day\s+)?({_NTH}(?:{_AND}(?:the\s+)?{_NTH})*){_OF}")
_MONTHLY = re.compile(r"\b(?:(?:of|in)\s+)?(?:every|each)\s+month\b|\bmonthly\b|\bof the month\b")
_QUARTERLY = re.compile(r"\b(?:(?:of|in)\s+)?(?:every|each|the)\s+quarter\b|\bquarterly\b")
_YEARLY = re.compile(r"\b(?:every|each)\s+year\b|\byearly\b|\bannually\b")
_DATE = re.compile(
    rf"\b(?:on\s+)?(?:(every|each)\s+)?(?:{_MONTH_NAME}\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?|"
    rf"(?:the\s+)?(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH_NAME})(?:,?\s+(\d{{4}}))?\b"
)
_ISO = re.compile(r"\b(?:on\s+)?(\d{4})-(\d{1,2})-(\d{1,2})\b")
_NEAR = re.compile(
    r"\b(?:the\s+)?day after tomorrow\b|\btomorrow(?:\s+(?:morning|afternoon|evening))?\b|\btoday\b|\btonight\b"
)
_SOON = re.compile(r"\bin\s+(?:(\d+|an?|half an)\s+)(minute|min|hour|day)s?\b")
_FILLER = re.compile(r"\b(?:at|on|and|the|of|run|once|please|o'clock|sharp|in|every|each|from)\b|[,.;&]")


def read_english(plain: str, now: datetime) -> tuple[Found, str]:
    """What was found, and what is left over."""
    text, found = Text(_normal(plain)), Found()
    if again := text.take(_SOON):
        amount = int(again[1]) if again[1].isdigit() else 30 if again[1].startswith("half") else 1
        unit = "minute" if again[2].startswith("min") or again[1].startswith("half") else again[2]
        soon(found, now, amount, unit)
    _repetition(text, found)
    _dates(text, found, now)
    _days(text, found)
    _named(text, found, now)
    _times(text, found)
    return found, " ".join(_FILLER.sub(" ", text.left).split())


def _normal(plain: str) -> str:
    text = plain.replace("a.m.", "am").replace("p.m.", "pm").replace("’", "'")
    for n, word in enumerate(_ORDINALS, 1):
        text = re.sub(rf"\b{word}\b", f"{n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(n, 'th') }", text)
    for n, word in enumerate(_NUMBERS):
        text = re.sub(rf"\b{word}\b", str(n), text)
    return text.replace("noon", "12:00").replace("midnight", "0:00")


def _repetition(text: Text, found: Found) -> None:
    if text.take(_HALF_HOUR):
        found.minutes = 30
    if again := text.take(_MINUTES):
        found.minutes = int(again[1] or 1)
    if again := text.take(_HOURS):
        found.hours = int(again[1] or 1)
        if past := text.take(_PAST):
            found.minute = int(past[1] or past[2])
    if (found.minutes or found.hours) and (window := text.take(_WINDOW)):
        low, first, high, second = window.groups()[:4] if window[1] else window.groups()[4:]
        begin, end = _hour(int(low), first or ""), _hour(int(high), second or "")
        found.window = (begin, max(begin, end - 1) if found.minutes else end)
    if text.take(_DAILY):
        found.repeats = True


def _days(text: Text, found: Found) -> None:
    quarter, month = text.take(_QUARTERLY), text.take(_MONTHLY)
    late = _of_month(text, found)
    for pattern, working in ((_OFF, "H"), (_WORK, "W")):
        if text.take(pattern):
            found.working = working
    for pattern, days in ((_WEEKDAY, {1, 2, 3, 4, 5}), (_WEEKEND, {6, 7})):
        if text.take(pattern):
            found.weekdays |= days
    if quarter or month or not (found.dates or found.weekdays or found.week_items or found.working):
        for again in text.take_all(_DAYS):
            found.days += [str(int(n)) for n in re.findall(r"(\d{1,2})(?:st|nd|rd|th)", again[1])]
    if month or quarter:
        found.repeats = True
    if quarter:
        found.months = {3, 6, 9, 12} if late else {1, 4, 7, 10}


def _of_month(text: Text, found: Found) -> bool:
    """Places within a month; True if one is counted from its end."""
    late = False
    for again in text.take_all(_NTH_WORK):
        backwards = again[1] == "last" or "last" in again[1]
        late = late or backwards
        found.days.append("LW" if again[1] == "last" else f"W{'-' if backwards else ''}{int(again[2])}")
    for again in text.take_all(_NTH_WEEK):
        late = late or not again[1]
        found.week_items.append(f"{_weekday(again[2])}{f'#{again[1]}' if again[1] else 'L'}")
    if text.take(_LAST_DAY):
        found.days.append("L")
        late = True
    if text.take(_FIRST_DAY):
        found.days.append("1")
    return late


def _named(text: Text, found: Found, now: datetime) -> None:
    for again in text.take_all(_RANGE):
        low, high = _weekday(again[1]), _weekday(again[2])
        found.weekdays |= set(range(low, high + 1)) if low <= high else {*range(low, 8), *range(1, high + 1)}
    for again in text.take_all(_NAMED):
        names = re.findall(_NAME, again[2])
        plural = bool(re.search(r"days\b", again[2]))
        single = not plural and (again[1] or "").strip() in ("next", "this", "on")
        if single and len(names) == 1:
            ahead = (_weekday(names[0]) - now.isoweekday()) % 7 or 7
            found.dates.append(now.date() + timedelta(days=ahead))
        else:
            found.weekdays |= {_weekday(name) for name in names}


def _dates(text: Text, found: Found, now: datetime) -> None:
    for again in text.take_all(_ISO):
        found.dates.append(upcoming(now, int(again[2]), int(again[3]), int(again[1])))
    yearly = text.take(_YEARLY)
    for again in text.take_all(_DATE):
        month = _MONTHS.index((again[2] or again[5])[:3]) + 1
        day, year = int(again[3] or again[4]), int(again[6]) if again[6] else None
        if yearly or again[1]:
            found.months, found.repeats = found.months | {month}, True
            found.days.append(str(day))
        else:
            found.dates.append(upcoming(now, month, day, year))
    if near := text.take(_NEAR):
        ahead = 2 if "after" in near[0] else 1 if near[0].startswith("tomorrow") else 0
        found.dates.append(now.date() + timedelta(days=ahead))


def _times(text: Text, found: Found) -> None:
    for again in text.take_all(_TIME):
        if again[1]:
            found.times.append((_hour(int(again[1]), again[3]), int(again[2] or 0)))
        else:
            found.times.append((int(again[4]), int(again[5])))
    for again in text.take_all(_AT):
        found.times += [(int(hour), 0) for hour in re.findall(r"\d{1,2}", again[1])]


def _hour(hour: int, half: str) -> int:
    if half == "pm" and hour < 12:
        return hour + 12
    return 0 if half == "am" and hour == 12 else hour


def _weekday(name: str) -> int:
    return _WEEKDAYS.index(name[:3]) + 1
