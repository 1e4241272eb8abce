"""Tells a client's address that its task has ended: signed, repeated until it is taken, or given up with a reason."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Row, and_, delete, or_, select, update

from channels.exchange import send_once
from channels.webhook.signing import DELIVERY, SIGNATURE, TIMESTAMP, signature
from security.egress import Egress, Policy
from storage.background import Background
from storage.clock import Clock
from storage.database import Database
from storage.errors import AppError, OutcomeUnknown, Rejected, Throttled, Unavailable
from storage.ledger import job_t
from storage.tables.api import ApiTalk, ApiTask
from storage.vault import Vault

log = logging.getLogger(__name__)
task_t = ApiTask.__table__  # type: ignore[attr-defined]
talk_t = ApiTalk.__table__  # type: ignore[attr-defined]

ABROAD = Policy(plain=False, most_bytes=100_000, seconds=15)
INSIDE = Policy(private=True, most_bytes=100_000, seconds=15)
PAUSES = (5, 30, 120, 600, 1_800, 7_200, 21_600)
LEASE = 60_000
SIDE_BY_SIDE = 8
LOOK, REST = 2.0, 30.0
MOST_DUE = 24  # all of them fit into a lease
KEPT_DAYS = 30
TIDY_EVERY = 3_600_000

Told = Callable[[str, int], Awaitable[object]]
"""The task of a tenant by its job's number, as plain values; None if it is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Due:
    id: int
    tenant: str
    job: int
    url: str
    private: bool
    attempts: int
    secret: str


class Callbacks:
    """Owns the calls at the end of tasks. The rows are the queue: a restart loses none."""

    def __init__(
        self, *, db: Database, vault: Vault, clock: Clock, egress: Egress, background: Background, told: Told
    ) -> None:
        self.db, self.vault, self.clock, self.egress = db, vault, clock, egress
        self.background, self.told = background, told
        self._woken = asyncio.Event()
        self._slots = asyncio.Semaphore(SIDE_BY_SIDE)
        self._tidy_at = 0

    def start(self) -> None:
        """Go on with what is left from before, then with what comes."""
        _ = self.background.spawn("task callbacks", self._run())

    def wake(self) -> None:
        """A task with a callback was entered, or a task has ended."""
        self._woken.set()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            pending = True
            try:
                pending = await self.round()
                await self.tidy()
            except AppError as error:
                log.warning("callbacks wait: %s", error)
            try:
                async with asyncio.timeout(LOOK if pending else REST):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def round(self) -> bool:
        """Call all that are due. False if nothing waits any more."""
        now = self.clock.ms()
        due, pending = await self.db.write(lambda c: self._take(c, now), durable=False)
        if due:
            await asyncio.gather(*(self._one(one) for one in due))
        return pending

    async def tidy(self) -> None:
        """Forget, once an hour, which keys clients used a month ago."""
        now = self.clock.ms()
        if now < self._tidy_at:
            return
        self._tidy_at = now + TIDY_EVERY
        before = now - KEPT_DAYS * 86_400_000

        def fn(c: Connection) -> None:
            old = and_(task_t.c.created_at < before, task_t.c.callback == "pending")
            for row in c.execute(select(task_t.c.id, task_t.c.tenant).where(old).limit(1_000)).all():
                self.vault.remove(c, row.tenant, f"apitask:{row.id}")
            c.execute(delete(task_t).where(task_t.c.created_at < before))
            c.execute(delete(talk_t).where(talk_t.c.at < before))

        await self.db.write(fn, durable=False)

    def _take(self, c: Connection, now: int) -> tuple[list[_Due], bool]:
        """Lease what is due, so that a second process does not call as well."""
        waits = task_t.c.callback == "pending"
        pending = c.execute(select(task_t.c.id).where(waits).limit(1)).first() is not None
        if not pending:
            return [], False
        ended = job_t.c.status.not_in(("todo", "doing", "waiting"))
        query = (
            select(task_t, job_t.c.id.label("job"))
            .join(job_t, job_t.c.key == task_t.c.job_key)
            .where(and_(waits, ended, or_(task_t.c.next_at.is_(None), task_t.c.next_at <= now)))
            .order_by(task_t.c.id)
            .limit(MOST_DUE)
        )
        made = []
        for row in c.execute(query).all():
            free = and_(task_t.c.id == row.id, waits, or_(task_t.c.next_at.is_(None), task_t.c.next_at <= now))
            if c.execute(update(task_t).where(free).values(next_at=now + LEASE)).rowcount == 1:
                made.append(self._due(c, row))
        return made, True

    def _due(self, c: Connection, row: Row[Any]) -> _Due:
        return _Due(
            id=row.id,
            tenant=row.tenant,
            job=row.job,
            url=row.url,
            private=bool(row.private),
            attempts=row.attempts,
            secret=self.vault.open(c, row.tenant, f"apitask:{row.id}") or "",
        )

    async def _one(self, due: _Due) -> None:
        async with self._slots:
            error: AppError | None = None
            try:
                await self._call(due)
            except AppError as refusal:
                error = refusal
        await self._record(due, error)

    async def _call(self, due: _Due) -> None:
        """One call.

        Raises:
            Rejected: for good. Throttled, Unavailable, OutcomeUnknown: to be repeated; the receiver knows it again by
            its delivery id.
        """
        task = await self.told(due.tenant, due.job)
        stamp = str(self.clock.ms() // 1000)
        body = orjson.dumps({"event": "task.ended", "at": self.clock.ms(), "task": task})
        headers = {
            "content-type": "application/json",
            DELIVERY: f"task-{due.job}",
            TIMESTAMP: stamp,
            SIGNATURE: signature(due.secret, stamp, body),
        }
        policy = INSIDE if due.private else ABROAD
        answer = await send_once(self.egress, "POST", due.url, policy=policy, headers=headers, content=body)
        status = answer.status_code
        if 200 <= status < 300:
            return
        if status == 429:
            raise Throttled("callback.too_fast", status=status)
        if status in (408, 425) or status >= 500:
            raise Unavailable("callback.down", status=status)
        raise Rejected("callback.refused", status=status)

    async def _record(self, due: _Due, error: AppError | None) -> None:
        now, tries = self.clock.ms(), due.attempts + 1
        values: dict[str, object] = {"attempts": tries, "error": "" if error is None else error.code}
        again = isinstance(error, (Throttled, Unavailable, OutcomeUnknown)) and tries <= len(PAUSES)
        if again:
            values["next_at"] = now + PAUSES[tries - 1] * 1000
        else:
            values |= {"callback": "delivered" if error is None else "failed", "ended_at": now, "next_at": None}
        if error is not None:
            log.warning("callback of task %s: %s", due.job, error)

        def fn(c: Connection) -> None:
            c.execute(update(task_t).where(task_t.c.id == due.id).values(**values))
            if not again:
                self.vault.remove(c, due.tenant, f"apitask:{due.id}")

        await self.db.write(fn)
