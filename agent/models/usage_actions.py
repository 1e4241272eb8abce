"""What people may see of usage and set as limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, func, select

from agent.models import preferences
from agent.models.limits import Limits, month_start, read_limits
from agent.models.router import ModelRouter
from agent.models.usage import RESERVED, Spending, spent, usage_t
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.errors import Invalid
from storage.principal import Principal

DAY = 86_400_000
GROUPS = {
    "model": (usage_t.c.provider, usage_t.c.model),
    "provider": (usage_t.c.provider,),
    "bot": (usage_t.c.bot,),
    "person": (usage_t.c.person,),
    "job": (usage_t.c.job_id,),
}
MOST_ROWS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageSum:
    """What one model, bot, person or task has used. Cost in CNY; first_token_ms None where nothing was measured."""

    key: str
    calls: int
    failed: int
    tokens_in: int
    tokens_out: int
    cost: float
    first_token_ms: int | None
    total_ms: int | None


class UsageActions:
    """Use cases around usage, limits and the answer cache."""

    def __init__(self, *, db: Database, audit: Audit, clock: Clock, router: ModelRouter, spending: Spending) -> None:
        self.db, self.audit, self.clock, self.router, self.spending = db, audit, clock, router, spending

    async def usage(self, who: Principal, by: str = "model", *, days: int = 30) -> Sequence[UsageSum]:
        """Sums of the last days, the most expensive first. Right: model.view.

        Args:
            by: `model`, `provider`, `bot`, `person` or `job`.
        """
        who.require("model.view")
        if by not in GROUPS or not 1 <= days <= 400:
            raise Invalid("model.field_kind", field="by", name="by")
        await self.spending.flush()
        since, columns = self.clock.ms() - days * DAY, GROUPS[by]
        answered = usage_t.c.outcome == "ok"

        def read(c: Connection) -> list[UsageSum]:
            query = (
                select(
                    *columns,
                    func.count().label("calls"),
                    func.sum(case((usage_t.c.outcome.in_(("ok", "cached", RESERVED)), 0), else_=1)).label("failed"),
                    func.sum(usage_t.c.tokens_in).label("t_in"),
                    func.sum(usage_t.c.tokens_out).label("t_out"),
                    func.sum(usage_t.c.cost).label("cost"),
                    func.avg(case((answered, usage_t.c.first_token_ms))).label("first"),
                    func.avg(case((answered, usage_t.c.total_ms))).label("total"),
                )
                .where(and_(usage_t.c.tenant == who.tenant, usage_t.c.at > since))
                .group_by(*columns)
                .order_by(func.sum(usage_t.c.cost).desc(), func.count().desc())
                .limit(MOST_ROWS)
            )
            return [
                UsageSum(
                    key="/".join(str(row[n] or "") for n in range(len(columns))),
                    calls=row.calls,
                    failed=int(row.failed),
                    tokens_in=int(row.t_in),
                    tokens_out=int(row.t_out),
                    cost=float(row.cost),
                    first_token_ms=None if row.first is None else round(row.first),
                    total_ms=None if row.total is None else round(row.total),
                )
                for row in c.execute(query)
            ]

        return await self.db.read(read)

    async def limits(self, who: Principal) -> Limits:
        """The monthly limits. Right: model.view."""
        who.require("model.view")
        return self.router.limits(who.tenant)

    async def spent(self, who: Principal, *, bot: str = "", person: str = "") -> float:
        """CNY of this month so far of one bot or person, reservations included. Right: model.view."""
        who.require("model.view")
        await self.spending.flush()
        now = self.clock.ms()
        return await self.db.read(lambda c: spent(c, who.tenant, bot=bot, person=person, now=now))

    def month_start(self) -> int:
        """Since when a month's limit counts, in ms."""
        return month_start(self.clock.ms())

    async def set_limits(self, who: Principal, limits: Limits) -> None:
        """Set the monthly limits; the next call keeps to them. Right: model.manage.

        Raises:
            Invalid: `model.limit`.
        """
        who.require("model.manage")
        packed = read_limits(limits.packed()).packed()
        await self._set(who, preferences.LIMITS, packed, "model.limits")

    async def set_cache(self, who: Principal, on: bool) -> None:
        """Keep answers to identical requests for ten minutes, or not (the default). Right: model.manage."""
        who.require("model.manage")
        await self._set(who, preferences.CACHE, True if on is True else None, "model.cache")

    async def _set(self, who: Principal, key: str, value: object, action: str) -> None:
        def act(c: Connection) -> None:
            before = preferences.read(c, who.tenant, key)
            if before != value:
                preferences.write(c, who.tenant, key, value, self.clock.ms())
                self.audit.record(c, who, action, "models", before=before, after=value)

        await self.db.write(act)
        await self.router.reload()
