"""Monthly limits of what models may cost, for each bot and each person."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone

from storage.errors import Invalid

SHANGHAI = timezone(timedelta(hours=8))
MOST = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """CNY a month, by name of a bot and id of a person; the empty name is for all that are not named."""

    bots: Mapping[str, float] = field(default_factory=dict)
    people: Mapping[str, float] = field(default_factory=dict)

    def bot(self, name: str) -> float | None:
        """The bot's limit; None: none."""
        return self.bots.get(name, self.bots.get("")) if name else None

    def person(self, person: str) -> float | None:
        """The person's limit; None: none."""
        return self.people.get(person, self.people.get("")) if person else None

    def packed(self) -> dict[str, dict[str, float]] | None:
        """For the setting; None if there is no limit at all."""
        if not self.bots and not self.people:
            return None
        return {"bots": dict(self.bots), "people": dict(self.people)}


def read_limits(value: object) -> Limits:
    """From the setting's value.

    Raises:
        Invalid: `model.limit`, not a number of 0 or more.
    """
    if value is None:
        return Limits()
    if not isinstance(value, Mapping):
        raise Invalid("model.limit", field="limits")
    return Limits(bots=_numbers(value.get("bots")), people=_numbers(value.get("people")))


def _numbers(value: object) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > MOST:
        raise Invalid("model.limit", field="limits")
    out: dict[str, float] = {}
    for name, number in value.items():
        good = isinstance(number, int | float) and not isinstance(number, bool)
        if not good or not math.isfinite(number) or number < 0 or len(str(name)) > 200:
            raise Invalid("model.limit", field="limits")
        out[str(name)] = float(number)
    return out


def month_start(now_ms: int) -> int:
    """Beginning of the month in China's time, in ms."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(SHANGHAI)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return int(first.timestamp() * 1000)
