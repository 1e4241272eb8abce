"""What went in and out through bots, newest first, and what their connections did."""

from __future__ import annotations

import builtins
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from channels.history import Span, spans_of
from channels.registry import bot_t
from storage.clock import Clock
from storage.database import Database
from storage.ledger import conversation_t, delivery_t, job_t, message_t
from storage.outbox import Outbox
from storage.principal import Principal

WAYS = ("in", "out")
STATES = ("pending", "sending", "delivered", "failed", "unknown")
OWN = ("web", "api", "cron")
MOST_PAGE = 200
MOST_TEXT = 300
MOST_BOTS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class LogRow:
    """One message. `state` is the task's for one that came in, the delivery's for one that went out.

    Attributes:
        who: the sender's name or id; where it goes for a push.
        event: name of the event that a push tells of.
        job: the task, where there is one: its trace has the whole way.
        delivery: number in the outbox, for one that went out.
    """

    at: int
    way: str
    bot: str
    who: str
    text: str
    state: str
    event: str = ""
    job: int | None = None
    delivery: int | None = None
    error: str = ""
    detail: str = ""
    vendor_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFilter:
    """What is listed; empty values mean all. `before`: only what is older than this time in ms."""

    bot: str = ""
    way: str = ""
    state: str = ""
    search: str = ""
    before: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LogActions:
    """Use cases of the message log. What people said is only for those who may see traces."""

    db: Database
    clock: Clock
    outbox: Outbox

    async def list(self, who: Principal, chosen: LogFilter, *, limit: int = 50) -> builtins.list[LogRow]:
        """Messages of bots, newest first. Right: trace.view."""
        who.require("trace.view")
        limit = max(1, min(limit, MOST_PAGE))

        def fn(c: Connection) -> builtins.list[LogRow]:
            rows: builtins.list[LogRow] = []
            if chosen.way != "out" and not chosen.state:
                rows += _came(c, who.tenant, chosen, limit)
            if chosen.way != "in":
                rows += _went(c, who.tenant, chosen, limit)
            return sorted(rows, key=lambda row: row.at, reverse=True)[:limit]

        return await self.db.read(fn)

    async def resend(self, who: Principal, delivery: int) -> bool:
        """Send a failed or unknown delivery again. Right: delivery.resend. False if it is in neither state."""
        who.require("delivery.resend")
        return await self.outbox.again(who.tenant, delivery)

    async def connections(self, who: Principal, *, bot: str = "", ms: int) -> Sequence[tuple[str, Sequence[Span]]]:
        """What each bot's connection did in the last `ms`, by name. Right: bot.view."""
        who.require("bot.view")
        since = self.clock.ms() - ms

        def fn(c: Connection) -> builtins.list[tuple[str, Sequence[Span]]]:
            query = select(bot_t.c.id, bot_t.c.name).where(bot_t.c.tenant == who.tenant).order_by(bot_t.c.name)
            if bot:
                query = query.where(bot_t.c.name == bot)
            return [(row.name, spans_of(c, row.id, since)) for row in c.execute(query.limit(MOST_BOTS)).all()]

        return await self.db.read(fn)


def _came(c: Connection, tenant: str, chosen: LogFilter, limit: int) -> list[LogRow]:
    query = (
        select(message_t, conversation_t.c.bot, job_t.c.status)
        .join(conversation_t, conversation_t.c.id == message_t.c.conversation_id)
        .outerjoin(job_t, job_t.c.id == message_t.c.job_id)
        .where(and_(message_t.c.tenant == tenant, message_t.c.direction == "in", conversation_t.c.channel.not_in(OWN)))
        .order_by(message_t.c.created_at.desc(), message_t.c.id.desc())
        .limit(limit)
    )
    if chosen.bot:
        query = query.where(conversation_t.c.bot == chosen.bot)
    if chosen.before is not None:
        query = query.where(message_t.c.created_at < chosen.before)
    if chosen.search:
        named = or_(
            message_t.c.text.contains(chosen.search, autoescape=True),
            message_t.c.sender_name.contains(chosen.search, autoescape=True),
            message_t.c.sender == chosen.search,
        )
        query = query.where(named)
    return [
        LogRow(
            at=row.created_at,
            way="in",
            bot=row.bot,
            who=row.sender_name or row.sender,
            text=row.text[:MOST_TEXT],
            state=row.status or "",
            job=row.job_id,
        )
        for row in c.execute(query)
    ]


def _went(c: Connection, tenant: str, chosen: LogFilter, limit: int) -> list[LogRow]:
    query = (
        select(delivery_t)
        .where(and_(delivery_t.c.tenant == tenant, delivery_t.c.status != "split", delivery_t.c.channel.not_in(OWN)))
        .order_by(delivery_t.c.committed_at.desc(), delivery_t.c.id.desc())
        .limit(limit)
    )
    if chosen.bot:
        query = query.where(delivery_t.c.bot == chosen.bot)
    if chosen.state:
        query = query.where(delivery_t.c.status == chosen.state)
    if chosen.before is not None:
        query = query.where(delivery_t.c.committed_at < chosen.before)
    if chosen.search:
        query = query.where(delivery_t.c.payload.contains(chosen.search, autoescape=True))
    return [_delivery(row) for row in c.execute(query)]


def _delivery(row: Any) -> LogRow:
    text = str(json.loads(row.payload).get("text", ""))
    return LogRow(
        at=row.committed_at,
        way="out",
        bot=row.bot,
        who=row.lane.rpartition("push:")[2] if "push:" in row.lane else "",
        text=text[:MOST_TEXT],
        state=row.status,
        event=row.event,
        job=row.job_id,
        delivery=row.id,
        error=row.error,
        detail=row.detail,
        vendor_id=row.vendor_id,
    )
