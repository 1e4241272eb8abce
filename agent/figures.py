"""How tasks went: success, our own time, waiting, by time, bot, model and job. From the ledger, kept for seconds."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, func, select

from storage.clock import Clock
from storage.database import Database
from storage.errors import Invalid
from storage.ledger import delivery_t, job_t, step_t
from storage.principal import Principal

HOUR = 3_600_000
SPANS = {1: 12, 24: 24, 168: 28, 720: 30}
"""Hours to look back, and into how many slots."""
MOST_JOBS = 20_000
MOST_GROUPS = 12
FRESH_SECONDS = 8.0
OUTSIDE = ("model", "tool", "approval")
SUCCESS, OWN_MS, BACKLOG = 0.995, 500, 10
"""The targets: success from, own time below, backlog below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A stretch of time that begins at `at`. Times in ms; None where nothing ended."""

    at: int
    done: int
    failed: int
    own_mean: int | None
    own_p95: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Tasks of one bot, model or job."""

    name: str
    done: int
    failed: int
    own_mean: int | None
    own_p95: int | None
    total_mean: int | None

    @property
    def success(self) -> float | None:
        """Share of done ones among done and failed."""
        count = self.done + self.failed
        return self.done / count if count else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Tasks that ended in the last `hours`.

    Attributes:
        own_*: received to sent, without models and tools, of done ones. queue_p95: received to begun.
        reasons: why tasks failed, the most frequent first: (code, count).
        cut: there were more than are looked at; these are the newest.
    """

    hours: int
    since: int
    slot: int
    done: int
    failed: int
    other: int
    own_mean: int | None
    own_p95: int | None
    total_mean: int | None
    queue_p95: int | None
    slots: tuple[Slot, ...]
    bots: tuple[Group, ...]
    models: tuple[Group, ...]
    jobs: tuple[Group, ...]
    reasons: tuple[tuple[str, int], ...]
    cut: bool

    @property
    def success(self) -> float | None:
        """Share of done ones among done and failed; None while nothing has ended."""
        count = self.done + self.failed
        return self.done / count if count else None


@dataclass(frozen=True, slots=True)
class _Task:
    """One ended task, in ms."""

    at: int
    status: str
    bot: str
    model: str
    job: str
    reason: str
    own: int
    total: int
    queue: int


@dataclass(kw_only=True)
class FigureActions:
    """What overview, activity page, health tests and API use."""

    db: Database
    clock: Clock
    _kept: dict[tuple[str, int], tuple[float, Figures]] = field(default_factory=dict)

    async def figures(self, who: Principal, hours: int = 24) -> Figures:
        """Figures of the last hours (1, 24, 168 or 720). Right: overview.view."""
        who.require("overview.view")
        if hours not in SPANS:
            raise Invalid("figures.span", field="hours", spans=", ".join(map(str, SPANS)))
        key, now = (who.tenant, hours), self.clock.monotonic()
        kept = self._kept.get(key)
        if kept is not None and now - kept[0] < FRESH_SECONDS:
            return kept[1]
        at = self.clock.ms()
        made = await self.db.read(lambda c: _figures(c, who.tenant, hours, at))
        self._kept = {k: v for k, v in self._kept.items() if now - v[0] < FRESH_SECONDS}
        self._kept[key] = (now, made)
        return made


def percentile(values: Sequence[int], share: float) -> int | None:
    """The value below which so large a share of them lies (nearest rank)."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _mean(values: Sequence[int]) -> int | None:
    return round(sum(values) / len(values)) if values else None


def _figures(c: Connection, tenant: str, hours: int, now: int) -> Figures:
    since, count = now - hours * HOUR, SPANS[hours]
    size = hours * HOUR // count
    tasks = _tasks(c, tenant, since)
    ended = [task for task in tasks if task.status in ("done", "failed")]
    done = [task for task in ended if task.status == "done"]
    own = [task.own for task in done]
    by_slot: dict[int, list[_Task]] = defaultdict(list)
    for task in ended:
        by_slot[min(count - 1, max(0, (task.at - since) // size))].append(task)
    reasons = Counter(task.reason for task in ended if task.status == "failed")
    return Figures(
        hours=hours,
        since=since,
        slot=size,
        done=len(done),
        failed=len(ended) - len(done),
        other=len(tasks) - len(ended),
        own_mean=_mean(own),
        own_p95=percentile(own, 0.95),
        total_mean=_mean([task.total for task in done]),
        queue_p95=percentile([task.queue for task in ended], 0.95),
        slots=tuple(_slot(since + n * size, by_slot.get(n, [])) for n in range(count)),
        bots=_groups((task.bot, task) for task in ended),
        models=_groups((task.model, task) for task in ended),
        jobs=_groups((task.job, task) for task in ended),
        reasons=tuple(reasons.most_common(10)),
        cut=len(tasks) >= MOST_JOBS,
    )


def _slot(at: int, tasks: Sequence[_Task]) -> Slot:
    own = [task.own for task in tasks if task.status == "done"]
    return Slot(at=at, done=len(own), failed=len(tasks) - len(own), own_mean=_mean(own), own_p95=percentile(own, 0.95))


def _groups(pairs: Iterable[tuple[str, _Task]]) -> tuple[Group, ...]:
    by_name: dict[str, list[_Task]] = defaultdict(list)
    for name, task in pairs:
        if name:
            by_name[name].append(task)
    largest = sorted(by_name.items(), key=lambda item: (-len(item[1]), item[0]))[:MOST_GROUPS]
    made = []
    for name, tasks in largest:
        done = [task for task in tasks if task.status == "done"]
        own = [task.own for task in done]
        made.append(
            Group(
                name=name,
                done=len(done),
                failed=len(tasks) - len(done),
                own_mean=_mean(own),
                own_p95=percentile(own, 0.95),
                total_mean=_mean([task.total for task in done]),
            )
        )
    return tuple(made)


def _tasks(c: Connection, tenant: str, since: int) -> list[_Task]:
    columns = ("id", "status", "bot", "model", "kind", "title", "reason", "received_at", "created_at", "started_at")
    query = (
        select(*(job_t.c[name] for name in columns), job_t.c.ended_at)
        .where(and_(job_t.c.tenant == tenant, job_t.c.ended_at >= since))
        .order_by(job_t.c.ended_at.desc())
        .limit(MOST_JOBS)
    )
    rows = c.execute(query).all()
    if not rows:
        return []
    low, high = min(row.id for row in rows), max(row.id for row in rows)
    outside: dict[int, int] = _pairs(
        c.execute(
            select(step_t.c.job_id, func.sum(step_t.c.ended_at - step_t.c.started_at))
            .where(and_(step_t.c.job_id.between(low, high), step_t.c.kind.in_(OUTSIDE)))
            .group_by(step_t.c.job_id)
        )
    )
    written: dict[int, int] = _pairs(
        c.execute(
            select(delivery_t.c.job_id, func.min(delivery_t.c.written_at))
            .where(and_(delivery_t.c.job_id.between(low, high), delivery_t.c.written_at.is_not(None)))
            .group_by(delivery_t.c.job_id)
        )
    )
    found = []
    for row in rows:
        received = row.received_at or row.created_at
        end = written.get(row.id) or row.ended_at
        total = max(0, end - received)
        found.append(
            _Task(
                at=row.ended_at,
                status=row.status,
                bot=row.bot,
                model=row.model,
                job=row.title[:60] if row.kind.startswith("schedule") else row.kind,
                reason=row.reason,
                own=max(0, total - int(outside.get(row.id) or 0)),
                total=total,
                queue=max(0, (row.started_at or end) - received),
            )
        )
    return found


def _pairs(rows: Any) -> dict[Any, Any]:
    return {row[0]: row[1] for row in rows}
