"""Messages that a person or a program has a bot say to somebody: sent once, listed with their receipts."""

from __future__ import annotations

import builtins
import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select

from channels.registry import bot_t
from channels.targets import address_of
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.envelope import Outgoing
from storage.errors import Conflict, Invalid, NotFound
from storage.ledger import delivery_t, lane_of
from storage.outbox import Outbox
from storage.principal import Principal

MOST_CHARS = 20_000
MOST_TITLE = 200
MOST_TARGET = 200
MOST_KEY = 200
MOST_PAGE = 200
STATUSES = ("pending", "sending", "delivered", "failed", "unknown")


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageView:
    """A message on its way. *Delivered* means that the vendor returned `vendor_id`. Times in ms."""

    id: int
    bot: str
    channel: str
    status: str
    title: str
    text: str
    vendor_id: str
    error: str
    attempts: int
    task: int | None
    created_at: int
    written_at: int | None
    ended_at: int | None
    next_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """A message in the outbox. `fresh` is False if the same request had come before."""

    message: MessageView
    fresh: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a bot writes to."""

    bot: str
    channel: str
    address: str
    model: str


class MessageActions:
    """Use cases of the API around messages by bots."""

    def __init__(self, *, db: Database, audit: Audit, clock: Clock, outbox: Outbox) -> None:
        self.db, self.audit, self.clock, self.outbox = db, audit, clock, outbox

    async def place(self, who: Principal, bot: str, target: str) -> Place:
        """A bot's address of somebody. Right: message.send.

        Raises:
            NotFound: `bot.unknown`. Invalid: `<type>.target_form`, for the field `target`.
        """
        who.require("message.send")
        name = bot[:60]
        query = select(bot_t.c.type, bot_t.c.model).where(and_(bot_t.c.tenant == who.tenant, bot_t.c.name == name))
        row = await self.db.read(lambda c: c.execute(query).first())
        if row is None:
            raise NotFound("bot.unknown", name=name)
        if len(target) > MOST_TARGET or not target.isprintable():
            raise Invalid("message.target", field="target", most=MOST_TARGET)
        try:
            address = address_of(row.type, target)
        except Invalid as error:
            raise Invalid(error.code, field="target", **error.params) from error
        return Place(bot=name, channel=row.type, address=address, model=row.model or "")

    async def send(self, who: Principal, *, bot: str, target: str, text: str, title: str = "", key: str = "") -> Sent:
        """Have a bot say something to somebody who did not ask. Right: message.send.

        Args:
            key: the client's idempotency key: asked again with it, the same message is given back.

        Raises:
            Invalid: `message.*`, with the field. NotFound: the bot. Conflict: `task.key_reused`.
        """
        place = await self.place(who, bot, target)
        text, title = text.strip(), " ".join(title.split())
        if not text:
            raise Invalid("message.empty", field="text")
        if len(text) > MOST_CHARS:
            raise Invalid("message.too_long", field="text", limit=MOST_CHARS)
        if len(title) > MOST_TITLE:
            raise Invalid("message.too_long", field="title", limit=MOST_TITLE)
        if key and (len(key) > MOST_KEY or not key.isascii() or not key.isprintable()):
            raise Invalid("task.key", field="Idempotency-Key", most=MOST_KEY)
        out = Outgoing(kind="push", text=text, title=title)
        hashed = hashlib.sha256(key.encode()).hexdigest()[:40] if key else f"once-{secrets.token_hex(16)}"
        unique = f"{_mine(who)}{hashed}"
        pushed = await self.outbox.push(
            tenant=who.tenant,
            bot=place.bot,
            channel=place.channel,
            lane=lane_of(who.tenant, place.bot, f"push:{target.strip()}"),
            key=unique,
            address=place.address,
            out=out,
        )
        if pushed is not None:
            after = {"target": target[:128], "chars": len(text)}
            await self.db.write(lambda c: self.audit.record(c, who, "message.send", place.bot, after=after))
        row = await self.db.read(lambda c: c.execute(select(delivery_t).where(delivery_t.c.key == unique)).one())
        if (row.payload, row.address, row.bot) != (out.to_json(), place.address, place.bot):
            raise Conflict("task.key_reused")
        return Sent(message=_view(row), fresh=pushed is not None)

    async def get(self, who: Principal, number: int) -> MessageView:
        """One message. Right: message.send for one's own, trace.view for all. Raises: NotFound."""
        if not who.may("trace.view"):
            who.require("message.send")
        query = select(delivery_t).where(and_(delivery_t.c.id == number, delivery_t.c.tenant == who.tenant))
        row = await self.db.read(lambda c: c.execute(query).first())
        if row is None or not (who.may("trace.view") or row.key.startswith(_mine(who))):
            raise NotFound("message.unknown")
        return _view(row)

    async def list(
        self, who: Principal, *, bot: str = "", status: str = "", before: int | None = None, limit: int = 50
    ) -> builtins.list[MessageView]:
        """Messages of all bots, answers too, newest first; without trace.view only those that one had sent oneself.

        Right: message.send or trace.view.
        """
        if not who.may("trace.view"):
            who.require("message.send")
        where = [delivery_t.c.tenant == who.tenant, delivery_t.c.status != "split"]
        if not who.may("trace.view"):
            where.append(delivery_t.c.key.startswith(_mine(who), autoescape=True))
        if bot:
            where.append(delivery_t.c.bot == bot[:60])
        if status:
            where.append(delivery_t.c.status == status)
        if before is not None:
            where.append(delivery_t.c.id < before)
        query = select(delivery_t).where(and_(*where)).order_by(delivery_t.c.id.desc())

        def fn(c: Connection) -> builtins.list[MessageView]:
            return [_view(row) for row in c.execute(query.limit(max(1, min(limit, MOST_PAGE))))]

        return await self.db.read(fn)


def _mine(who: Principal) -> str:
    return f"push:{who.tenant}:{who.id}:"


def _view(row: Any) -> MessageView:
    said = json.loads(row.payload)
    return MessageView(
        id=row.id,
        bot=row.bot,
        channel=row.channel,
        status=row.status,
        title=said.get("title", ""),
        text=said.get("text", ""),
        vendor_id=row.vendor_id,
        error=row.error,
        attempts=row.attempts,
        task=row.job_id,
        created_at=row.committed_at,
        written_at=row.written_at,
        ended_at=row.ended_at,
        next_at=row.next_at,
    )
