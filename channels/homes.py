"""In which process a bot lives, where several share the work: its long connection, its outbox, its growing cards.

Every process knows every bot and takes callbacks for it. The one that holds the bot's lease is its home. So a vendor
sees one connection and one sender that keeps its pace, and another process takes over once the lease is free.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from sqlalchemy import Connection, select

from channels.base import BotConfig, Channel
from channels.bot_view import CALLED
from channels.registry import Bots, bot_t, state_t
from channels.sender import Sender
from storage.background import Background
from storage.bus import Bus
from storage.database import Database
from storage.follow import Follow
from storage.leases import Leases
from storage.ledger import DeliveryView, delivery_t
from storage.outbox import OPEN, view

log = logging.getLogger(__name__)

LOOK_EVERY = 3.0
SETTLE_EVERY = 0.05
LEFT_FOR = 30.0
ORPHANS = "bot:0"  # deliveries of bots that are gone
PROOF = ("connection", "last_in", "last_out", "last_error", "last_error_at", "reconnects", "identity", "checked_at")

Name = tuple[str, str]


class BotHomes:
    """Ties leases, bots and sender. Build it after them, start it after the bots."""

    def __init__(
        self, db: Database, bots: Bots, sender: Sender, leases: Leases, bus: Bus, follow: Follow, background: Background
    ) -> None:
        self.db, self.bots, self.sender, self.leases = db, bots, sender, leases
        self.bus, self.follow, self.background = bus, follow, background
        self._here: set[int] = set()
        self._known: dict[Name, tuple[int, int]] = {}  # id and time of the last change, as in the rows
        self._left: dict[int, float] = {}
        self._running: list[asyncio.Task[None]] = []
        bots.may_connect = self._may_connect
        bots.on_change(lambda tenant, name: follow.soon("bots noted", self._note))
        sender.mine = self._mine
        sender.on_left = self._note_left
        leases.on_change(self._leased)
        bus.hear("outbox", lambda _: self._look_soon())
        follow.tables("bots", ("bot", "secret"), self._sync)
        follow.tables("bot states", ("botstate",), self._proofs)

    def here(self, tenant: str, name: str) -> bool:
        """True if this process is the home of a bot, or of what is left of bots that are gone."""
        config = self.bots.config(tenant, name)
        return self._holds(0 if config is None else config.id)

    def channel(self, tenant: str, name: str) -> Channel | None:
        """The running bot, in its home only."""
        return self.bots.channel(tenant, name) if self.here(tenant, name) else None

    def submit(self, rows: Sequence[DeliveryView]) -> None:
        """Deliveries have been committed. Returns at once.

        They are taken from the database, not from here: another process may have committed earlier ones of the
        same conversation.
        """
        if any(self.here(row.tenant, row.bot) for row in rows):
            self._look_soon()
        if not all(self.here(row.tenant, row.bot) for row in rows):
            self.bus.tell("outbox")

    async def start(self) -> None:
        """Ask to be home to every bot."""
        self._known = await self.db.read(_rows)
        self._want()
        self._running = [self.background.spawn("outbox look", self._watch())]

    async def stop(self) -> None:
        """Look no more. The leases go when they are stopped."""
        for task in self._running:
            task.cancel()

    # ---- leases

    def _holds(self, bot: int) -> bool:
        return bot in self._here and self.leases.holds(f"bot:{bot}")

    def _mine(self, row: DeliveryView) -> bool:
        return self.here(row.tenant, row.bot)

    def _may_connect(self, config: BotConfig) -> bool:
        return config.mode in CALLED or self._holds(config.id)

    def _want(self) -> None:
        self.leases.want([ORPHANS, *(f"bot:{bot}" for bot, _ in self._known.values())], kind="bot")

    def _leased(self, name: str, held: bool) -> None:
        kind, _, number = name.partition(":")
        if kind == "bot":
            bot = int(number)
            if not held:
                self._here.discard(bot)
            _ = self.background.spawn(f"home of {name}", self._moved(bot))

    async def _moved(self, bot: int) -> None:
        """A bot has come or gone."""
        found = next((key for key, (number, _) in self._known.items() if number == bot), None)
        if found is not None:
            self.sender.wake(*found)
        while bot not in self._here and self.leases.holds(f"bot:{bot}"):
            # what was begun here before must be over, or it would be done again from what is read now
            if not (found and self.sender.waiting(found[1])):
                self._here.add(bot)
                break
            await asyncio.sleep(SETTLE_EVERY)
        config = None if found is None else self.bots.config(*found)
        if config is not None and config.mode not in CALLED:
            await self.bots.reload(config.tenant, config.name)
        if bot in self._here:
            self._look_soon()

    # ---- bots

    async def _note(self) -> None:
        self._known = await self.db.read(_rows)
        self._want()

    async def _sync(self) -> None:
        """Start, replace and stop the bots that another process has changed."""
        before, self._known = self._known, await self.db.read(_rows)
        for key in sorted({*before, *self._known}):
            if before.get(key) != self._known.get(key):
                await self.bots.reload(*key)
        self._want()

    async def _proofs(self) -> None:
        """Show the proof of life of bots that live elsewhere."""
        states = {row.bot_id: row for row in await self.db.read(lambda c: c.execute(select(state_t)).all())}
        for config in self.bots.all():
            pulse, state = self.bots.pulse(config.tenant, config.name), states.get(config.id)
            if pulse is not None and state is not None and not self._holds(config.id):
                for name in PROOF:
                    setattr(pulse, name, getattr(state, name))

    # ---- outbox

    async def _watch(self) -> None:
        while True:
            self._look_soon()
            await asyncio.sleep(LOOK_EVERY)

    def _look_soon(self) -> None:
        self.follow.soon("outbox", self._look)

    async def _look(self) -> None:
        """Take up what is open in the outboxes of the bots that live here."""
        if not self._here:
            return
        began = time.monotonic()
        gone = 0 in self._here
        names = {key[1] for key, (bot, _) in self._known.items() if bot in self._here}
        query = select(delivery_t).where(delivery_t.c.status.in_(OPEN)).order_by(delivery_t.c.id)
        if not gone:
            query = query.where(delivery_t.c.bot.in_(names))
        found, bots = await self.db.read(lambda c: (c.execute(query).all(), _rows(c)))
        rows = [view(row) for row in found]
        # one that ended while we read looks open to us
        ended = {number for number, at in self._left.items() if at >= began}
        self._left = {number: at for number, at in self._left.items() if began - at < LEFT_FOR}
        # a bot that another process has just made is not known here yet, but is not gone
        known = [row for row in rows if self.bots.config(row.tenant, row.bot) or (row.tenant, row.bot) not in bots]
        self.sender.submit([row for row in known if row.id not in ended and self._mine(row)])

    def _note_left(self, delivery: int) -> None:
        self._left[delivery] = time.monotonic()


def _rows(c: Connection) -> dict[Name, tuple[int, int]]:
    query = select(bot_t.c.id, bot_t.c.tenant, bot_t.c.name, bot_t.c.updated_at)
    return {(row.tenant, row.name): (int(row.id), int(row.updated_at)) for row in c.execute(query)}
