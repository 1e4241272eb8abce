"""Events of other systems on their way in: verified, once, turned into a task or a message."""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from dataclasses import dataclass, field

import orjson
from sqlalchemy import Connection, and_, insert, select

from channels.base import RawRequest
from channels.targets import address_of
from channels.webhook.pace import Buckets
from channels.webhook.proof import verify
from channels.webhook.signing import DELIVERY
from channels.webhook.template import fill, find, shown
from storage.clock import Clock
from storage.database import Database
from storage.envelope import Inbound, Origin, Outgoing, Part
from storage.errors import AppError, Invalid, NotFound, TooLarge
from storage.ledger import Ledger, lane_of, seen_t
from storage.outbox import Outbox
from storage.principal import TENANT
from storage.tables.bots import Bot
from storage.tables.hooks import Hook
from storage.vault import Vault

hook_t = Hook.__table__  # type: ignore[attr-defined]
bot_t = Bot.__table__  # type: ignore[attr-defined]

MOST_BYTES = 1_000_000
MOST_CALLS = 50
LONGEST_NAME = 63
KEPT_BOT = "hooks"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A hook as a call needs it. Lives in memory only."""

    id: int
    tenant: str
    name: str
    scheme: str
    turns: str
    template: str
    id_path: str
    bot: str
    bot_type: str
    target: str
    paused: bool
    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call as the hook's page lists it. `code` is empty for an accepted one."""

    at: int
    ip: str
    size: int
    code: str = ""
    fresh: bool = True
    job_id: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What a call became. `fresh` is False if the same event had come before."""

    fresh: bool
    job_id: int = 0


class HookReceiver:
    """Receives calls to `/hooks/<name>`."""

    def __init__(self, db: Database, vault: Vault, clock: Clock, ledger: Ledger) -> None:
        self.db, self.vault, self.clock, self.ledger = db, vault, clock, ledger
        self.outbox = Outbox(ledger)
        self._knocks = Buckets(clock, burst=60, per_minute=120)
        self._calls: dict[str, deque[Call]] = {}

    async def receive(self, name: str, request: RawRequest) -> Taken:
        """Verify, parse, enter. Only after this returns may the caller be told that it was accepted.

        Safe to repeat: the same event (by its id, or by its signature) enters once.

        Raises:
            NotFound, Throttled, Unauthenticated, TooLarge, Invalid: nothing was stored.
            Unavailable: nothing was stored; the caller should try again.
        """
        if len(request.body) > MOST_BYTES:
            raise TooLarge("hook.size", most=MOST_BYTES)
        if len(name) > LONGEST_NAME:
            raise NotFound("hook.unknown")
        self._knocks.take(f"{name}\n{request.ip}")
        entry = await self.db.read(lambda c: self._entry(c, name))
        if entry is None:
            raise NotFound("hook.unknown")
        try:
            taken = await self._enter(entry, request)
        except AppError as error:
            self._note(name, Call(at=self.clock.ms(), ip=request.ip, size=len(request.body), code=error.code))
            raise
        call = Call(at=self.clock.ms(), ip=request.ip, size=len(request.body), fresh=taken.fresh, job_id=taken.job_id)
        self._note(name, call)
        return taken

    def calls(self, name: str) -> list[Call]:
        """The last calls of a hook, newest first, since the process started."""
        return list(reversed(self._calls.get(name, ())))

    def forget(self, name: str) -> None:
        """A hook is gone."""
        self._calls.pop(name, None)

    def _note(self, name: str, call: Call) -> None:
        self._calls.setdefault(name, deque(maxlen=MOST_CALLS)).append(call)

    def _entry(self, c: Connection, name: str) -> Entry | None:
        query = (
            select(hook_t, bot_t.c.type.label("bot_type"))
            .outerjoin(bot_t, and_(bot_t.c.tenant == hook_t.c.tenant, bot_t.c.name == hook_t.c.bot))
            .where(hook_t.c.name == name)
        )
        row = c.execute(query).first()
        if row is None:
            return None
        return Entry(
            id=row.id,
            tenant=row.tenant,
            name=row.name,
            scheme=row.scheme,
            turns=row.turns,
            template=row.template,
            id_path=row.id_path,
            bot=row.bot,
            bot_type=row.bot_type or "",
            target=row.target,
            paused=row.paused_at is not None,
            secret=self.vault.open(c, row.tenant, f"hook:{row.id}:secret") or "",
        )

    async def _enter(self, entry: Entry, request: RawRequest) -> Taken:
        seal = verify(entry.scheme, entry.secret, request.headers, request.body, self.clock.ms())
        if entry.paused:
            raise NotFound("hook.paused")
        if entry.bot and not entry.bot_type:
            raise Invalid("hook.bot_gone", bot=entry.bot)
        document = parse(request.body)
        keys = self._keys(entry, request, document, seal)
        text = fill(entry.template, document).text.strip()
        if not text:
            raise Invalid("hook.nothing")
        if entry.turns == "message":
            return await self._push(entry, keys, text)
        accepted = await self.ledger.accept(self._inbound(entry, keys, text))
        return Taken(fresh=accepted.fresh, job_id=accepted.job_id)

    def _keys(self, entry: Entry, request: RawRequest, document: object, seal: str) -> list[str]:
        """Every id under which this event may come again, the caller's own first."""
        own = request.headers.get(DELIVERY, "")
        if entry.id_path:
            there, value = find(document, entry.id_path)
            own = shown(value) if there else own
        ids = [f"id:{hashlib.sha256(own.encode()).hexdigest()[:40]}"] if own else []
        ids += [f"call:{seal}"] if seal else []
        # a bearer call without an id: every call is an event of its own
        return [f"hook:{entry.id}:{key}" for key in ids or [f"at:{secrets.token_hex(16)}"]]

    def _inbound(self, entry: Entry, keys: list[str], text: str) -> Inbound:
        told = bool(entry.bot)
        return Inbound(
            tenant=entry.tenant,
            bot=entry.bot if told else KEPT_BOT,
            channel=entry.bot_type if told else "api",
            keys=tuple(keys),
            vendor_id="",
            conversation=f"hook:{entry.name}",
            kind="direct",
            sender=f"hook:{entry.name}",
            sender_name=entry.name,
            parts=(Part(kind="text", text=text, origin=Origin.OUTSIDE),),
            sent_at=self.clock.ms(),
            address=address_of(entry.bot_type, entry.target) if told else "{}",
            origin=Origin.OUTSIDE,
            title=entry.name,
        )

    async def _push(self, entry: Entry, keys: list[str], text: str) -> Taken:
        """A message without the agent. The outbox knows its key; further keys are remembered beside it."""
        if not entry.bot:
            raise Invalid("hook.no_bot")
        scope = f"hook:{entry.id}"

        def known(c: Connection) -> bool:
            query = select(seen_t.c.key).where(
                and_(seen_t.c.tenant == entry.tenant, seen_t.c.scope == scope, seen_t.c.key.in_(keys))
            )
            return c.execute(query).first() is not None

        if await self.db.read(known):
            return Taken(fresh=False)
        pushed = await self.outbox.push(
            tenant=entry.tenant,
            bot=entry.bot,
            channel=entry.bot_type,
            lane=lane_of(entry.tenant, entry.bot, f"hook:{entry.name}"),
            key=keys[0],
            address=address_of(entry.bot_type, entry.target),
            out=Outgoing(kind="push", text=text),
            event="hook",
        )
        if pushed is None:
            return Taken(fresh=False)
        now = self.clock.ms()

        def remember(c: Connection) -> None:
            query = select(seen_t.c.key).where(
                and_(seen_t.c.tenant == entry.tenant, seen_t.c.scope == scope, seen_t.c.key.in_(keys))
            )
            known = {row.key for row in c.execute(query)}
            for key in keys:
                if key not in known:
                    row = {"tenant": entry.tenant, "scope": scope, "key": key, "job_id": 0, "at": now}
                    c.execute(insert(seen_t), row)

        await self.db.write(remember)
        return Taken(fresh=True)


def parse(body: bytes) -> object:
    """The body's JSON. Raises `Invalid` `hook.json`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid("hook.json") from error


__all__ = ["MOST_BYTES", "TENANT", "Call", "HookReceiver", "Taken"]
