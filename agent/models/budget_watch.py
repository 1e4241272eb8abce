"""Notices when a bot or a person comes near the month's limit: once for each share of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from agent.models.limits import Limits, month_start
from agent.models.usage import Record, spent
from storage.clock import Clock

SHARES = (80, 100)

Tell = Callable[[Connection, str, str, str, float, float, int], None]
"""Tenant, `bot` or `person`, its name, spent, limit, per cent; within the transaction that wrote the spending."""


class BudgetWatch:
    """Looks at what was just written down. Only where a limit holds; it remembers what it has told this month."""

    def __init__(self, clock: Clock, limits: Callable[[str], Limits], tell: Tell) -> None:
        self.clock, self.limits, self.tell = clock, limits, tell
        self._told: set[tuple[str, str, str, int]] = set()
        self._month = 0

    def written(self, c: Connection, records: Sequence[Record]) -> None:
        """These calls were written down in this transaction."""
        now = self.clock.ms()
        if month_start(now) != self._month:
            self._told, self._month = set(), month_start(now)
        seen = {(r.spender.tenant, r.spender.bot, r.spender.person) for r in records if r.cost}
        for tenant, bot, person in sorted(seen):
            limits = self.limits(tenant)
            self._look(c, tenant, "bot", bot, limits.bot(bot), now)
            self._look(c, tenant, "person", person, limits.person(person), now)

    def _look(self, c: Connection, tenant: str, kind: str, name: str, limit: float | None, now: int) -> None:
        open_ = [share for share in SHARES if (tenant, kind, name, share) not in self._told]
        if not limit or not open_:
            return
        used = spent(c, tenant, bot=name if kind == "bot" else "", person=name if kind == "person" else "", now=now)
        reached = [share for share in open_ if used * 100 >= limit * share]
        for share in reached:
            self._told.add((tenant, kind, name, share))
        if reached:
            self.tell(c, tenant, kind, name, used, limit, reached[-1])
