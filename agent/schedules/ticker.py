"""Looks which planned times have come, and enters their runs: each in one transaction, each once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, or_, select, update

from agent.schedules.planning import BACK, Plan, plan
from agent.schedules.rows import OPEN, Entered, RunRows, rule_of, run_t, running, schedule_t, workdays
from agent.schedules.settling import Settling
from agent.schedules.standing import allowed
from agent.schedules.workdays import Workdays
from storage.clock import Clock
from storage.database import Database
from storage.errors import Invalid
from storage.ledger import DeliveryView, Ledger

log = logging.getLogger(__name__)

MOST_AT_ONCE = 200
KEPT_RUNS = 1_000
KEPT_DAYS = 180


class Ticker:
    """Plans. Several processes may tick beside each other: a planned time has one row, whoever writes it."""

    def __init__(self, db: Database, clock: Clock, ledger: Ledger, runs: RunRows, settling: Settling) -> None:
        self.db, self.clock, self.ledger, self.runs, self.settling = db, clock, ledger, runs, settling

    async def next_at(self) -> int | None:
        """When there is something to do next: a planned time, or another try."""

        def fn(c: Connection) -> int | None:
            planned = select(func.min(schedule_t.c.next_at)).where(schedule_t.c.paused_at.is_(None))
            again = select(func.min(run_t.c.retry_at)).where(run_t.c.state == "waiting")
            found = [c.execute(query).scalar() for query in (planned, again)]
            return min((at for at in found if at is not None), default=None)

        return await self.db.read(fn)

    async def tick(self) -> int:
        """Enter everything that is due now; the number of runs entered. One schedule's trouble is its own."""
        now = self.clock.ms()
        due, counts, calendars = await self.db.read(lambda c: self._due(c, now))
        entered: list[Entered] = []
        for row in due:
            try:
                made = await asyncio.to_thread(
                    plan, rule_of(row), row.cursor, now, counts[row.id], calendars[row.tenant]
                )
            except Invalid as error:  # written by an older version, or by hand
                await self._pause(row, error.code, now)
                continue
            entered += await self._take(row, made)
        entered += await self._again(now)
        for run in entered:
            self.ledger.on_job(run.job)
        return len(entered)

    def _due(self, c: Connection, now: int) -> tuple[Sequence[Row[Any]], dict[int, int], dict[str, Workdays]]:
        moved_back = schedule_t.c.cursor > now + BACK
        query = (
            select(schedule_t)
            .where(and_(schedule_t.c.paused_at.is_(None), or_(schedule_t.c.next_at <= now, moved_back)))
            .order_by(schedule_t.c.next_at, schedule_t.c.id)
            .limit(MOST_AT_ONCE)
        )
        rows = c.execute(query).all()
        counts = {row.id: running(c, row.id) for row in rows}
        return rows, counts, {tenant: workdays(c, tenant) for tenant in {row.tenant for row in rows}}

    async def _take(self, row: Row[Any], made: Plan) -> list[Entered]:
        def fn(c: Connection) -> list[Entered]:
            # whoever has looked at it, or changed it, in between goes before us
            same = and_(
                schedule_t.c.id == row.id,
                schedule_t.c.cursor == row.cursor,
                schedule_t.c.updated_at == row.updated_at,
                schedule_t.c.paused_at.is_(None),
            )
            done = c.execute(update(schedule_t).where(same).values(cursor=made.cursor, next_at=made.next_at))
            if done.rowcount != 1 or not allowed(c, row, self.clock.ms()):
                return []  # a command that waits for an admin lets its times pass
            entered = [self.runs.enter(c, row, entry) for entry in made.entries]
            return [run for run in entered if run is not None]

        return await self.db.write(fn)

    async def _pause(self, row: Row[Any], why: str, now: int) -> None:
        log.error("schedule %s is paused: %s", row.id, why)

        def fn(c: Connection) -> None:
            c.execute(update(schedule_t).where(schedule_t.c.id == row.id).values(paused_at=now, paused_why=why))

        await self.db.write(fn)

    async def _again(self, now: int) -> list[Entered]:
        """Runs whose next try is due."""
        query = select(run_t.c.id).where(and_(run_t.c.state == "waiting", run_t.c.retry_at <= now)).limit(MOST_AT_ONCE)
        if not await self.db.read(lambda c: c.execute(query).first()):
            return []

        def fn(c: Connection) -> list[Entered]:
            entered = []
            for run in c.execute(select(run_t).where(run_t.c.id.in_(c.execute(query).scalars().all()))).all():
                row = c.execute(select(schedule_t).where(schedule_t.c.id == run.schedule_id)).first()
                if row is None or row.paused_at is not None:
                    values = {"state": "failed", "retry_at": None, "ended_at": now}
                    c.execute(update(run_t).where(run_t.c.id == run.id).values(**values))
                    continue
                c.execute(update(run_t).where(run_t.c.id == run.id).values(reason="", detail="", output=""))
                made = self.runs.attempt(c, row, run.id, run.planned_at, run.attempt + 1)
                if made is not None:
                    entered.append(made)
            return entered

        return await self.db.write(fn)

    async def settle(self) -> None:
        """Settle what ended without our being told: cancelled jobs, and what a crash left in between."""
        if not await self.db.read(self.settling.left_open):
            return

        def fn(c: Connection) -> list[DeliveryView]:
            told: list[DeliveryView] = []
            for row in self.settling.left_open(c):
                told += self.settling.settle(c, row.job_id, row.status, row.reason, row.detail)
            return told

        told = await self.db.write(fn)
        if told:
            self.ledger.on_deliveries(told)

    async def tidy(self) -> int:
        """Drop runs that are older than half a year, or more than a thousand back in their schedule's history."""
        before = self.clock.ms() - KEPT_DAYS * 86_400_000

        def fn(c: Connection) -> int:
            ended = run_t.c.state.not_in(OPEN)
            gone = c.execute(delete(run_t).where(and_(ended, run_t.c.created_at < before))).rowcount
            for schedule_id in c.execute(select(schedule_t.c.id)).scalars().all():
                mine = run_t.c.schedule_id == schedule_id
                last = select(run_t.c.id).where(mine).order_by(run_t.c.id.desc()).offset(KEPT_RUNS).limit(1)
                if (edge := c.execute(last).scalar()) is not None:
                    gone += c.execute(delete(run_t).where(and_(mine, ended, run_t.c.id <= edge))).rowcount
            return int(gone)

        return await self.db.write(fn)
