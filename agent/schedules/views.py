"""What a person may see of schedules: lists, runs, what comes next, a month. Pages and REST routes call the same."""

from __future__ import annotations

import asyncio
import builtins
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select

from agent.schedules.cron import ZONE, next_times, parse, zone_of
from agent.schedules.draft import ScheduleDraft
from agent.schedules.rows import OPEN, draft_of, one, run_t, schedule_t, workdays
from agent.schedules.standing import allowed
from agent.schedules.steps import read_steps, secrets_of
from agent.schedules.workdays import Day, Workdays
from storage.clock import Clock
from storage.database import Database
from storage.errors import Invalid, NotFound
from storage.ledger import delivery_t
from storage.principal import Principal
from storage.vault import Vault

DAYS = 30
MOST_RUNS = 200
CUT = 400  # of a run's output in lists
MOST_PREVIEW = 100
MOST_OF_A_MONTH = 2_000
SENT = {"delivered": "sent", "failed": "failed", "unknown": "unknown"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """What became of a planned time.

    Attributes:
        state: queued, running, waiting, ok, failed, cancelled, missed, skipped.
        delivery: `sent` (with the vendor's receipt), `sending`, `failed`, `unknown`, `silent` (there was no output),
            `kept` (nobody is told), or empty while it is not over.
        delivery_error: code, where it failed.
        count: how many planned times a missed row stands for.
        reason, params: error code and its parameters.
    """

    id: int
    schedule: str
    schedule_id: int
    planned_at: int
    cause: str
    by: str
    state: str
    attempt: int
    count: int
    retry_at: int | None
    started_at: int | None
    ended_at: int | None
    reason: str
    params: Mapping[str, str]
    output: str
    delivery: str
    delivery_error: str
    job_id: int | None

    @property
    def ms(self) -> int | None:
        """How long it took."""
        return None if self.started_at is None or self.ended_at is None else self.ended_at - self.started_at


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleView:
    """A schedule with how it does.

    Attributes:
        state: `on`, `paused`, `waits` (for an admin to allow its command), `over` (nothing is to come).
        success: share of the ended runs of 30 days that went well; None where there was none.
        runs: ended runs of 30 days.
        secrets: last characters of each secret that is set.
        from_chat: made in a chat, and answers there.
    """

    id: int
    draft: ScheduleDraft
    state: str
    paused_why: str
    next_at: int | None
    last: RunView | None
    running: int
    success: float | None
    runs: int
    failures: int
    alerted_at: int | None
    owner: str
    owner_name: str
    managed_by: str
    from_chat: bool
    secrets: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        return self.draft.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Coming:
    """A run to come."""

    at: int
    schedule: str
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MonthDay:
    """A day of the calendar: what is known of it, and its runs: gone ones by state, and those to come."""

    day: date
    known: Day
    ok: int = 0
    failed: int = 0
    missed: int = 0
    coming: Sequence[Coming] = ()


class ScheduleViews:
    """Reads. Right: schedule.view for all of it."""

    def __init__(self, db: Database, vault: Vault, clock: Clock) -> None:
        self.db, self.vault, self.clock = db, vault, clock

    async def list(self, who: Principal) -> builtins.list[ScheduleView]:
        """All schedules, by name. Right: schedule.view."""
        who.require("schedule.view")
        now = self.clock.ms()

        def fn(c: Connection) -> builtins.list[ScheduleView]:
            rows = c.execute(select(schedule_t).where(schedule_t.c.tenant == who.tenant).order_by(schedule_t.c.name))
            return self._views(c, rows.all(), now)

        return await self.db.read(fn)

    async def get(self, who: Principal, name: str) -> ScheduleView:
        """One schedule. Right: schedule.view. Raises `NotFound`."""
        who.require("schedule.view")
        now = self.clock.ms()

        def fn(c: Connection) -> ScheduleView:
            row = one(c, who.tenant, name)
            if row is None:
                raise NotFound("schedule.unknown", name=name[:60])
            return self._views(c, [row], now)[0]

        return await self.db.read(fn)

    async def runs(
        self, who: Principal, name: str = "", *, before: int | None = None, limit: int = 50, state: str = ""
    ) -> builtins.list[RunView]:
        """Runs, latest first, of one schedule or all. Outputs are cut. Right: schedule.view. Raises `NotFound`.

        Args:
            before: id of the last one seen.
            state: only these: a state, or `bad` for failed and missed ones.
        """
        who.require("schedule.view")

        def fn(c: Connection) -> builtins.list[RunView]:
            mine = [run_t.c.tenant == who.tenant]
            if name:
                row = one(c, who.tenant, name)
                if row is None:
                    raise NotFound("schedule.unknown", name=name[:60])
                mine.append(run_t.c.schedule_id == row.id)
            if before is not None:
                mine.append(run_t.c.id < before)
            if state:
                mine.append(run_t.c.state.in_(("failed", "missed") if state == "bad" else (state,)))
            return _runs(c, and_(*mine), limit=max(1, min(limit, MOST_RUNS)), most_output=CUT)

        return await self.db.read(fn)

    async def run(self, who: Principal, run_id: int) -> RunView:
        """One run with its whole output. Right: schedule.view. Raises `NotFound`."""
        who.require("schedule.view")
        mine = and_(run_t.c.tenant == who.tenant, run_t.c.id == run_id)
        found = await self.db.read(lambda c: _runs(c, mine, limit=1, most_output=100_000))
        if not found:
            raise NotFound("schedule.run_unknown")
        return found[0]

    async def upcoming(self, who: Principal, limit: int = 10) -> builtins.list[Coming]:
        """The next runs of all schedules, in order. Right: schedule.view."""
        now, count = self.clock.ms(), max(1, min(limit, MOST_PREVIEW))
        found = await self._between(who, now, now + 366 * 86_400_000, each=count)
        return sorted(found, key=lambda run: run.at)[:count]

    async def preview(
        self, who: Principal, expression: str, zone: str = ZONE, *, count: int = 10, after: int | None = None
    ) -> builtins.list[int]:
        """The next times of an expression, in ms. Right: schedule.view. Raises `Invalid`."""
        who.require("schedule.view")
        known = await self.db.read(lambda c: workdays(c, who.tenant))
        start = self.clock.ms() if after is None else after
        return await asyncio.to_thread(next_times, expression, zone, start, max(1, min(count, MOST_PREVIEW)), known)

    async def month(
        self, who: Principal, year: int, month: int, zone: str = ZONE, name: str = ""
    ) -> builtins.list[MonthDay]:
        """Every day of a month, with its runs, those gone and those to come. Right: schedule.view.

        Raises:
            Invalid: `schedule.month`, `schedule.zone`.
        """
        who.require("schedule.view")
        if not (1 <= month <= 12 and 2000 <= year <= 2100):
            raise Invalid("schedule.month", field="month")
        place = zone_of(zone)
        first = date(year, month, 1)
        after = date(year + month // 12, month % 12 + 1, 1)
        begin, end = (int(datetime.combine(day, time(), place).timestamp()) * 1000 for day in (first, after))
        now = self.clock.ms()
        coming = await self._between(who, max(now, begin - 1), end, each=MOST_OF_A_MONTH, name=name)

        def fn(c: Connection) -> tuple[Workdays, Sequence[Row[Any]]]:
            mine = [run_t.c.tenant == who.tenant, run_t.c.planned_at >= begin, run_t.c.planned_at < end]
            if name:
                mine.append(schedule_t.c.name == name)
            query = (
                select(run_t.c.planned_at, run_t.c.state, run_t.c["count"].label("n"))
                .join(schedule_t, schedule_t.c.id == run_t.c.schedule_id)
                .where(and_(*mine))
                .limit(50_000)
            )
            return workdays(c, who.tenant), c.execute(query).all()

        known, gone = await self.db.read(fn)

        def fill() -> builtins.list[MonthDay]:
            by_day: dict[date, builtins.list[Coming]] = {}
            counts: dict[date, dict[str, int]] = {}
            for run in coming:
                by_day.setdefault(_day(run.at, place), []).append(run)
            for row in gone:
                of_day = counts.setdefault(_day(row.planned_at, place), {})
                of_day[row.state] = of_day.get(row.state, 0) + row.n
            days = [first + timedelta(days=n) for n in range((after - first).days)]
            return [
                MonthDay(
                    day=day,
                    known=known.day(day),
                    ok=counts.get(day, {}).get("ok", 0),
                    failed=counts.get(day, {}).get("failed", 0),
                    missed=counts.get(day, {}).get("missed", 0),
                    coming=sorted(by_day.get(day, ()), key=lambda run: run.at),
                )
                for day in days
            ]

        return await asyncio.to_thread(fill)

    async def _between(
        self, who: Principal, after: int, to: int, *, each: int, name: str = ""
    ) -> builtins.list[Coming]:
        who.require("schedule.view")

        def fn(c: Connection) -> tuple[Sequence[Row[Any]], Workdays]:
            mine = and_(schedule_t.c.tenant == who.tenant, schedule_t.c.paused_at.is_(None))
            rows = c.execute(select(schedule_t).where(and_(mine, schedule_t.c.next_at.is_not(None)))).all()
            now = self.clock.ms()
            return [row for row in rows if allowed(c, row, now) and name in ("", row.name)], workdays(c, who.tenant)

        rows, known = await self.db.read(fn)

        def work() -> builtins.list[Coming]:
            found = []
            for row in rows:
                last = min(to, row.expires_at or to)
                try:
                    for at in islice(parse(row.expression).times(after, row.zone, known), each):
                        if at > last:
                            break
                        found.append(Coming(at=at, schedule=row.name, kind=row.kind))
                except Invalid:
                    continue  # it is paused at its next look, and says why
            return found

        return await asyncio.to_thread(work)

    # ---- inside

    def _views(self, c: Connection, rows: Sequence[Row[Any]], now: int) -> builtins.list[ScheduleView]:
        since = now - DAYS * 86_400_000
        names = [row.id for row in rows]
        mine = run_t.c.schedule_id.in_(names)
        latest = select(func.max(run_t.c.id)).where(and_(mine, run_t.c.state != "missed")).group_by(run_t.c.schedule_id)
        last = {run.schedule_id: run for run in _runs(c, run_t.c.id.in_(latest), limit=len(names) + 1, most_output=CUT)}
        sums: dict[tuple[int, str], int] = {}
        query = (
            select(run_t.c.schedule_id, run_t.c.state, func.count().label("n"))
            .where(and_(mine, or_(run_t.c.created_at >= since, run_t.c.state.in_(OPEN))))
            .group_by(run_t.c.schedule_id, run_t.c.state)
        )
        for row in c.execute(query):
            sums[row.schedule_id, row.state] = row.n
        return [self._view(c, row, last.get(row.id), sums, now) for row in rows]

    def _view(
        self, c: Connection, row: Row[Any], last: RunView | None, sums: Mapping[tuple[int, str], int], now: int
    ) -> ScheduleView:
        ok, failed = sums.get((row.id, "ok"), 0), sums.get((row.id, "failed"), 0)
        state = "paused" if row.paused_at is not None else "on" if row.next_at is not None else "over"
        if not allowed(c, row, now):
            state = "waits"
        draft = draft_of(row)
        names = ["authorization"] if row.kind == "http" else []
        if row.kind == "workflow":
            try:
                names = secrets_of(read_steps(draft.task.steps))
            except Invalid:
                names = []
        tails = {name: self.vault.tail(c, row.tenant, f"schedule:{row.id}:{name}") for name in names}
        return ScheduleView(
            id=row.id,
            draft=draft,
            state=state,
            paused_why=row.paused_why,
            next_at=row.next_at if state == "on" else None,
            last=last,
            running=sum(sums.get((row.id, state), 0) for state in OPEN),
            success=ok / (ok + failed) if ok + failed else None,
            runs=ok + failed,
            failures=row.failures,
            alerted_at=row.alerted_at,
            owner=row.owner,
            owner_name=row.owner_name,
            managed_by=row.managed_by,
            from_chat=bool(row.address),
            secrets={name: tail for name, tail in tails.items() if tail is not None},
        )


def _runs(c: Connection, where: Any, *, limit: int, most_output: int) -> list[RunView]:
    query = (
        select(run_t, schedule_t.c.name.label("schedule"), schedule_t.c.bot)
        .join(schedule_t, schedule_t.c.id == run_t.c.schedule_id)
        .where(where)
        .order_by(run_t.c.id.desc())
        .limit(limit)
    )
    rows = c.execute(query).all()
    jobs = [row.job_id for row in rows if row.job_id is not None]
    sent: dict[int, tuple[str, str]] = {}
    found = select(delivery_t.c.job_id, delivery_t.c.status, delivery_t.c.error)
    for item in c.execute(found.where(delivery_t.c.job_id.in_(jobs)).order_by(delivery_t.c.id)):
        # of a long text that was cut, the worst part tells
        if item.status != "split" and sent.get(item.job_id, ("delivered", ""))[0] in ("delivered", "pending"):
            sent[item.job_id] = (item.status, item.error)
    return [_run(row, sent.get(row.job_id), most_output) for row in rows]


def _run(row: Row[Any], sent: tuple[str, str] | None, most_output: int) -> RunView:
    delivery, error = "", ""
    if row.undelivered and row.state == "ok":
        delivery, error = "failed", row.undelivered
    elif row.state == "ok" and row.silent:
        delivery = "silent"
    elif row.state == "ok" and not row.bot:
        delivery = "kept"
    elif sent is not None:
        delivery, error = SENT.get(sent[0], "sending"), sent[1]
    try:
        params = json.loads(row.detail or "{}")
    except ValueError:
        params = {}
    names = (
        *("id", "schedule", "schedule_id", "planned_at", "cause", "by", "state", "attempt", "count", "retry_at"),
        *("started_at", "ended_at", "reason", "job_id"),
    )
    return RunView(
        **{name: getattr(row, name) for name in names if name != "count"},
        count=row._mapping["count"],
        params=params if isinstance(params, dict) else {},
        output=row.output[:most_output],
        delivery=delivery,
        delivery_error=error,
    )


def _day(at: int, place: Any) -> date:
    return datetime.fromtimestamp(at / 1000, UTC).astimezone(place).date()
