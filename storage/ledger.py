"""The ledger: what entered, what was done for it, what is to be said. Owner of every write to these tables.

Crash points (`storage/crash.py`): accept.before, accept.committed, job.claimed, model.streaming, model.answered,
tool.before, tool.after, reply.before, outbox.committed, send.before, send.answered, delivered.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, and_, bindparam, or_, select, update

from storage.clock import Clock
from storage.crash import CrashPoints
from storage.database import Database, new_id
from storage.envelope import Inbound, Outgoing
from storage.errors import Lost
from storage.jobs import Accepted, DeliveryView, Ending, Finished, JobView, StepView, lane_of
from storage.ledger_rows import (
    NEW_CONVERSATION,
    NEW_JOB,
    NEW_MESSAGE,
    NEW_SEEN,
    NEW_STEP,
    conversation_t,
    delivery_t,
    job_t,
    message_t,
    say_all,
    seen_t,
    step_t,
    view_of,
)

OPEN = ("todo", "doing")
LASTING = (*OPEN, "waiting")

__all__ = [
    "LASTING",
    "OPEN",
    "Accepted",
    "DeliveryView",
    "Ending",
    "Finished",
    "JobView",
    "Ledger",
    "StepView",
    "conversation_t",
    "delivery_t",
    "job_t",
    "lane_of",
    "message_t",
    "seen_t",
    "step_t",
]

_SEEN = select(seen_t.c.job_id).where(
    and_(
        seen_t.c.tenant == bindparam("t"),
        seen_t.c.scope == bindparam("s"),
        seen_t.c.key.in_(bindparam("k", expanding=True)),
    )
)
_FIND = select(conversation_t.c.id, conversation_t.c.model, conversation_t.c.address).where(
    and_(
        conversation_t.c.tenant == bindparam("t"),
        conversation_t.c.bot == bindparam("b"),
        conversation_t.c.key == bindparam("k"),
    )
)
_TOUCH = (
    update(conversation_t)
    .where(conversation_t.c.id == bindparam("i"))
    .values(updated_at=bindparam("now"), address=bindparam("a"))
)
_CLAIM = (
    update(job_t)
    .where(and_(job_t.c.id == bindparam("i"), or_(job_t.c.status == OPEN[0], job_t.c.status == OPEN[1])))
    .values(status="doing", token=bindparam("tok"), attempts=job_t.c.attempts + 1, started_at=bindparam("now"))
)
_LINK = update(message_t).where(message_t.c.id == bindparam("i")).values(job_id=bindparam("job"))
_FINISH = (
    update(job_t)
    .where(and_(job_t.c.id == bindparam("i"), job_t.c.token == bindparam("tok")))
    .values(
        status=bindparam("st"),
        reason=bindparam("why"),
        detail=bindparam("more"),
        ended_at=bindparam("now"),
        token=None,
        model=bindparam("mod"),
        tokens_in=bindparam("t_in"),
        tokens_out=bindparam("t_out"),
        cost=bindparam("price"),
    )
)
_STEPS = select(step_t).where(step_t.c.job_id == bindparam("i")).order_by(step_t.c.n)
_HOLD = select(job_t.c.id).where(and_(job_t.c.id == bindparam("i"), job_t.c.token == bindparam("tok")))
_JOB = (
    select(
        job_t,
        conversation_t.c.address.label("conversation_address"),
        conversation_t.c.channel,
        conversation_t.c.model.label("conversation_model"),
    )
    .outerjoin(conversation_t, conversation_t.c.id == job_t.c.conversation_id)
    .where(job_t.c.id == bindparam("i"))
)


InFinish = Callable[[Connection, JobView, Ending, int], Sequence[DeliveryView]]
InDeadLetter = Callable[[Connection, DeliveryView, str, int], Sequence[DeliveryView]]


class Ledger:
    """Writes and reads the ledger. Times from the clock, ids from the database.

    `in_finish` and `in_dead_letter` take part in the transactions in which a job ends, and in which a delivery ends
    without a receipt: who must be told is in the outbox exactly if it happened. They must not raise.
    """

    def __init__(self, db: Database, clock: Clock, crash: CrashPoints | None = None) -> None:
        self.db, self.clock = db, clock
        self.crash = crash or CrashPoints()
        self.on_job: Callable[[JobView], None] = lambda job: None
        self.enlist: Callable[[Connection, JobView], None] = lambda c, job: None  # in the job's own transaction
        self.on_deliveries: Callable[[Sequence[DeliveryView]], None] = lambda rows: None
        self.in_finish: InFinish = lambda c, job, ending, now: ()
        self.in_dead_letter: InDeadLetter = lambda c, row, error, now: ()
        self.on_accepted: Callable[[str, float], None] = lambda channel, seconds: None

    # ---- entering

    async def accept(self, inbound: Inbound, *, kind: str = "message", payload: str = "{}") -> Accepted:
        """Write the message and its job in one transaction, then hand the job to the dispatcher.

        Safe to repeat: an inbound any of whose keys has entered before writes nothing.

        Raises:
            Unavailable: nothing was written; the vendor must not be acknowledged.
        """
        self.crash.reached("accept.before")
        now, began = self.clock.ms(), self.clock.monotonic()
        accepted, view = await self.db.write(
            lambda c: self._accept(c, inbound, kind, payload, now), urgent=True, shared=True
        )
        self.crash.reached("accept.committed")
        self.on_accepted(inbound.channel, self.clock.monotonic() - began)
        if view is not None:
            self.on_job(view)
        return accepted

    def enter(
        self, c: Connection, inbound: Inbound, *, kind: str, payload: str = "{}", lane: str = ""
    ) -> tuple[Accepted, JobView | None]:
        """As `accept`, inside the caller's transaction; the caller hands the job to `on_job` once it is committed.

        Args:
            lane: runs side by side with the conversation's other jobs; empty for the conversation's own.
        """
        return self._accept(c, inbound, kind, payload, self.clock.ms(), lane)

    def _accept(
        self, c: Connection, m: Inbound, kind: str, payload: str, now: int, lane: str = ""
    ) -> tuple[Accepted, JobView | None]:
        scope = f"{m.channel}:{m.bot}"
        keys = list(dict.fromkeys(m.keys))
        old = c.execute(_SEEN, {"t": m.tenant, "s": scope, "k": keys}).first()
        if old is not None:
            return Accepted(fresh=False, job_id=old.job_id), None
        lane = lane or lane_of(m.tenant, m.bot, m.conversation)
        found = c.execute(_FIND, {"t": m.tenant, "b": m.bot, "k": m.conversation}).first()
        title = " ".join(m.text.split())[:80]
        if found is None:
            made = c.execute(
                NEW_CONVERSATION,
                {
                    "tenant": m.tenant,
                    "bot": m.bot,
                    "channel": m.channel,
                    "key": m.conversation,
                    "kind": m.kind,
                    "person": m.sender if m.kind == "direct" else None,
                    "title": (m.title or title)[:80],
                    "address": m.address,
                    "model": m.model,
                    "summary": "",
                    "state": "open",
                    "created_at": now,
                    "updated_at": now,
                },
            )
            conversation, model = new_id(made), m.model
        else:
            conversation, model = found.id, m.model or found.model
            c.execute(_TOUCH, {"i": conversation, "now": now, "a": m.address})
        message = new_id(
            c.execute(
                NEW_MESSAGE,
                {
                    "tenant": m.tenant,
                    "conversation_id": conversation,
                    "direction": "in",
                    "channel": m.channel,
                    "vendor_id": m.vendor_id,
                    "sender": m.sender,
                    "sender_name": m.sender_name,
                    "text": m.text,
                    "parts": m.parts_json(),
                    "origin": str(m.origin),
                    "sent_at": m.sent_at or None,
                    "created_at": now,
                },
            )
        )
        key = f"{m.tenant}:{scope}:{keys[0]}"
        job = new_id(
            c.execute(
                NEW_JOB,
                {
                    "tenant": m.tenant,
                    "key": key,
                    "lane": lane,
                    "kind": kind,
                    "payload": payload,
                    "status": "todo",
                    "attempts": 0,
                    "owner": m.sender,
                    "conversation_id": conversation,
                    "message_id": message,
                    "bot": m.bot,
                    "address": m.address,
                    "title": title,
                    "model": model,
                    "reason": "",
                    "detail": "",
                    "received_at": now,
                    "created_at": now,
                },
            )
        )
        c.execute(_LINK, {"i": message, "job": job})
        c.execute(NEW_SEEN, [{"tenant": m.tenant, "scope": scope, "key": k, "job_id": job, "at": now} for k in keys])
        view = JobView(
            id=job,
            tenant=m.tenant,
            key=key,
            lane=lane,
            kind=kind,
            payload=payload,
            bot=m.bot,
            channel=m.channel,
            conversation_id=conversation,
            message_id=message,
            address=m.address,
            model=model,
            title=title,
            attempts=0,
            token="",
            received_at=now,
        )
        self.enlist(c, view)
        return Accepted(fresh=True, job_id=job, message_id=message, conversation_id=conversation), view

    async def add_job(
        self,
        *,
        tenant: str,
        key: str,
        lane: str,
        kind: str,
        payload: str,
        bot: str = "",
        owner: str = "",
        title: str = "",
        conversation_id: int | None = None,
    ) -> Accepted:
        """Enter work that is not a person's message (a push, a run of a schedule). `key` makes it happen once."""
        now = self.clock.ms()

        def fn(c: Connection) -> tuple[Accepted, JobView | None]:
            old = c.execute(select(job_t.c.id).where(job_t.c.key == key)).first()
            if old is not None:
                return Accepted(fresh=False, job_id=old.id), None
            job = new_id(
                c.execute(
                    NEW_JOB,
                    {
                        "tenant": tenant,
                        "key": key,
                        "lane": lane,
                        "kind": kind,
                        "payload": payload,
                        "status": "todo",
                        "attempts": 0,
                        "owner": owner,
                        "conversation_id": conversation_id,
                        "bot": bot,
                        "title": title[:80],
                        "model": "",
                        "reason": "",
                        "detail": "",
                        "received_at": now,
                        "created_at": now,
                    },
                )
            )
            view = view_of(c.execute(_JOB, {"i": job}).one(), "", ())
            self.enlist(c, view)
            return Accepted(fresh=True, job_id=job, conversation_id=conversation_id or 0), view

        accepted, view = await self.db.write(fn, shared=True)
        if view is not None:
            self.on_job(view)
        return accepted

    async def open_jobs(self) -> list[JobView]:
        """Jobs that have not ended, oldest first: what a starting process goes on with."""

        def fn(c: Connection) -> list[JobView]:
            query = (
                select(
                    job_t,
                    conversation_t.c.address.label("conversation_address"),
                    conversation_t.c.channel,
                    conversation_t.c.model.label("conversation_model"),
                )
                .outerjoin(conversation_t, conversation_t.c.id == job_t.c.conversation_id)
                .where(job_t.c.status.in_(OPEN))
                .order_by(job_t.c.id)
            )
            return [view_of(row, row.token or "", ()) for row in c.execute(query)]

        return await self.db.read(fn)

    # ---- running

    async def claim(self, job_id: int) -> JobView | None:
        """Take a job: a new token fences every earlier attempt. None if it has ended meanwhile."""
        token, now = secrets.token_hex(8), self.clock.ms()

        def fn(c: Connection) -> JobView | None:
            if c.execute(_CLAIM, {"i": job_id, "tok": token, "now": now}).rowcount != 1:
                return None
            row = c.execute(_JOB, {"i": job_id}).one()
            steps = (
                tuple(
                    StepView(n=s.n, name=s.name, kind=s.kind, status=s.status, request=s.request, result=s.result)
                    for s in c.execute(_STEPS, {"i": job_id})
                )
                if row.attempts > 1
                else ()
            )
            return view_of(row, token, steps)

        view = await self.db.write(fn, durable=False, shared=True)
        if view is not None:
            self.crash.reached("job.claimed")
        return view

    async def start_step(self, job: JobView, n: int, name: str, kind: str, request: str) -> None:
        """Record that a step that must not be repeated is about to run. On disk before it runs."""
        now = self.clock.ms()

        def fn(c: Connection) -> None:
            _hold(c, job)
            c.execute(step_t.delete().where(and_(step_t.c.job_id == job.id, step_t.c.n == n)))
            c.execute(
                NEW_STEP,
                {
                    "job_id": job.id,
                    "n": n,
                    "name": name,
                    "kind": kind,
                    "status": "started",
                    "request": request,
                    "result": "",
                    "started_at": now,
                },
            )

        await self.db.write(fn, shared=True)

    async def record_step(
        self,
        job: JobView,
        n: int,
        name: str,
        kind: str,
        request: str,
        result: str,
        started_at: int,
        *,
        status: str = "done",
        durable: bool = False,
    ) -> None:
        """Record a step's result, fenced.

        Raises:
            Lost: this attempt no longer holds the job; nothing was written.
        """
        now = self.clock.ms()

        def fn(c: Connection) -> None:
            _hold(c, job)
            c.execute(step_t.delete().where(and_(step_t.c.job_id == job.id, step_t.c.n == n)))
            c.execute(
                NEW_STEP,
                {
                    "job_id": job.id,
                    "n": n,
                    "name": name,
                    "kind": kind,
                    "status": status,
                    "request": request,
                    "result": result,
                    "started_at": started_at,
                    "ended_at": now,
                },
            )

        await self.db.write(fn, durable=durable, shared=True)

    async def finish(self, job: JobView, ending: Ending) -> Finished:
        """End a job: its outcome, its answer and the outbox rows in one transaction, then tell the sender.

        Raises:
            Lost: this attempt no longer holds the job; nothing was written.
        """
        now = self.clock.ms()
        self.crash.reached("reply.before")

        def fn(c: Connection) -> Finished:
            done = c.execute(
                _FINISH,
                {
                    "i": job.id,
                    "tok": job.token,
                    "st": ending.status,
                    "why": ending.reason,
                    "more": ending.detail[:4000],
                    "now": now,
                    "mod": ending.model or job.model,
                    "t_in": ending.tokens_in,
                    "t_out": ending.tokens_out,
                    "price": ending.cost,
                },
            )
            if done.rowcount != 1:
                raise Lost(job.id)
            said = say_all(c, job, ending.say, now)
            return replace(said, deliveries=(*said.deliveries, *self.in_finish(c, job, ending, now)))

        finished = await self.db.write(fn, shared=True)
        self.crash.reached("outbox.committed")
        self.on_deliveries(finished.deliveries)
        return finished

    def view(self, c: Connection, job_id: int) -> JobView:
        """A job as it stands, without its steps. Inside the caller's transaction."""
        return view_of(c.execute(_JOB, {"i": job_id}).one(), "", ())

    async def cancel(self, tenant: str, job_id: int, say: tuple[Outgoing, ...] = (), by: str = "") -> bool:
        """End an open job as cancelled, whoever holds it. False if it had ended already."""
        now = self.clock.ms()

        def fn(c: Connection) -> Finished | None:
            done = c.execute(
                update(job_t)
                .where(and_(job_t.c.id == job_id, job_t.c.tenant == tenant, job_t.c.status.in_((*OPEN, "waiting"))))
                .values(status="cancelled", token=None, reason="job.cancelled", detail=by, ended_at=now)
            )
            if done.rowcount != 1:
                return None
            return say_all(c, view_of(c.execute(_JOB, {"i": job_id}).one(), "", ()), say, now)

        finished = await self.db.write(fn, shared=True)
        if finished is None:
            return False
        self.on_deliveries(finished.deliveries)
        return True


def _hold(c: Connection, job: JobView) -> None:
    if c.execute(_HOLD, {"i": job.id, "tok": job.token}).first() is None:
        raise Lost(job.id)
