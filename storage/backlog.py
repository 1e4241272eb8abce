"""How much waits: tasks that have not begun, deliveries that have not gone out, and what failed for good."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, func, select

from storage.ledger_rows import delivery_t, job_t

DAY = 86_400_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Backlog:
    """A look at the ledger. Ages in ms; 0 where nothing waits.

    Attributes:
        todo, doing: tasks not begun, and those being worked on.
        oldest: how long the oldest task waits to begin. longest: how long the longest one has been worked on.
        outbox, outbox_oldest: deliveries on their way.
        dead, unknown: deliveries of the last 24 hours that failed for good, or whose outcome is unknown.
    """

    todo: int = 0
    doing: int = 0
    oldest: int = 0
    longest: int = 0
    outbox: int = 0
    outbox_oldest: int = 0
    dead: int = 0
    unknown: int = 0


def read_backlog(c: Connection, now: int, tenant: str = "") -> Backlog:
    """Count what is open, of one tenant or of all."""
    jobs = and_(job_t.c.status.in_(("todo", "doing")), *([job_t.c.tenant == tenant] if tenant else []))
    open_ = {
        row.status: row
        for row in c.execute(
            select(
                job_t.c.status,
                func.count().label("n"),
                func.min(job_t.c.created_at).label("made"),
                func.min(job_t.c.started_at).label("begun"),
            )
            .where(jobs)
            .group_by(job_t.c.status)
        )
    }
    todo, doing = open_.get("todo"), open_.get("doing")
    sent = and_(delivery_t.c.status.in_(("pending", "sending")), *([delivery_t.c.tenant == tenant] if tenant else []))
    out = c.execute(select(func.count().label("n"), func.min(delivery_t.c.committed_at).label("at")).where(sent)).one()
    late = and_(delivery_t.c.committed_at > now - DAY, *([delivery_t.c.tenant == tenant] if tenant else []))
    bad = c.execute(
        select(
            func.sum(case((delivery_t.c.status == "failed", 1), else_=0)).label("dead"),
            func.sum(case((delivery_t.c.status == "unknown", 1), else_=0)).label("unknown"),
        ).where(late)
    ).one()
    return Backlog(
        todo=todo.n if todo else 0,
        doing=doing.n if doing else 0,
        oldest=max(0, now - todo.made) if todo else 0,
        longest=max(0, now - (doing.begun or now)) if doing else 0,
        outbox=int(out.n),
        outbox_oldest=max(0, now - out.at) if out.at else 0,
        dead=int(bad.dead or 0),
        unknown=int(bad.unknown or 0),
    )
