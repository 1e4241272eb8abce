"""What the traces hold about a task, a model call and a delivery; and what counts as long."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from agent.models.usage import RESERVED, usage_t
from storage.ledger import OPEN, delivery_t, job_t, step_t

MOST = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Long:
    """From when on something is a case. Milliseconds, tokens; tests scale the times down."""

    task: int = 20_000
    first: int = 10_000
    model: int = 15_000
    own: int = 2_000
    outbox: int = 30_000
    tokens_out: int = 1_500
    tokens_in: int = 20_000
    per_second: float = 8.0
    turns: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One model call of a task. `outcome`: `ok`, or why it failed."""

    model: str
    outcome: str
    first: int
    total: int
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskCase:
    """One task. Times in ms; `total` until now where it is open."""

    id: int
    at: int
    status: str
    reason: str
    detail: str
    bot: str
    attempts: int
    total: int
    queue: int
    tools: dict[str, int] = field(default_factory=dict)
    model: int = 0
    calls: tuple[Call, ...] = ()

    @property
    def own(self) -> int:
        """Neither waiting, nor in models or tools."""
        return max(0, self.total - self.queue - self.model - sum(self.tools.values()))


@dataclass(frozen=True, kw_only=True, slots=True)
class PushCase:
    """One delivery. `waiting` in ms while it is not sent."""

    id: int
    job: int
    at: int
    bot: str
    channel: str
    status: str
    error: str
    detail: str
    waiting: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BotCase:
    """What a bot's pulse says now. `called`: its vendor calls us."""

    name: str
    type: str
    called: bool
    paused: bool
    connection: str
    last_in: int | None
    last_error: str
    last_error_at: int | None
    params: dict[str, str] = field(default_factory=dict)


def read_tasks(c: Connection, tenant: str, since: int, now: int) -> list[TaskCase]:
    """The newest tasks that ended since then, or are open."""
    mine = and_(job_t.c.tenant == tenant, or_(job_t.c.ended_at >= since, job_t.c.status.in_(OPEN)))
    jobs = c.execute(select(job_t).where(mine).order_by(job_t.c.id.desc()).limit(MOST)).all()
    ids = [job.id for job in jobs]
    times: dict[int, list[Any]] = defaultdict(list)
    for row in c.execute(select(step_t).where(step_t.c.job_id.in_(ids)).order_by(step_t.c.job_id, step_t.c.n)):
        times[row.job_id].append(row)
    used: dict[int, list[Any]] = defaultdict(list)
    spent = and_(usage_t.c.job_id.in_(ids), usage_t.c.outcome != RESERVED)
    for row in c.execute(select(usage_t).where(spent).order_by(usage_t.c.id)):
        used[row.job_id].append(row)
    return [_task(job, times[job.id], used[job.id], now) for job in jobs]


def _task(job: Any, steps: list[Any], used: list[Any], now: int) -> TaskCase:
    received = job.received_at or job.created_at
    end = job.ended_at or now
    calls = tuple(
        Call(
            model=f"{row.provider}/{row.model}",
            outcome=row.outcome,
            first=row.first_token_ms or 0,
            total=row.total_ms,
            tokens_in=row.tokens_in,
            tokens_out=row.tokens_out,
        )
        for row in used
        if row.outcome != "cached"
    )
    tools: dict[str, int] = defaultdict(int)
    for step in steps:
        if step.kind == "tool":
            tools[step.name] += (step.ended_at or end) - step.started_at
    model = sum((step.ended_at or end) - step.started_at for step in steps if step.kind == "model")
    failed = sum(call.total for call in calls if call.outcome != "ok")
    person = sum((step.ended_at or end) - step.started_at for step in steps if step.kind == "approval")
    return TaskCase(
        id=job.id,
        at=received,
        status=job.status,
        reason=job.reason,
        detail=job.detail,
        bot=job.bot,
        attempts=job.attempts,
        total=max(0, end - received - person),  # nobody is late who waits for a person
        queue=max(0, (job.started_at or end) - received) if job.attempts <= 1 else 0,
        tools=dict(tools),
        model=max(model, failed if job.status != "done" else 0),  # a failed call leaves no step
        calls=calls,
    )


def read_pushes(c: Connection, tenant: str, since: int, now: int) -> tuple[list[PushCase], int]:
    """Deliveries that failed, are unknown, or wait with an error, newest first; and how many there were in all."""
    mine = and_(delivery_t.c.tenant == tenant, delivery_t.c.committed_at >= since, delivery_t.c.status != "split")
    query = select(delivery_t).where(mine).order_by(delivery_t.c.id.desc()).limit(4 * MOST)
    rows = c.execute(query).all()
    cases = [
        PushCase(
            id=row.id,
            job=row.job_id or 0,
            at=row.committed_at,
            bot=row.bot,
            channel=row.channel,
            status=row.status,
            error=row.error,
            detail=row.detail,
            waiting=now - row.committed_at if row.status in ("pending", "sending") else 0,
        )
        for row in rows
        if row.status != "delivered"
    ]
    return cases[:MOST], len(rows)
