"""A task as another program sees it: state, answer, steps, receipts. Read in one snapshot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select

from agent.actions import steps_of
from storage.ledger import conversation_t, delivery_t, job_t, message_t
from storage.principal import Principal
from storage.tables.api import ApiTask

task_t = ApiTask.__table__  # type: ignore[attr-defined]
MOST_SHOWN = 2_000
UNNAMED = "~"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskStep:
    """A recorded step. `request` and `result` only of tools, shortened."""

    n: int
    name: str
    kind: str
    status: str
    ok: bool
    request: str
    result: str
    started_at: int
    ended_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskDelivery:
    """Where an answer stands on its way. *Delivered* means that the vendor returned `vendor_id`."""

    id: int
    status: str
    vendor_id: str
    error: str
    attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskCallback:
    """The signed call at the task's end. status: pending, delivered, failed."""

    status: str
    attempts: int
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRow:
    """A task in a list. Times in ms since the epoch, UTC."""

    id: int
    status: str
    kind: str
    title: str
    bot: str
    model: str
    reason: str
    created_at: int
    started_at: int | None
    ended_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskView:
    """A task whole.

    Attributes:
        status: todo, doing, waiting (for a person), done, failed, refused, cancelled.
        reason: code of the error where it was not done.
        conversation: the name that the client gave it; empty where it gave none.
    """

    id: int
    status: str
    kind: str
    text: str
    answer: str
    reason: str
    bot: str
    conversation: str
    model: str
    tokens_in: int
    tokens_out: int
    cost: float
    created_at: int
    started_at: int | None
    ended_at: int | None
    steps: tuple[TaskStep, ...]
    deliveries: tuple[TaskDelivery, ...]
    callback: TaskCallback | None

    @property
    def open(self) -> bool:
        """True while it has not ended."""
        return self.status in ("todo", "doing", "waiting")


def sees(who: Principal, job: Any) -> bool:
    """One's own tasks, and with trace.view all of the tenant."""
    return job is not None and (job.owner == who.id or who.may("trace.view"))


def job_seen(c: Connection, who: Principal, job_id: int) -> Any:
    """The job's row if this principal may see it, else None."""
    row = c.execute(select(job_t).where(and_(job_t.c.id == job_id, job_t.c.tenant == who.tenant))).first()
    return row if sees(who, row) else None


def rows_of(jobs: Sequence[Any]) -> list[TaskRow]:
    """Rows of a list."""
    names = ("id", "status", "kind", "title", "bot", "model", "reason", "created_at", "started_at", "ended_at")
    return [TaskRow(**{name: getattr(job, name) for name in names}) for job in jobs]


def view_of_task(c: Connection, job: Any) -> TaskView:
    """Everything about a job's row."""
    asked = c.execute(select(message_t.c.text).where(message_t.c.id == job.message_id)).first()
    said = c.execute(
        select(message_t.c.text)
        .where(and_(message_t.c.job_id == job.id, message_t.c.direction == "out"))
        .order_by(message_t.c.id)
        .limit(50)
    ).all()
    sent = c.execute(
        select(delivery_t)
        .where(and_(delivery_t.c.job_id == job.id, delivery_t.c.status != "split"))
        .order_by(delivery_t.c.id)
        .limit(200)
    ).all()
    talk = c.execute(select(conversation_t.c.key).where(conversation_t.c.id == job.conversation_id)).first()
    callback = c.execute(select(task_t).where(task_t.c.job_key == job.key)).first()
    return TaskView(
        id=job.id,
        status=job.status,
        kind=job.kind,
        text=job.title if asked is None else asked.text,
        answer="\n\n".join(row.text for row in said if row.text),
        reason=job.reason,
        bot=job.bot,
        conversation="" if talk is None else _name(talk.key, job.owner),
        model=job.model,
        tokens_in=job.tokens_in,
        tokens_out=job.tokens_out,
        cost=job.cost,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        steps=tuple(_step(step) for step in steps_of(c, job.id)),
        deliveries=tuple(
            TaskDelivery(id=d.id, status=d.status, vendor_id=d.vendor_id, error=d.error, attempts=d.attempts)
            for d in sent
        ),
        callback=None
        if callback is None or not callback.callback
        else TaskCallback(status=callback.callback, attempts=callback.attempts, error=callback.error),
    )


def _name(key: str, owner: str) -> str:
    head, _, name = key.partition("/")
    return name if head == owner and not name.startswith(UNNAMED) else ""


def _step(step: Any) -> TaskStep:
    ok, result = step.status == "done", ""
    if step.kind == "tool" and step.result:
        raw = json.loads(step.result)
        ok, result = bool(raw.get("ok", True)), str(raw.get("text", ""))
    return TaskStep(
        n=step.n,
        name=step.name,
        kind=step.kind,
        status=step.status,
        ok=ok,
        request=step.request[:MOST_SHOWN] if step.kind == "tool" else "",
        result=result[:MOST_SHOWN],
        started_at=step.started_at,
        ended_at=step.ended_at,
    )
