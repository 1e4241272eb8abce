"""Health tests of models and memory: is there a model, does it answer, how fast; is what was said found again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, func, select

from agent.memory.store import MemoryStore
from agent.models.actions import ModelActions
from agent.models.breaker import Breaker
from agent.models.provider_view import ProviderRow
from agent.models.trial import TestResult
from agent.models.usage import RESERVED, usage_t
from security.health.row import Found, HealthTest, good, off, unknown, warn
from security.health.site import Remote
from storage.clock import Clock
from storage.database import Database
from storage.errors import AppError
from storage.principal import SYSTEM, Principal

SLOW_FIRST_MS = 10_000
LATE_FIRST_MS = 3_000
SLOW_TOKENS = 8.0
HOUR = 3_600_000
FEWEST, MOST_FAILED = 5, 0.1
BEHIND = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentHealth:
    """What the tests of models and memory look at. `memory` None: switched off."""

    db: Database
    clock: Clock
    models: ModelActions
    breaker: Breaker
    memory: MemoryStore | None

    def tests(self) -> list[HealthTest]:
        """Tests of the groups `model` and `memory`."""
        return [
            HealthTest(id="model.any", look=self._any),
            HealthTest(id="model.answer", look=self._answer, seconds=90.0, asks=True),
            HealthTest(id="model.recent", look=self._recent, fix=self._wake),
            HealthTest(id="memory.index", look=self._index, inside=True),
        ]

    async def remotes(self) -> list[Remote]:
        """Addresses of model services."""
        rows = await self.models.list(SYSTEM)
        return [Remote(url=row.draft.endpoint, used_by=row.name) for row in rows if row.draft.endpoint]

    # ---- models

    async def _any(self) -> Sequence[Found]:
        rows = [row for row in await self.models.list(SYSTEM) if row.draft.enabled]
        if not rows:
            return [warn("none", "/models?add=1")]
        real = [row.name for row in rows if row.type != "demo"]
        if not real:
            return [warn("demo", "/models?add=1")]
        return [good("some", names=", ".join(real)[:200]) if len(real) > 1 else good("one", names=real[0])]

    async def _answer(self) -> Sequence[Found]:
        """One short real answer of every service, all side by side."""
        rows = [row for row in await self.models.list(SYSTEM) if row.draft.enabled]
        if not rows:
            return [off("none")]
        return await asyncio.gather(*(self._trial(row) for row in rows[:20]))

    async def _trial(self, row: ProviderRow) -> Found:
        try:
            result = await self.models.test(SYSTEM, row.name)
        except AppError as error:
            return Found(status="fail", code=error.code, params=error.params, subject=row.name, to="/models")
        return judged(row.name, result)

    async def _recent(self) -> Sequence[Found]:
        """What real calls of the last hour say, and who is left alone after failing again and again."""
        since = self.clock.ms() - HOUR
        calls = await self.db.read(lambda c: _calls(c, since))
        found: list[Found] = []
        for row in await self.models.list(SYSTEM):
            if row.resting:
                params = {"seconds": round(row.resting), "why": row.resting_code}
                found.append(
                    Found(status="fail", say="resting", params=params, subject=row.name, to="/models", fixable=True)
                )
                continue
            count, failed = calls.get(row.name, (0, 0))
            seen = {"count": count, "failed": failed}
            if count >= FEWEST and failed > MOST_FAILED * count:
                found.append(Found(status="warn", say="failing", params=seen, subject=row.name, to="/models"))
            elif count:
                found.append(Found(status="pass", say="well", params=seen, subject=row.name))
        return found or [unknown("nothing")]

    async def _wake(self, who: Principal, subject: str) -> None:
        """Let the next call try again at once."""
        who.require("model.manage")
        self.breaker.succeeded(subject)

    # ---- memory

    async def _index(self) -> Sequence[Found]:
        if self.memory is None:
            return [off("off")]
        await self.memory.loaded()
        progress = await self.memory.progress()
        if not progress.embedder:
            return [warn("words")]
        left = progress.total - progress.done
        seen = {"embedder": progress.embedder, "done": progress.done, "total": progress.total}
        if left > BEHIND:
            return [warn("behind", left=left, **seen)]
        return [good("ready", **seen)]


def judged(name: str, result: TestResult) -> Found:
    """What a trial says: an error, or how quick the answer was."""
    if not result.ok:
        return Found(status="fail", code=result.code, params=result.params, subject=name, to="/models")
    writing = max(1, result.total_ms - result.first_token_ms) / 1000
    speed = result.tokens_out / writing if result.tokens_out > 5 else 0.0
    seen = {"model": result.model, "first": result.first_token_ms, "speed": f"{speed:.0f}" if speed else "–"}
    if result.first_token_ms > SLOW_FIRST_MS:
        return Found(status="fail", say="slow", params=seen, subject=name, to="/models", ms=result.total_ms)
    if result.first_token_ms > LATE_FIRST_MS:
        return Found(status="warn", say="slow", params=seen, subject=name, to="/models", ms=result.total_ms)
    if speed and speed < SLOW_TOKENS:
        return Found(status="warn", say="drips", params=seen, subject=name, to="/models", ms=result.total_ms)
    return Found(status="pass", say="quick", params=seen, subject=name, ms=result.total_ms)


def _calls(c: Connection, since: int) -> dict[str, tuple[int, int]]:
    fine = ("ok", "cached", "cancelled")
    mine = and_(usage_t.c.at > since, usage_t.c.outcome != RESERVED, usage_t.c.tenant == SYSTEM.tenant)
    query = select(
        usage_t.c.provider,
        func.count().label("n"),
        func.sum(case((usage_t.c.outcome.in_(fine), 0), else_=1)).label("failed"),
    ).where(mine)
    return {row.provider: (row.n, int(row.failed)) for row in c.execute(query.group_by(usage_t.c.provider))}
