"""What is being worked on right now, step by step, and what waits its turn."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select

from storage.database import Database
from storage.ledger import OPEN, job_t, step_t
from storage.principal import Principal

MOST = 30
MOST_STEPS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A step that is done: `recall`, `model`, `tool`, `plan`; `name` of the tool."""

    kind: str
    name: str
    ms: int
    ok: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenTask:
    """A task that has not ended.

    Attributes:
        status: `todo`, `doing` or `waiting` (for a person).
        now: what it is at: `queue`, `recall`, `model`, `tool`, `person`; `tool` names it.
        since: when that began, in ms.
    """

    id: int
    status: str
    title: str
    bot: str
    received_at: int
    done: tuple[Done, ...]
    now: str
    tool: str
    since: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenTasks:
    """Reads what is open."""

    db: Database

    async def list(self, who: Principal) -> list[OpenTask]:
        """What runs, then what waits, each the oldest first; 30 at most. Right: trace.view."""
        who.require("trace.view")
        found = await self.db.read(lambda c: _open(c, who.tenant))
        return sorted(found, key=lambda task: (task.status == "todo", task.id))[:MOST]


def _open(c: Connection, tenant: str) -> list[OpenTask]:
    mine = and_(job_t.c.tenant == tenant, job_t.c.status.in_(OPEN))
    doing = c.execute(select(job_t).where(mine, job_t.c.status == "doing").order_by(job_t.c.id).limit(MOST)).all()
    todo = c.execute(select(job_t).where(mine, job_t.c.status == "todo").order_by(job_t.c.id).limit(MOST)).all()
    steps: dict[int, list[Any]] = defaultdict(list)
    ids = [job.id for job in doing]
    for row in c.execute(select(step_t).where(step_t.c.job_id.in_(ids)).order_by(step_t.c.job_id, step_t.c.n)):
        steps[row.job_id].append(row)
    return [_task(job, steps[job.id]) for job in (*doing, *todo)]


def _task(job: Any, steps: list[Any]) -> OpenTask:
    ended = [step for step in steps if step.ended_at is not None]
    now, tool = _now(job.status, steps)
    begun = next((step.started_at for step in steps if step.ended_at is None), 0)
    last = ended[-1].ended_at if ended else job.started_at
    return OpenTask(
        id=job.id,
        status=job.status,
        title=job.title,
        bot=job.bot,
        received_at=job.received_at or job.created_at,
        done=tuple(_done(step) for step in ended[-MOST_STEPS:]),
        now=now,
        tool=tool,
        since=begun or last or job.received_at or job.created_at,
    )


def _done(step: Any) -> Done:
    ok = bool(_read(step.result).get("ok", True)) if step.kind == "tool" else True
    return Done(kind=step.kind, name=step.name, ms=max(0, step.ended_at - step.started_at), ok=ok)


def _now(status: str, steps: list[Any]) -> tuple[str, str]:
    """What comes after the recorded steps: each model answer names the tools that it wants."""
    if status == "todo":
        return "queue", ""
    if not steps:
        return "recall", ""
    if steps[-1].ended_at is None:
        return "tool", steps[-1].name
    place = max((n for n, step in enumerate(steps) if step.kind == "model"), default=-1)
    if place < 0:
        return "model", ""
    calls = _read(steps[place].result).get("calls") or []
    run = sum(step.kind in ("tool", "plan") for step in steps[place + 1 :])
    if run < len(calls) and isinstance(calls[run], dict):
        return "tool", str(calls[run].get("name", ""))
    return "model", ""


def _read(result: str) -> dict[str, Any]:
    try:
        found = json.loads(result)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
