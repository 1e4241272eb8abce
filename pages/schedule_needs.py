"""What the overview tells of schedules: commands that wait to be allowed, and schedules that keep failing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from agent.schedules.actions import ScheduleActions
from pages.overview import Need
from pages.schedule_parts import to, why
from pages.visitor import Visitor

MOST = 5
Source = Callable[[Visitor], Awaitable[list[Need]]]


def schedule_needs(schedules: ScheduleActions) -> Source:
    """Failing ones first, as many as one can take in."""

    async def needs(v: Visitor) -> list[Need]:
        if not v.who.may("schedule.view"):
            return []
        found = []
        for row in await schedules.views.list(v.who):
            if row.failures and row.alerted_at is not None:
                reason = why(v, row.last)[0] if row.last is not None else ""
                found.append(_need(v, 11, "bad", "failing", row.name, reason, n=row.failures))
            elif row.state == "waits" and v.who.may("schedule.manage"):
                found.append(_need(v, 16, "warn", "waits", row.name, v.t("schedules.need.waits.why")))
        return sorted(found, key=lambda need: need.rank)[:MOST]

    return needs


def _need(v: Visitor, rank: int, state: str, key: str, name: str, reason: str, **params: object) -> Need:
    return Need(
        rank=rank,
        state=state,
        word=v.t(f"schedules.need.{key}.word"),
        what=v.t(f"schedules.need.{key}", name=name, **params),
        why=reason,
        act=v.t(f"schedules.need.{key}.act"),
        to=to(name),
    )
