"""When backups are made, how many are kept, where else they go, and to which key they are encrypted."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from security.backup_target import TargetSettings
from storage.errors import Invalid
from storage.principal import TENANT
from storage.tables.system import Setting

setting_t = Setting.__table__  # type: ignore[attr-defined]
STORE = "backup.plan"
OWN = "backup:own"
STORE_SECRET = "backup:s3"  # noqa: S105 - names a secret, holds none
TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
DAY, HOUR = 86_400_000, 3_600_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What an admin set.

    Attributes:
        at: time of day in the server's own zone.
        daily, weekly, monthly: how many days, weeks and months keep their newest backup.
        recipient: public half of the recovery key; empty: none was made, nothing can be backed up.
        key_at: when that was.
    """

    at: str = "03:30"
    daily: int = 7
    weekly: int = 4
    monthly: int = 6
    recipient: str = ""
    key_at: int = 0
    target: TargetSettings = field(default_factory=TargetSettings)

    def checked(self) -> Plan:
        """The same, if it can be kept.

        Raises:
            Invalid: `backup.time`, `backup.keep`; what the target's settings say.
        """
        if not TIME.fullmatch(self.at):
            raise Invalid("backup.time", "at")
        for name in ("daily", "weekly", "monthly"):
            if not (1 if name == "daily" else 0) <= getattr(self, name) <= 366:
                raise Invalid("backup.keep", name, most=366)
        self.target.checked()
        return self


def due(at: str, last: int, now: datetime) -> bool:
    """True if the time of day has come since `last`, also if the machine slept then."""
    return last < int(latest(at, now).timestamp() * 1000)


def latest(at: str, now: datetime) -> datetime:
    """The last time that it was `at` o'clock, in the server's zone."""
    found = TIME.fullmatch(at)
    hour, minute = (int(found[1]), int(found[2])) if found else (3, 30)
    local = now.astimezone()
    place = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return place if place <= local else place - timedelta(days=1)


def upcoming(at: str, now: datetime) -> int:
    """The next time, in ms."""
    return int((latest(at, now) + timedelta(days=1)).timestamp() * 1000)


def kept(times: Sequence[int], plan: Plan, now: int) -> set[int]:
    """Which of these times stay: everything of the last day, then the newest of each day, week and month."""
    stay = {at for at in times if at > now - DAY}
    for count, form in ((plan.daily, "%Y-%m-%d"), (plan.weekly, "%G-%V"), (plan.monthly, "%Y-%m")):
        seen: set[str] = set()
        for at in sorted(times, reverse=True):
            span = datetime.fromtimestamp(at / 1000, UTC).strftime(form)
            if span not in seen and len(seen) < count:
                seen.add(span)
                stay.add(at)
    return stay


def read_plan(c: Connection) -> Plan:
    """The plan; the usual one where none was set or what was set cannot be read."""
    query = select(setting_t.c.value).where(setting_t.c.tenant == TENANT, setting_t.c.key == STORE)
    try:
        raw = json.loads(c.execute(query).scalar() or "{}")
        target = TargetSettings(**raw.pop("target", {}))
        return Plan(**raw, target=target)
    except (ValueError, TypeError, AttributeError):
        return Plan()


def write_plan(c: Connection, plan: Plan, now: int) -> None:
    """Keep the plan."""
    c.execute(delete(setting_t).where(setting_t.c.tenant == TENANT, setting_t.c.key == STORE))
    text = json.dumps(asdict(plan), ensure_ascii=False)
    c.execute(insert(setting_t).values(tenant=TENANT, key=STORE, value=text, updated_at=now))
