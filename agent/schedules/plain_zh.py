"""How people say when, in Chinese."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

from agent.schedules.plain_found import Found, Text, soon, upcoming

_DIGITS = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_NUMERAL = re.compile(r"[零〇一二两三四五六七八九]?十[一二三四五六七八九]?|[零〇一二两三四五六七八九]")
_PART = r"(?P<part>凌晨|清晨|清早|早晨|早上|上午|中午|正午|午间|下午|午后|傍晚|晚上|晚间|夜里|夜间|深夜|早|晚|夜)"
_CLOCK = r"(?P<hour>\d{1,2})(?:(?::)(?P<colon>\d{2})|[点时](?:钟|整)?(?P<said>半|1刻|3刻|\d{1,2}(?!\d))?分?)"
_TIME = re.compile(rf"{_PART}?的?\s*{_CLOCK}")
_NOON = re.compile(r"(正午|中午)(?!\s*\d)")
_MIDNIGHT = re.compile(r"午夜|半夜|零点|0点整?(?!\d)")
_SPAN = r"(?:到|至|-|~|—)"
_HALF = r"(凌晨|早上|上午|中午|下午|晚上)?\s*(\d{1,2})(?:[点时](?:钟|整)?|:00)?"
_WINDOW = re.compile(rf"从?\s*{_HALF}\s*{_SPAN}\s*(?:当天)?{_HALF}(?:之?间|期间|以内|内)?")
_MINUTES = re.compile(r"(?:每隔|每|隔)(\d+)?个?(?:分钟|分)")
_HALF_HOUR = re.compile(r"(?:每隔|每|隔)半个?(?:小时|钟头)")
_HOURS = re.compile(r"(?:每隔|每|隔)(\d+)?个?(?:小时|钟头)(?:的?(?:第)?(\d{1,2})分钟?)?|(每个?)?整点")
_DAILY = re.compile(r"每一?1?天|每日|天天|每(?=早|晚|上午|下午|中午|凌晨|午夜|半夜)")
_OFF = re.compile(r"(?:每个?|逢|所有)?(?:法定)?(?:节假日|假日|休息日|放假日|非工作日)")
_WORK = re.compile(r"(?:每个?|逢|所有)?(?:法定)?(?:工作日|上班日)")
_WEEKEND = re.compile(r"(?:每个?|逢)?(?:周末|双休日?)")
_W = r"(?:周|星期|礼拜)"
_ONE_DAY = r"(?:[1-7](?!\d?[:点时])|[日天])"
_WEEK = re.compile(rf"(每个?|逢)?{_W}({_ONE_DAY}(?:(?:、|,|和|及|与|{_SPAN})?{_W}?{_ONE_DAY})*)")
_EVERY_WEEK = re.compile(rf"每个?{_W}(?=[1-7日天])|每个?{_W}")
_NEXT = re.compile(rf"(下个?|本|这个?){_W}([1-7日天])")
_NTH_WORK = re.compile(r"(倒数)?(?:第|头)(\d{1,2})个?(?:工作日|上班日)|(最后1?个?|首个)(?:工作日|上班日)")
_NTH_WEEK = re.compile(rf"(?:第(\d)|(最后1?))个?{_W}([1-7日天])")
_LAST = re.compile(r"最后1?[天日]|月底|月末|季末|年末|年底")
_FIRST = re.compile(r"(?:第1|首)[天日]|月初|季初|年初")
_DAYS = re.compile(r"(\d{1,2})[号日](?:\s*(到|至|-|~)\s*(\d{1,2})[号日])?")
_BARE_DAYS = re.compile(r"((?:\d{1,2}[、,和及])+)(?=\d{1,2}[号日])")
_MONTHLY = re.compile(r"(?:每个?|逢)月的?")
_QUARTERLY = re.compile(r"(?:每个?|逢)(?:季度|季)的?")
_YEARLY = re.compile(r"(?:每|逢)年的?")
_MONTH = re.compile(r"(?:(\d{4})年)?(\d{1,2})月份?(?:(\d{1,2})[号日]?)?")
_DATE = re.compile(r"(?:(\d{4})年)?(\d{1,2})月份?(\d{1,2})[号日]?")
_ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})")
_NEAR = re.compile(r"大后天|后天|明天|今天|今日|明日|今(?=晚|早)|明(?=晚|早)")
_AHEAD = {"大后天": 3, "后天": 2, "明天": 1, "明日": 1, "明": 1, "今天": 0, "今日": 0, "今": 0}
_SOON = re.compile(r"(?:再?过)?(\d+)个?(分钟|小时|钟头|天)(?:以后|之后|后)")
_FILLER = re.compile(r"执行|运行|1次|准时|时候|定时|左右|[的在于都、,，。和及与并且之 钟]+|一次|请")


def numerals(text: str) -> str:
    """`十一点半` as `11点半`."""

    def value(found: re.Match[str]) -> str:
        word = found[0]
        apart = " " if text[found.end() : found.end() + 1].isdigit() else ""  # 周一9点 is not 周19点
        if "十" not in word:
            return f"{_DIGITS[word]}{apart}"
        tens, _, ones = word.partition("十")
        return f"{(_DIGITS[tens] if tens else 1) * 10 + (_DIGITS[ones] if ones else 0)}{apart}"

    return _NUMERAL.sub(value, text)


def read_chinese(plain: str, now: datetime) -> tuple[Found, str]:
    """What was found, and what is left over."""
    text, found = Text(numerals(plain.replace("半个小时", "30分钟").replace("半小时", "30分钟"))), Found()
    text.left = re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text.left)
    if again := text.take(_SOON):
        soon(found, now, int(again[1]), {"分钟": "minute", "天": "day"}.get(again[2], "hour"))
    _dates(text, found, now)
    _repetition(text, found)
    _days(text, found)
    _times(text, found)
    return found, _FILLER.sub("", text.left).strip()


def _repetition(text: Text, found: Found) -> None:
    if text.take(_HALF_HOUR):
        found.minutes = 30
    if again := text.take(_MINUTES):
        found.minutes = int(again[1] or 1)
    if again := text.take(_HOURS):
        found.hours, found.minute = int(again[1] or 1), int(again[2] or 0)
    if (found.minutes or found.hours) and (window := text.take(_WINDOW)):
        low, high = _hour(int(window[2]), window[1] or ""), _hour(int(window[4]), window[3] or window[1] or "")
        # every half hour from 9 to 18 ends at 18:00, not at 18:30
        found.window = (low, max(low, high - 1) if found.minutes else high)
    if text.take(_DAILY):
        found.repeats = True


def _days(text: Text, found: Found) -> None:
    quarter, month, year = text.take(_QUARTERLY), text.take(_MONTHLY), text.take(_YEARLY)
    late = _of_month(text, found)
    for pattern, working in ((_OFF, "H"), (_WORK, "W")):
        if text.take(pattern):
            found.working = working
    if text.take(_WEEKEND):
        found.weekdays |= {6, 7}
    for again in text.take_all(_WEEK):
        found.weekdays |= _week(again[2])
    text.take(_EVERY_WEEK)
    if month or quarter or year:
        _numbered(text, found)
    if quarter:
        found.months = {3, 6, 9, 12} if late else {1, 4, 7, 10}
    if year and (date_said := text.take(_MONTH)):
        found.months = {int(date_said[2])}
        if date_said[3]:
            found.days.append(str(int(date_said[3])))


def _of_month(text: Text, found: Found) -> bool:
    """Places within a month; True if one is counted from its end."""
    late = False
    for again in text.take_all(_NTH_WORK):
        last = (again[3] or "").startswith("最后")
        late = late or last or bool(again[1])
        if again[3]:
            found.days.append("LW" if last else "W1")
        else:
            found.days.append(f"W{'-' if again[1] else ''}{int(again[2])}")
    for again in text.take_all(_NTH_WEEK):
        late = late or bool(again[2])
        found.week_items.append(f"{_weekday(again[3])}{'L' if again[2] else f'#{again[1]}'}")
    if text.take(_LAST):
        found.days.append("L")
        late = True
    if text.take(_FIRST):
        found.days.append("1")
    return late


def _numbered(text: Text, found: Found) -> None:
    """`1号`, `1、15号`, `1号到5号`."""
    if bare := text.take(_BARE_DAYS):
        found.days += re.findall(r"\d+", bare[1])
    for again in text.take_all(_DAYS):
        found.days += [str(n) for n in range(int(again[1]), int(again[3] or again[1]) + 1)]
    found.repeats = True


def _dates(text: Text, found: Found, now: datetime) -> None:
    for again in text.take_all(_ISO):
        found.dates.append(upcoming(now, int(again[2]), int(again[3]), int(again[1])))
    if not _YEARLY.search(text.left):
        for again in text.take_all(_DATE):
            found.dates.append(upcoming(now, int(again[2]), int(again[3]), int(again[1]) if again[1] else None))
    if near := text.take(_NEAR):
        found.dates.append(now.date() + timedelta(days=_AHEAD[near[0]]))
    if week := text.take(_NEXT):
        found.dates.append(_in_week(now.date(), _weekday(week[2]), 1 if week[1].startswith("下") else 0))


def _in_week(today: date, weekday: int, weeks: int) -> date:
    return today - timedelta(days=today.isoweekday()) + timedelta(days=weekday + 7 * weeks)


def _times(text: Text, found: Found) -> None:
    for again in text.take_all(_TIME):
        said = again["colon"] or {"半": "30", "1刻": "15", "3刻": "45", None: "0"}.get(again["said"], again["said"])
        found.times.append((_hour(int(again["hour"]), again["part"] or ""), int(str(said))))
    if text.take(_NOON):
        found.times.append((12, 0))
    if text.take(_MIDNIGHT):
        found.times.append((0, 0))


def _hour(hour: int, part: str) -> int:
    if part in ("下午", "午后", "傍晚", "晚上", "晚间", "晚", "夜间", "深夜") and 1 <= hour < 12:
        return hour + 12
    if part in ("夜里", "夜") and 6 <= hour < 12:
        return hour + 12
    if part in ("中午", "正午", "午间") and 1 <= hour <= 3:
        return hour + 12
    if hour == 24 or (hour == 12 and part in ("凌晨", "晚上", "夜里", "深夜", "晚", "夜", "夜间")):
        return 0
    return hour


def _weekday(text: str) -> int:
    return 7 if text in "日天" else int(text)


def _week(text: str) -> set[int]:
    """`1、3、5`, `1到5`, `1周3`."""
    days: set[int] = set()
    before, through = 0, False
    for ch in text:
        if ch in "到至-~—":
            through = True
        elif ch.isdigit() or ch in "日天":
            day = _weekday(ch)
            days |= set(range(before, day + 1)) if through and before else {day}
            before, through = day, False
    return days
