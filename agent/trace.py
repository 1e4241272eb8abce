"""A message's way with its times, and the list of tasks: what happened, why was it slow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, func, select

from agent.actions import MOST_PAGE, StepRow, steps_of, stop_job
from storage.clock import Clock
from storage.database import Database
from storage.errors import NotFound
from storage.ledger import OPEN, Ledger, conversation_t, delivery_t, job_t, message_t, step_t
from storage.live import Live
from storage.outbox import Outbox
from storage.principal import Principal
from storage.runner import Runner
from storage.words import Words

DAY = 86_400_000


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRow:
    """A task in a list. `own_ms` is our share: total less the time spent in model and tools."""

    id: int
    status: str
    title: str
    channel: str
    bot: str
    model: str
    reason: str
    received_at: int
    ended_at: int | None
    own_ms: int | None
    delivery: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stretch of a message's way. `name`: received, claimed, recall, model, tool, reply, written, delivered."""

    name: str
    label: str
    at: int
    ms: int
    ok: bool = True
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryRow:
    """A delivery with the vendor's receipt or the reason why there is none."""

    id: int
    status: str
    vendor_id: str
    error: str
    detail: str
    attempts: int
    committed_at: int
    written_at: int | None
    ended_at: int | None
    next_at: int | None
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceView:
    """Everything about one task."""

    job: JobRow
    conversation_id: int | None
    attempts: int
    text: str
    sender: str
    tokens_in: int
    tokens_out: int
    cost: float
    detail: str
    stages: tuple[Stage, ...]
    steps: tuple[StepRow, ...]
    deliveries: tuple[DeliveryRow, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class OverviewView:
    """The last 24 hours in figures. `success` is None while nothing has ended."""

    total: int
    done: int
    failed: int
    success: float | None
    own_ms: float | None
    backlog: int
    cost_today: float
    dead_letters: int
    unknown: int
    by_hour: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceActions:
    """What a person may see and do about tasks."""

    db: Database
    ledger: Ledger
    outbox: Outbox
    runner: Runner
    live: Live
    clock: Clock
    words: Words

    async def trace(self, who: Principal, job_id: int) -> TraceView:
        """A task with all its stages. A person without `trace.view` sees only their own.

        Raises: NotFound.
        """
        who.require("chat.use")
        return await self.db.read(lambda c: _trace(c, who, job_id))

    async def recent(
        self,
        who: Principal,
        *,
        limit: int = 50,
        before: int | None = None,
        status: str = "",
        delivery: str = "",
        bot: str = "",
        search: str = "",
    ) -> list[JobRow]:
        """Tasks, newest first; `before` is the id of the last one seen. Right: trace.view.

        Args:
            delivery: only tasks with a delivery in this state: `failed`, `unknown`, `pending`.
        """
        who.require("trace.view")
        query = (
            select(job_t).where(job_t.c.tenant == who.tenant).order_by(job_t.c.id.desc()).limit(min(limit, MOST_PAGE))
        )
        if before is not None:
            query = query.where(job_t.c.id < before)
        if status == "open":
            query = query.where(job_t.c.status.in_(OPEN))
        elif status:
            query = query.where(job_t.c.status == status)
        if delivery:
            states = ("pending", "sending") if delivery == "pending" else (delivery,)
            sent = select(delivery_t.c.job_id).where(
                and_(delivery_t.c.tenant == who.tenant, delivery_t.c.status.in_(states))
            )
            query = query.where(job_t.c.id.in_(sent))
        if bot:
            query = query.where(job_t.c.bot == bot)
        if search.strip():
            query = query.where(job_t.c.title.contains(search.strip()[:100], autoescape=True))
        return await self.db.read(lambda c: _rows(c, list(c.execute(query))))

    async def cancel(self, who: Principal, job_id: int) -> bool:
        """Stop a task; the sender is told. Right: task.manage. Safe to repeat. Raises: NotFound."""
        who.require("task.manage")
        row = await self.db.read(
            lambda c: c.execute(
                select(job_t.c.conversation_id).where(and_(job_t.c.id == job_id, job_t.c.tenant == who.tenant))
            ).first()
        )
        if row is None:
            raise NotFound("job.unknown")
        return await stop_job(self.ledger, self.runner, self.live, self.words, who, job_id, row.conversation_id)

    async def resend(self, who: Principal, delivery_id: int) -> bool:
        """Send a failed or unknown delivery again. Right: delivery.resend. False if it is in neither state."""
        who.require("delivery.resend")
        return await self.outbox.again(who.tenant, delivery_id)

    async def overview(self, who: Principal) -> OverviewView:
        """Figures of the last 24 hours. Right: overview.view."""
        who.require("overview.view")
        now = self.clock.ms()
        return await self.db.read(lambda c: _overview(c, who.tenant, now))


def _trace(c: Connection, who: Principal, job_id: int) -> TraceView:
    job = c.execute(select(job_t).where(and_(job_t.c.id == job_id, job_t.c.tenant == who.tenant))).first()
    if job is None or not (who.may("trace.view") or job.owner == who.id):
        raise NotFound("job.unknown")
    message = c.execute(select(message_t).where(message_t.c.id == job.message_id)).first()
    steps = steps_of(c, job_id)
    deliveries = list(
        c.execute(
            select(delivery_t)
            .where(and_(delivery_t.c.job_id == job_id, delivery_t.c.status != "split"))
            .order_by(delivery_t.c.id)
        )
    )
    return TraceView(
        job=_rows(c, [job])[0],
        conversation_id=job.conversation_id,
        attempts=job.attempts,
        text=message.text if message is not None else job.title,
        sender=message.sender_name if message is not None else "",
        tokens_in=job.tokens_in,
        tokens_out=job.tokens_out,
        cost=job.cost,
        detail=job.detail,
        stages=tuple(_stages(job, steps, deliveries)),
        steps=tuple(steps),
        deliveries=tuple(_delivery(row) for row in deliveries),
    )


def _delivery(row: Any) -> DeliveryRow:
    text = json.loads(row.payload).get("text", "")
    return DeliveryRow(
        id=int(row.id or 0),
        status=row.status,
        vendor_id=row.vendor_id,
        error=row.error,
        detail=row.detail,
        attempts=row.attempts,
        committed_at=row.committed_at,
        written_at=row.written_at,
        ended_at=row.ended_at,
        next_at=row.next_at,
        text=text[:500],
    )


def _stages(job: Any, steps: list[StepRow], deliveries: list[Any]) -> list[Stage]:
    received = job.received_at or job.created_at
    stages = [Stage(name="received", label="", at=received, ms=0)]
    if job.started_at:
        stages.append(Stage(name="claimed", label="", at=received, ms=max(0, job.started_at - received)))
    for step in steps:
        took = (step.ended_at or step.started_at) - step.started_at
        ok, detail = True, ""
        if step.kind == "model" and step.result:
            raw = json.loads(step.result)
            detail = f"{raw.get('model') or raw.get('ref', '')} · {raw.get('first_token_ms', 0)} ms"
        elif step.kind == "tool" and step.result:
            ok = bool(json.loads(step.result).get("ok", True))
        stages.append(Stage(name=step.kind, label=step.name, at=step.started_at, ms=took, ok=ok, detail=detail))
    for row in deliveries:
        last = steps[-1].ended_at if steps and steps[-1].ended_at else (job.started_at or received)
        stages.append(Stage(name="reply", label="", at=last, ms=max(0, row.committed_at - last)))
        if row.written_at:
            stages.append(
                Stage(name="written", label="", at=row.committed_at, ms=max(0, row.written_at - row.committed_at))
            )
        if row.ended_at and row.written_at:
            stages.append(
                Stage(
                    name=row.status,
                    label=row.vendor_id,
                    at=row.written_at,
                    ms=max(0, row.ended_at - row.written_at),
                    ok=row.status == "delivered",
                    detail=row.error,
                )
            )
    return stages


def _rows(c: Connection, jobs: list[Any]) -> list[JobRow]:
    if not jobs:
        return []
    ids = [job.id for job in jobs]
    outside: dict[int, int] = _pairs(
        c.execute(
            select(step_t.c.job_id, func.sum(step_t.c.ended_at - step_t.c.started_at))
            .where(and_(step_t.c.job_id.in_(ids), step_t.c.kind.in_(("model", "tool", "approval"))))
            .group_by(step_t.c.job_id)
        ).all()
    )
    sent: dict[int, tuple[str, int | None]] = {}
    for row in c.execute(
        select(delivery_t.c.job_id, delivery_t.c.status, delivery_t.c.written_at)
        .where(and_(delivery_t.c.job_id.in_(ids), delivery_t.c.status != "split"))
        .order_by(delivery_t.c.id)
    ):
        sent.setdefault(row.job_id, (row.status, row.written_at))
    channels: dict[int, str] = _pairs(
        c.execute(
            select(conversation_t.c.id, conversation_t.c.channel).where(
                conversation_t.c.id.in_([job.conversation_id for job in jobs if job.conversation_id])
            )
        ).all()
    )
    out = []
    for job in jobs:
        received = job.received_at or job.created_at
        status, written = sent.get(int(job.id or 0), ("", None))
        end = written or job.ended_at
        own = max(0, end - received - int(outside.get(job.id) or 0)) if end else None
        out.append(
            JobRow(
                id=int(job.id or 0),
                status=job.status,
                title=job.title,
                channel=channels.get(job.conversation_id or 0, job.kind),
                bot=job.bot,
                model=job.model,
                reason=job.reason,
                received_at=received,
                ended_at=job.ended_at,
                own_ms=own,
                delivery=status,
            )
        )
    return out


def _overview(c: Connection, tenant: str, now: int) -> OverviewView:
    since = now - DAY
    ended = and_(job_t.c.tenant == tenant, job_t.c.ended_at >= since)
    counts: dict[str, int] = _pairs(
        c.execute(select(job_t.c.status, func.count()).where(ended).group_by(job_t.c.status)).all()
    )
    done, failed = int(counts.get("done", 0)), int(counts.get("failed", 0))
    backlog = c.execute(
        select(func.count()).where(and_(job_t.c.tenant == tenant, job_t.c.status == "todo"))
    ).scalar_one()
    cost = c.execute(select(func.coalesce(func.sum(job_t.c.cost), 0.0)).where(ended)).scalar_one()
    bad: dict[str, int] = _pairs(
        c.execute(
            select(delivery_t.c.status, func.count())
            .where(
                and_(
                    delivery_t.c.tenant == tenant,
                    delivery_t.c.committed_at >= since,
                    delivery_t.c.status.in_(("failed", "unknown")),
                )
            )
            .group_by(delivery_t.c.status)
        ).all()
    )
    sample = _rows(c, list(c.execute(select(job_t).where(ended).order_by(job_t.c.id.desc()).limit(200))))
    own = [row.own_ms for row in sample if row.own_ms is not None]
    hour = (job_t.c.ended_at - since) / 3_600_000
    by_hour = c.execute(
        select(
            func.floor(hour).label("h") if c.dialect.name == "postgresql" else hour.label("h"),
            func.count(),
            func.sum(case((job_t.c.status == "failed", 1), else_=0)),
        )
        .where(ended)
        .group_by("h")
        .order_by("h")
    ).all()
    return OverviewView(
        total=sum(counts.values()),
        done=done,
        failed=failed,
        success=done / (done + failed) if done + failed else None,
        own_ms=sum(own) / len(own) if own else None,
        backlog=int(backlog),
        cost_today=float(cost),
        dead_letters=int(bad.get("failed", 0)),
        unknown=int(bad.get("unknown", 0)),
        by_hour=tuple((int(h), int(n), int(f or 0)) for h, n, f in by_hour),
    )


def _pairs(rows: Any) -> dict[Any, Any]:
    return {row[0]: row[1] for row in rows}
