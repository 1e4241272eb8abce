"""Spans and moments as people write them: `90`, `5m`, `2h`, `1d`; `2026-12-31`, `2026-12-31 18:00`."""

from __future__ import annotations

import re
from datetime import datetime, time

from agent.schedules.cron import zone_of
from storage.errors import Invalid

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(\d{1,7})\s*([smhd]?)", re.IGNORECASE)


def seconds_of(text: str, field: str) -> int:
    """Seconds of a span. Raises `Invalid` `schedule.span`."""
    found = _SPAN.fullmatch(text.strip())
    if not found:
        raise Invalid("schedule.span", field=field, name=field, value=text[:40])
    return int(found[1]) * UNITS[found[2].lower()]


def span_of(seconds: int) -> str:
    """The shortest form of a span: `90s` stays seconds, 7200 is `2h`."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % UNITS[unit] == 0:
            return f"{seconds // UNITS[unit]}{unit}"
    return f"{seconds}s" if seconds else "0"


def moment_of(text: str, zone: str, field: str) -> int | None:
    """A local date, up to the end of that day, or a local time, in ms; None for nothing.

    Raises:
        Invalid: `schedule.moment`.
    """
    plain = text.strip().replace("T", " ")
    if not plain:
        return None
    try:
        at = datetime.fromisoformat(plain)
    except ValueError as error:
        raise Invalid("schedule.moment", field=field, value=text[:40]) from error
    if len(plain) <= 10:
        at = datetime.combine(at.date(), time(23, 59, 59))
    return int((at if at.tzinfo else at.replace(tzinfo=zone_of(zone))).timestamp()) * 1000
