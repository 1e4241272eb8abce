"""Acts that wait for a person's word: asked once, decided once, and the job goes on or is told no."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, insert, select, update

from storage.audit import Audit
from storage.database import new_id
from storage.envelope import Outgoing
from storage.errors import Conflict, Denied, Lost, NotFound, Unavailable
from storage.jobs import Finished, JobView
from storage.ledger import Ledger, job_t
from storage.ledger_rows import say_all
from storage.principal import Principal
from storage.tables.approvals import Approval

approval_t = Approval.__table__  # type: ignore[attr-defined]

RIGHT = "approval.decide"
ASKER, APPROVER = "asker", "approver"
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
DIGITS = "23456789"
MOST_OPEN = 1_000
MOST_REQUEST = 20_000
SECONDS = 24 * 3600
_NAMES = (
    "id",
    "tenant",
    "job_id",
    "n",
    "tool",
    "request",
    "code",
    "status",
    "decides",
    "bot",
    "channel",
    "conversation_id",
    "person",
    "asked_at",
    "expires_at",
    "decided_at",
    "decided_by",
    "decided_name",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ApprovalView:
    """An act that waits, or waited, for a person's word. See `storage/tables/approvals.py`."""

    id: int
    tenant: str
    job_id: int
    n: int
    tool: str
    request: str
    code: str
    status: str
    decides: str
    bot: str
    channel: str
    conversation_id: int | None
    person: str
    asked_at: int
    expires_at: int
    decided_at: int | None
    decided_by: str
    decided_name: str

    def arguments(self) -> dict[str, Any]:
        """What the act would be done with."""
        found = json.loads(self.request)
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Decided:
    """What became of an approval. `fresh`: by this very call."""

    approval: ApprovalView
    fresh: bool


class Approvals:
    """The owner of the approval table. Whoever decides must be known by id; a button's value proves nothing."""

    def __init__(self, ledger: Ledger, audit: Audit) -> None:
        self.ledger, self.audit, self.db, self.clock = ledger, audit, ledger.db, ledger.clock

    async def ask(
        self,
        job: JobView,
        n: int,
        *,
        tool: str,
        request: str,
        person: str,
        decides: str,
        say: Callable[[ApprovalView], Outgoing | None],
        seconds: int = SECONDS,
    ) -> ApprovalView:
        """Write the question, let the job wait and put the message about it into the outbox, in one transaction.

        Raises:
            Lost: this attempt no longer holds the job. Conflict: `approval.many`, too many wait already.
        """
        now = self.clock.ms()

        def fn(c: Connection) -> tuple[ApprovalView, Finished]:
            _rest(c, job)
            open_ = and_(approval_t.c.tenant == job.tenant, approval_t.c.status == "asked")
            if c.execute(select(func.count()).select_from(approval_t).where(open_)).scalar_one() >= MOST_OPEN:
                raise Conflict("approval.many", most=MOST_OPEN)
            values = {
                "tenant": job.tenant,
                "job_id": job.id,
                "n": n,
                "tool": tool,
                "request": request[:MOST_REQUEST],
                "code": _code(c, job.tenant),
                "status": "asked",
                "decides": decides,
                "bot": job.bot,
                "channel": job.channel,
                "conversation_id": job.conversation_id,
                "person": person,
                "asked_at": now,
                "expires_at": now + seconds * 1000,
                "decided_by": "",
                "decided_name": "",
            }
            view = _get(c, job.tenant, new_id(c.execute(insert(approval_t).values(**values))))
            out = say(view)
            said = say_all(c, job, (out,), now, prefix=f"ask{view.id}-") if out is not None else Finished()
            return view, said

        view, said = await self.db.write(fn)
        self.ledger.on_deliveries(said.deliveries)
        return view

    async def find(self, job_id: int, n: int) -> ApprovalView | None:
        """The approval of a job's step."""
        query = select(approval_t).where(and_(approval_t.c.job_id == job_id, approval_t.c.n == n))
        row = await self.db.read(lambda c: c.execute(query).first())
        return None if row is None else _view(row)

    async def get(self, tenant: str, approval_id: int) -> ApprovalView:
        """One approval. Raises: NotFound."""
        return await self.db.read(lambda c: _get(c, tenant, approval_id))

    async def by_code(self, tenant: str, bot: str, code: str) -> ApprovalView | None:
        """The newest approval of a bot with this code, decided ones of the last days too."""
        query = (
            select(approval_t)
            .where(and_(approval_t.c.tenant == tenant, approval_t.c.bot == bot, approval_t.c.code == code.upper()))
            .order_by(approval_t.c.id.desc())
            .limit(1)
        )
        row = await self.db.read(lambda c: c.execute(query).first())
        return None if row is None else _view(row)

    async def open(
        self, tenant: str, *, person: str = "", conversation: int | None = None, limit: int = 200
    ) -> list[ApprovalView]:
        """What waits now, oldest first."""
        query = (
            select(approval_t)
            .join(job_t, job_t.c.id == approval_t.c.job_id)
            .where(and_(approval_t.c.tenant == tenant, approval_t.c.status == "asked", job_t.c.status == "waiting"))
            .order_by(approval_t.c.id)
            .limit(limit)
        )
        if person:
            query = query.where(and_(approval_t.c.person == person, approval_t.c.decides == ASKER))
        if conversation is not None:
            query = query.where(approval_t.c.conversation_id == conversation)
        return [_view(row) for row in await self.db.read(lambda c: c.execute(query).all())]

    async def decided(self, tenant: str, *, before: int | None = None, limit: int = 50) -> list[ApprovalView]:
        """What was decided or ran out, newest first; `before` is the id of the last one seen."""
        query = select(approval_t).where(and_(approval_t.c.tenant == tenant, approval_t.c.status != "asked"))
        if before is not None:
            query = query.where(approval_t.c.id < before)
        query = query.order_by(approval_t.c.id.desc()).limit(limit)
        return [_view(row) for row in await self.db.read(lambda c: c.execute(query).all())]

    async def decide(self, who: Principal, approval_id: int, approve: bool) -> Decided:
        """Say yes or no, once, and let the job go on. Safe to repeat: later words change and audit nothing.

        Right: approval.decide, or being the one who asked where the tool's policy leaves it to them.

        Raises:
            NotFound: `approval.unknown`. Denied: `approval.not_yours`. Conflict: `approval.over`, the task has ended.
        """
        now = self.clock.ms()

        def fn(c: Connection) -> tuple[Decided, JobView | None]:
            view = _get(c, who.tenant, approval_id)
            if not may_decide(who, view):
                raise Denied("approval.not_yours")
            if view.status != "asked":
                return Decided(approval=view, fresh=False), None
            expired = view.expires_at <= now
            job = self._resume(c, view.job_id)
            if job is None:
                raise Conflict("approval.over")
            status = "expired" if expired else "approved" if approve else "refused"
            self._close(c, view, status, who, now)
            return Decided(approval=_get(c, who.tenant, approval_id), fresh=not expired), job

        decided, job = await self.db.write(fn)
        if job is not None:
            self.ledger.on_job(job)
        return decided

    async def expire(self) -> int:
        """Let jobs go on for which nobody decided in time: they are told no. How many."""
        now = self.clock.ms()
        due = and_(approval_t.c.status == "asked", approval_t.c.expires_at <= now)

        def fn(c: Connection) -> list[JobView]:
            jobs = []
            for row in c.execute(select(approval_t).where(due).limit(100)).all():
                values = {"status": "expired", "decided_at": now}
                c.execute(update(approval_t).where(approval_t.c.id == row.id).values(**values))
                job = self._resume(c, row.job_id)
                if job is not None:
                    jobs.append(job)
            return jobs

        if await self.db.read(lambda c: c.execute(select(approval_t.c.id).where(due).limit(1)).first()) is None:
            return 0
        jobs = await self.db.write(fn)
        for job in jobs:
            self.ledger.on_job(job)
        return len(jobs)

    def _resume(self, c: Connection, job_id: int) -> JobView | None:
        """Let a waiting job go on after its last recorded step; None if it no longer waits."""
        waits = and_(job_t.c.id == job_id, job_t.c.status == "waiting")
        if c.execute(update(job_t).where(waits).values(status="todo", attempts=1)).rowcount != 1:
            return None
        view = self.ledger.view(c, job_id)
        self.ledger.enlist(c, view)
        return view

    def _close(self, c: Connection, view: ApprovalView, status: str, who: Principal, now: int) -> None:
        by = {} if status == "expired" else {"decided_by": who.id, "decided_name": who.name[:80]}
        mine = and_(approval_t.c.id == view.id, approval_t.c.status == "asked")
        c.execute(update(approval_t).where(mine).values(status=status, decided_at=now, **by))
        if by:
            after = {"status": status, "tool": view.tool, "job": view.job_id, "request": view.request[:2000]}
            self.audit.record(c, who, "approval.decide", f"approval:{view.id}", before="asked", after=after)


def may_decide(who: Principal, view: ApprovalView) -> bool:
    """True if this person's word counts."""
    return who.may(RIGHT) or (view.decides == ASKER and bool(view.person) and who.id == view.person)


def _rest(c: Connection, job: JobView) -> None:
    """Let a job wait: it has no holder any more."""
    held = and_(job_t.c.id == job.id, job_t.c.token == job.token)
    if c.execute(update(job_t).where(held).values(status="waiting", token=None)).rowcount != 1:
        raise Lost(job.id)


def _code(c: Connection, tenant: str) -> str:
    """Four characters that are easy to type and belong to nothing that waits."""
    for _ in range(50):
        code = "".join(secrets.choice(kind) for kind in (LETTERS, DIGITS, LETTERS, DIGITS))
        taken = and_(approval_t.c.tenant == tenant, approval_t.c.code == code, approval_t.c.status == "asked")
        if c.execute(select(approval_t.c.id).where(taken)).first() is None:
            return code
    raise Unavailable("approval.no_code")


def _get(c: Connection, tenant: str, approval_id: int) -> ApprovalView:
    mine = and_(approval_t.c.id == approval_id, approval_t.c.tenant == tenant)
    row = c.execute(select(approval_t).where(mine)).first()
    if row is None:
        raise NotFound("approval.unknown")
    return _view(row)


def _view(row: Any) -> ApprovalView:
    return ApprovalView(**{name: getattr(row, name) for name in _NAMES})


__all__ = ["APPROVER", "ASKER", "ApprovalView", "Approvals", "Decided", "may_decide"]
