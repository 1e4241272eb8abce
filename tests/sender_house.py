"""A sender on a real outbox, with a scripted vendor; waiting takes no time but moves the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select

from channels.base import BotConfig, Pace
from channels.hooks import Pulse
from channels.sender import Sender
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.envelope import Outgoing, Receipt
from storage.errors import AppError, Unavailable
from storage.ledger import Ledger, delivery_t
from storage.live import Live
from storage.outbox import Outbox


@dataclass
class Said:
    text: str
    lane: str
    key: str
    at: float


class Vendor:
    """A channel that does what the test says. `shown` is what people see: with keys, a repeated one only once."""

    def __init__(self, clock: ManualClock, *, idempotent: bool = True, pace: Pace | None = None) -> None:
        self.config = BotConfig(id=1, tenant="main", name="b", type="feishu", mode="webhook", settings={}, secrets={})
        self.clock, self.idempotent, self.pace = clock, idempotent, pace or Pace(count=0, seconds=1)
        self.shown: list[Said] = []
        self.tries = 0
        self.now = self.most = 0
        self.plan: list[Callable[[Said], None]] = []
        self.down: Callable[[], bool] = lambda: False
        self.gate = asyncio.Event()
        self.gate.set()
        self._ids: dict[str, str] = {}

    def split(self, out: Outgoing) -> Sequence[Outgoing]:
        return [Outgoing(kind=out.kind, text=piece) for piece in out.text.split("|")] if "|" in out.text else [out]

    async def send(self, out: Outgoing, address: str, key: str, written: Callable[[], None]) -> Receipt:
        self.tries += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
            said = Said(out.text, address, key, self.clock.monotonic())
            if self.down():
                raise Unavailable("feishu.busy")
            if self.plan:
                self.plan.pop(0)(said)
            written()
            return self.keep(said)
        finally:
            self.now -= 1

    def keep(self, said: Said) -> Receipt:
        if self.idempotent and said.key in self._ids:
            return Receipt(vendor_id=self._ids[said.key])
        self.shown.append(said)
        self._ids[said.key] = f"om_{len(self.shown)}"
        return Receipt(vendor_id=self._ids[said.key])

    def texts(self) -> list[str]:
        return [said.text for said in self.shown]


def fails(error: AppError) -> Callable[[Said], None]:
    def act(said: Said) -> None:
        raise error

    return act


@dataclass
class Registry:
    """The part of `Bots` that the sender uses."""

    clock: ManualClock
    vendor: Vendor | None
    known: bool = True
    listeners: list[Callable[[str, str], None]] = field(default_factory=list)

    def on_change(self, listener: Callable[[str, str], None]) -> None:
        self.listeners.append(listener)

    def channel(self, tenant: str, name: str) -> Vendor | None:
        return self.vendor

    def config(self, tenant: str, name: str) -> BotConfig | None:
        return self.vendor.config if self.vendor else Vendor(self.clock).config if self.known else None

    def pulse(self, tenant: str, name: str) -> Pulse | None:
        return None

    def changed(self) -> None:
        for listener in self.listeners:
            listener("main", "b")


class House:
    """A sender on a real outbox; waiting takes no time but moves the clock."""

    def __init__(self, db: SqliteDatabase, clock: ManualClock, vendor: Vendor | None, **more: int) -> None:
        self.db, self.clock, self.vendor = db, clock, vendor
        self.ledger = Ledger(db, clock)
        self.outbox = Outbox(self.ledger)
        self.background = Background()
        self.bots = Registry(clock, vendor)
        self.live = Live()
        self.rests: list[float] = []
        self.sender = Sender(
            outbox=self.outbox,
            bots=self.bots,  # type: ignore[arg-type]
            background=self.background,
            clock=clock,
            live=self.live,
            nap=self.nap,
            **more,
        )
        self.ledger.on_deliveries = self.sender.submit

    async def nap(self, seconds: float, woken: asyncio.Event) -> None:
        self.rests.append(seconds)
        if seconds >= 3600:
            await woken.wait()
            return
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def push(self, text: str, lane: str = "c1", key: str = "") -> int:
        found = await self.outbox.push(
            tenant="main",
            bot="b",
            channel="feishu",
            lane=lane,
            key=key or f"{lane}:{text}",
            address=lane,
            out=Outgoing(kind="push", text=text),
        )
        assert found is not None
        return found

    async def settled(self, seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while self.background._tasks:
                await asyncio.wait(set(self.background._tasks))

    async def states(self) -> dict[str, tuple[str, str]]:
        query = select(delivery_t.c.key, delivery_t.c.status, delivery_t.c.error).order_by(delivery_t.c.id)
        rows = await self.db.read(lambda c: c.execute(query).all())
        return {row.key: (row.status, row.error) for row in rows}


def vendor_of(house: House) -> Vendor:
    assert house.vendor is not None
    return house.vendor
