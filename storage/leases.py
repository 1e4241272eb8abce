"""Who may do what only one process may do at a time: a lease with a heartbeat in the database.

The time is the database's. A holder stops trusting its lease before it ends, by a clock that never jumps, so that
a process that was frozen does nothing when it wakes up.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from sqlalchemy import Connection, text

from storage.background import Background
from storage.bus import Bus
from storage.database import Database
from storage.errors import AppError

log = logging.getLogger(__name__)

LASTS, MARGIN, BEAT, WATCH = 8.0, 2.0, 1.5, 0.25
MOST_WANTED = 5_000
Told = Callable[[str, bool], None]

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
# after the server itself was away, holders come first: nobody could renew
_UP = "(now() - pg_postmaster_start_time() > make_interval(secs => :lasts))"
_RENEW = text(f"UPDATE lease SET until = {_NOW} + :ms WHERE owner = :owner RETURNING name")  # noqa: S608 - our own text
_TAKE = text(
    f"INSERT INTO lease (name, owner, place, taken_at, until)"  # noqa: S608 - our own text
    f" SELECT name, :owner, :place, {_NOW}, {_NOW} + :ms FROM unnest(CAST(:names AS text[])) AS wanted(name)"
    f" ORDER BY name ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, place = excluded.place,"
    f" taken_at = excluded.taken_at, until = excluded.until"
    f" WHERE lease.until < {_NOW} AND {_UP} RETURNING name"
)
_FREE = text("DELETE FROM lease WHERE owner = :owner AND name = ANY(CAST(:names AS text[]))")
_TIDY = text(f"DELETE FROM lease WHERE until < {_NOW} - 3600000")  # noqa: S608 - our own text


class Leases(Protocol):
    """Asks for leases and keeps them. Names are `<kind>:<what>`, as `bot:7`."""

    def holds(self, name: str) -> bool:
        """True if this process may act now. Costs nothing."""
        ...

    def want(self, names: Iterable[str], *, kind: str) -> None:
        """Ask for exactly these of a kind, now and whenever they are free; others of that kind are let go."""
        ...

    def on_change(self, listener: Told) -> None:
        """Call `listener(name, held)` in the event loop when a lease was gained or lost."""
        ...

    async def start(self) -> None:
        """Take what is wanted and free."""
        ...

    async def stop(self) -> None:
        """Let everything go, so that others can take it at once."""
        ...


class AlwaysGranted:
    """For one process alone."""

    def holds(self, name: str) -> bool:
        return True

    def want(self, names: Iterable[str], *, kind: str) -> None:
        """There is nobody to ask."""

    def on_change(self, listener: Told) -> None:
        """Nothing ever changes."""

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""


class SharedLeases:
    """Leases of processes that share a PostgreSQL database."""

    def __init__(self, db: Database, owner: str, background: Background, bus: Bus) -> None:
        self.db, self.owner, self.background, self.bus = db, owner, background, bus
        self.place = f"{socket.gethostname()}:{os.getpid()}"
        self._wanted: dict[str, set[str]] = {"process": {f"process:{owner}"}}
        self._until: dict[str, float] = {}
        self._listeners: list[Told] = []
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()
        bus.hear("leases", lambda _: self._wake.set())

    def holds(self, name: str) -> bool:
        return time.monotonic() < self._until.get(name, 0.0)

    def want(self, names: Iterable[str], *, kind: str) -> None:
        self._wanted[kind] = set(names)
        self._wake.set()

    def on_change(self, listener: Told) -> None:
        self._listeners.append(listener)

    async def start(self) -> None:
        await self._round()
        self._tasks = [self.background.spawn("leases", self._run()), self.background.spawn("leases end", self._watch())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        names = list(self._until)
        for name in names:
            self._lost(name)
        try:
            async with asyncio.timeout(3):
                await self._free(names)
        except (AppError, TimeoutError) as error:
            log.warning("leases run out by themselves: %s", error)

    async def round(self) -> None:
        """Take what is wanted and free, now."""
        await self._round()

    # ---- inside

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(BEAT):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self._round()
            except AppError as error:
                log.warning("leases are not renewed now: %s", error)

    async def _round(self) -> None:
        async with self._turn:
            began, wanted = time.monotonic(), set().union(*self._wanted.values())
            held = set(self._until)
            missing = sorted(wanted - held)[:MOST_WANTED]
            if held - wanted:
                await self._free(sorted(held - wanted))
                for name in held - wanted:
                    self._lost(name)
            kept, taken = await self.db.write(lambda c: self._ask(c, missing), durable=False, shared=True)
            for name in held & wanted - kept:
                self._lost(name)
            for name in (kept | taken) & wanted:
                new = name not in self._until
                self._until[name] = began + LASTS - MARGIN
                if new:
                    self._tell(name, True)

    def _ask(self, c: Connection, missing: list[str]) -> tuple[set[str], set[str]]:
        ms = int(LASTS * 1000)
        kept = {str(row.name) for row in c.execute(_RENEW, {"owner": self.owner, "ms": ms})}
        taken: set[str] = set()
        if missing:
            values: dict[str, Any] = {"owner": self.owner, "place": self.place, "ms": ms, "lasts": LASTS}
            taken = {str(row.name) for row in c.execute(_TAKE, values | {"names": missing})}
        c.execute(_TIDY)
        return kept, taken

    async def _free(self, names: list[str]) -> None:
        if not names:
            return
        values = {"owner": self.owner, "names": names}
        await self.db.write(lambda c: c.execute(_FREE, values).rowcount, durable=False, shared=True)
        self.bus.tell("leases")

    async def _watch(self) -> None:
        """Notice at once that a lease could not be renewed."""
        while True:
            await asyncio.sleep(WATCH)
            for name in [name for name in self._until if not self.holds(name)]:
                log.warning("the lease %s ran out", name)
                self._lost(name)

    def _lost(self, name: str) -> None:
        if self._until.pop(name, None) is not None:
            self._tell(name, False)

    def _tell(self, name: str, held: bool) -> None:
        for listener in self._listeners:
            listener(name, held)
