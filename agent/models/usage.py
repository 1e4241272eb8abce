"""What model calls use: recorded in batches; where a monthly limit holds, reserved before the call, settled after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from agent.models import preferences
from agent.models.base import Completed, ModelChoice, ModelRequest, Spender
from agent.models.limits import Limits, month_start
from agent.models.tokens import at_most
from storage.background import Background
from storage.clock import Clock
from storage.database import Database, new_id
from storage.errors import AppError, Conflict
from storage.tables.models import Usage

log = logging.getLogger(__name__)
usage_t = Usage.__table__  # type: ignore[attr-defined]
FLUSH_SECONDS = 1.0
MOST_PENDING = 20_000
MOST_TOGETHER = 500
RESERVED_MS = 3_600_000
LIMITED_TOKENS = 4096
RESERVED = "reserved"


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One call as it is written down. `outcome`: `ok`, `cached`, `cancelled`, or the error's code."""

    at: int
    spender: Spender
    provider: str
    model: str
    tokens_in: int
    tokens_out: int
    cost: float
    first_token_ms: int | None
    total_ms: int
    outcome: str

    def columns(self) -> dict[str, object]:
        """The row's values."""
        return {
            "tenant": self.spender.tenant,
            "bot": self.spender.bot,
            "person": self.spender.person,
            "job_id": self.spender.job_id,
            **{
                name: getattr(self, name)
                for name in ("at", "provider", "model", "tokens_in", "tokens_out", "cost", "first_token_ms", "total_ms")
            },
            "outcome": self.outcome,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticket:
    """A call that has begun. `row`: its reservation, if there is one."""

    spender: Spender
    choice: ModelChoice
    request: ModelRequest
    started: float
    row: int | None = None


class Spending:
    """Counts calls and keeps limits.

    Args:
        limits: a tenant's limits; the router knows them.

    `in_write` takes part in the transaction that writes calls down; it must not raise.
    """

    def __init__(self, *, db: Database, clock: Clock, background: Background, limits: Callable[[str], Limits]) -> None:
        self.db, self.clock, self.background, self.limits = db, clock, background, limits
        self.listeners: list[Callable[[Record], None]] = []
        self.in_write: Callable[[Connection, Sequence[Record]], None] = lambda c, records: None
        self._pending: list[tuple[int | None, Record]] = []
        self._now: asyncio.Task[None] | None = None
        self._later: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    async def begin(self, choice: ModelChoice, request: ModelRequest) -> Ticket | None:
        """Begin a call; where a limit holds, keep back the most that it can cost. None if nobody spends.

        The ticket's `request` is to be used: under a limit the answer's length is always bounded.

        Raises:
            Conflict: `budget.bot`, `budget.person`; nothing was called.
        """
        spender = request.spender
        if spender is None:
            return None
        ticket = Ticket(spender=spender, choice=choice, request=request, started=self.clock.monotonic())
        limits = self.limits(spender.tenant)
        bot, person = limits.bot(spender.bot), limits.person(spender.person)
        if (bot is None and person is None) or not (choice.price_in or choice.price_out):
            return ticket
        tokens = request.max_tokens or int(choice.extra.get("max_tokens") or 0) or LIMITED_TOKENS
        request = replace(request, max_tokens=tokens)
        most = cost_of(choice, at_most(request), tokens)
        row = await self.db.write(lambda c: self._reserve(c, ticket, most, bot, person), durable=False)
        return replace(ticket, request=request, row=row)

    def settle(self, ticket: Ticket | None, done: Completed) -> None:
        """A call was answered. Returns at once; it is written down shortly."""
        if ticket is None:
            return
        self._add(
            ticket,
            tokens_in=done.tokens_in,
            tokens_out=done.tokens_out,
            first=done.first_token_ms,
            total=done.total_ms,
            outcome="ok",
        )

    def cached(self, spender: Spender, choice: ModelChoice) -> None:
        """An answer came from the cache: it cost nothing."""
        ticket = Ticket(
            spender=spender, choice=choice, request=ModelRequest(messages=()), started=self.clock.monotonic()
        )
        self._add(ticket, tokens_in=0, tokens_out=0, first=None, total=0, outcome="cached")

    def failed(self, ticket: Ticket | None, outcome: str, *, chars: int) -> None:
        """A call failed or was cancelled. What had streamed is estimated, for vendors charge for it."""
        if ticket is None:
            return
        self._add(
            ticket,
            tokens_in=at_most(ticket.request) // 2 if chars else 0,
            tokens_out=chars // 2,
            first=None,
            total=round((self.clock.monotonic() - ticket.started) * 1000),
            outcome=outcome,
        )

    async def flush(self) -> None:
        """Write down what waits; returns when it is done."""
        async with self._writing:
            while self._pending:
                batch, self._pending = self._pending[:MOST_TOGETHER], self._pending[MOST_TOGETHER:]
                try:
                    await self.db.write(lambda c, batch=batch: self._write(c, batch), durable=False)  # type: ignore[misc]
                except AppError as error:
                    log.warning("usage of %s calls waits: %s", len(batch), error)
                    self._pending = (batch + self._pending)[-MOST_PENDING:]
                    return

    # --- inside

    def _write(self, c: Connection, batch: list[tuple[int | None, Record]]) -> None:
        _write(c, batch)
        self.in_write(c, [record for _, record in batch])

    def _add(
        self, ticket: Ticket, *, tokens_in: int, tokens_out: int, first: int | None, total: int, outcome: str
    ) -> None:
        choice = ticket.choice
        record = Record(
            at=self.clock.ms(),
            spender=ticket.spender,
            provider=choice.provider,
            model=choice.model.name,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost=cost_of(choice, tokens_in, tokens_out),
            first_token_ms=first,
            total_ms=total,
            outcome=outcome,
        )
        for listener in self.listeners:
            listener(record)
        self._pending.append((ticket.row, record))
        if len(self._pending) > MOST_PENDING:
            log.error("usage of a call is lost: the database has not taken any for long")
            del self._pending[0]
        if ticket.row is not None:
            # a reservation is given back at once, so that it does not stand in others' way
            if not self._writing.locked():
                self._now = self.background.spawn("usage", self.flush())
        elif self._later is None or self._later.done():
            self._later = self.background.spawn("usage", self._soon())

    async def _soon(self) -> None:
        await asyncio.sleep(FLUSH_SECONDS)
        await self.flush()

    def _reserve(self, c: Connection, ticket: Ticket, most: float, bot: float | None, person: float | None) -> int:
        spender, now = ticket.spender, self.clock.ms()
        if c.dialect.name != "sqlite":  # one at a time; SQLite has one writer anyway
            c.execute(
                select(preferences.setting_t.c.key)
                .where(
                    and_(
                        preferences.setting_t.c.tenant == spender.tenant,
                        preferences.setting_t.c.key == preferences.LIMITS,
                    )
                )
                .with_for_update()
            )
        for limit, column, name, code in (
            (bot, usage_t.c.bot, spender.bot, "budget.bot"),
            (person, usage_t.c.person, spender.person, "budget.person"),
        ):
            if limit is not None and _spent(c, spender.tenant, column, name, now) + most > limit:
                raise Conflict(code, limit=f"{limit:g}")
        row = Record(
            at=now,
            spender=spender,
            provider=ticket.choice.provider,
            model=ticket.choice.model.name,
            tokens_in=0,
            tokens_out=0,
            cost=most,
            first_token_ms=None,
            total_ms=0,
            outcome=RESERVED,
        )
        return new_id(c.execute(insert(usage_t).values(row.columns())))


def cost_of(choice: ModelChoice, tokens_in: int, tokens_out: int) -> float:
    """CNY of a call."""
    return (tokens_in * choice.price_in + tokens_out * choice.price_out) / 1_000_000


def spent(c: Connection, tenant: str, *, bot: str = "", person: str = "", now: int) -> float:
    """CNY of this month so far, reservations included, of a bot or a person."""
    if bot:
        return _spent(c, tenant, usage_t.c.bot, bot, now)
    return _spent(c, tenant, usage_t.c.person, person, now)


def _spent(c: Connection, tenant: str, column: Any, name: str, now: int) -> float:
    counts = or_(usage_t.c.outcome != RESERVED, usage_t.c.at > now - RESERVED_MS)  # a crash leaves some behind
    mine = and_(usage_t.c.tenant == tenant, column == name, usage_t.c.at >= month_start(now))
    return float(c.execute(select(func.sum(usage_t.c.cost)).where(and_(mine, counts))).scalar() or 0.0)


def _write(c: Connection, batch: list[tuple[int | None, Record]]) -> None:
    new = [record.columns() for row, record in batch if row is None]
    if new:
        c.execute(insert(usage_t), new)
    for row, record in batch:
        if row is not None:
            c.execute(update(usage_t).where(usage_t.c.id == row).values(record.columns()))
