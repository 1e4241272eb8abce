"""The queue and the outbox: what waits, what stands still, what failed for good, and the targets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, select

from security.health.row import Found, HealthTest, bad, good, unknown, warn
from storage.backlog import DAY, read_backlog
from storage.clock import Clock
from storage.database import Database
from storage.ledger_rows import delivery_t
from storage.principal import Principal

MOST_WAITING = 10
STALE_MS = 30_000
LONGEST_MS = 600_000
OUT_MS = 60_000
SUCCESS, OWN_MS = 0.995, 500
FEWEST = 20
MOST_AGAIN = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """Tasks of the last 24 hours, for the targets."""

    done: int
    failed: int
    own_ms: float | None
    worst: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """What the tests of the queue look at.

    Attributes:
        day: the figures of the last 24 hours.
        again: sends a failed delivery once more.
    """

    db: Database
    clock: Clock
    day: Callable[[], Awaitable[Day]]
    again: Callable[[str, int], Awaitable[bool]]


def queue_tests(queue: Queue) -> list[HealthTest]:
    """Tests of group `queue`."""

    async def resend(who: Principal, _subject: str) -> None:
        who.require("delivery.resend")
        for number in await queue.db.read(lambda c: _failed(c, who.tenant, queue.clock.ms())):
            await queue.again(who.tenant, number)

    return [
        HealthTest(id="queue.backlog", look=lambda: _backlog(queue)),
        HealthTest(id="queue.outbox", look=lambda: _outbox(queue)),
        HealthTest(id="queue.failed", look=lambda: _dead(queue), fix=resend),
        HealthTest(id="queue.success", look=lambda: _success(queue)),
        HealthTest(id="queue.own", look=lambda: _own(queue)),
    ]


async def _backlog(queue: Queue) -> Sequence[Found]:
    found = await queue.db.read(lambda c: read_backlog(c, queue.clock.ms()))
    seen = {"todo": found.todo, "doing": found.doing, "seconds": found.oldest // 1000, "most": MOST_WAITING}
    if found.longest > LONGEST_MS:
        return [warn("stuck", "/activity?status=open", minutes=found.longest // 60_000)]
    if found.todo and found.oldest > STALE_MS:
        return [bad("stale", "/activity?status=open", **seen)]
    return [warn("deep", "/activity?status=open", **seen) if found.todo >= MOST_WAITING else good("short", **seen)]


async def _outbox(queue: Queue) -> Sequence[Found]:
    found = await queue.db.read(lambda c: read_backlog(c, queue.clock.ms()))
    seen = {"count": found.outbox, "seconds": found.outbox_oldest // 1000}
    if not found.outbox or found.outbox_oldest <= OUT_MS:
        return [good("moves", **seen)]
    rows = await queue.db.read(_waiting)
    return [
        Found(
            status="warn",
            say="waits",
            params={**seen, "count": row.n, "why": row.error or "-"},
            subject=row.bot,
            to="/activity",
        )
        for row in rows
    ]


async def _dead(queue: Queue) -> Sequence[Found]:
    found = await queue.db.read(lambda c: read_backlog(c, queue.clock.ms()))
    if found.dead:
        params = {"count": found.dead, "unknown": found.unknown}
        to = "/activity?delivery=failed"
        return [Found(status="fail", say="failed", params=params, to=to, fixable=True)]
    if found.unknown:
        return [warn("unsure", "/activity?delivery=unknown", count=found.unknown)]
    return [good("none")]


async def _success(queue: Queue) -> Sequence[Found]:
    day = await queue.day()
    count = day.done + day.failed
    if not count:
        return [unknown("nothing")]
    share = day.done / count
    seen = {"share": f"{100 * share:.1f}", "count": count, "failed": day.failed, "goal": f"{100 * SUCCESS:.1f}"}
    if share >= SUCCESS:
        return [good("met", **seen)]
    make = bad if count >= FEWEST else warn
    return [make("missed", "/activity?status=failed", worst=day.worst or "-", **seen)]


async def _own(queue: Queue) -> Sequence[Found]:
    day = await queue.day()
    if day.own_ms is None:
        return [unknown("nothing")]
    seen = {"ms": round(day.own_ms), "goal": OWN_MS}
    return [good("met", **seen) if day.own_ms < OWN_MS else warn("missed", **seen)]


def _failed(c: Connection, tenant: str, now: int) -> list[int]:
    mine = and_(delivery_t.c.tenant == tenant, delivery_t.c.status == "failed", delivery_t.c.committed_at > now - DAY)
    return [row.id for row in c.execute(select(delivery_t.c.id).where(mine).limit(MOST_AGAIN))]


def _waiting(c: Connection) -> list[Any]:
    query = (
        select(delivery_t.c.bot, func.count().label("n"), func.max(delivery_t.c.error).label("error"))
        .where(delivery_t.c.status.in_(("pending", "sending")))
        .group_by(delivery_t.c.bot)
        .limit(50)
    )
    return list(c.execute(query))
