"""Brings what is said into the database: a bounded queue, words made in a thread, many rows in one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from agent.memory import rows as table
from agent.memory.base import MemoryScope
from agent.memory.fulltext import WordIndex
from agent.memory.newrow import Added, NewRow, prepare
from storage.background import Background
from storage.clock import Clock
from storage.database import Database
from storage.errors import Unavailable

log = logging.getLogger(__name__)

MOST_QUEUED = 5_000
MOST_AT_ONCE = 200

Told = Callable[[MemoryScope, int, Sequence[Added]], Awaitable[None]]


class Keeper:
    """Writes rows. The rows are the truth: everything else can be made from them."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        background: Background,
        index: WordIndex,
        zone: ZoneInfo,
        run: Callable[..., Awaitable[list[tuple[MemoryScope, NewRow]]]],
        told: Told,
    ) -> None:
        """`run` runs a function in a thread; `told` hears of every row that was written."""
        self.db, self.clock, self.background, self.index, self.zone = db, clock, background, index, zone
        self._run, self._told = run, told
        self._queue: deque[tuple[MemoryScope, NewRow]] = deque()
        self._flushing: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Rows that are not in the database yet."""
        return len(self._queue)

    async def queue(self, scope: MemoryScope, row: NewRow) -> None:
        """Take a row whose words are still to be made. Waits only while the queue is full."""
        while len(self._queue) >= MOST_QUEUED:
            self._flush_soon()
            if self._flushing is not None:
                await asyncio.wait([self._flushing], timeout=30)
        self._queue.append((scope, row))
        self._flush_soon()

    async def settle(self) -> None:
        """Wait until everything queued so far is in the database."""
        while self._queue or self._flushing is not None:
            self._flush_soon()
            if self._flushing is not None:
                await asyncio.wait([self._flushing], timeout=30)

    def _flush_soon(self) -> None:
        if self._flushing is None and self._queue:
            self._flushing = self.background.spawn("memory-keep", self._flush())
            self._flushing.add_done_callback(self._flushed)

    def _flushed(self, _task: asyncio.Task[None]) -> None:
        self._flushing = None

    async def _flush(self) -> None:
        while self._queue:
            some = [self._queue[i] for i in range(min(MOST_AT_ONCE, len(self._queue)))]
            try:
                await self.write(await self._run(self._prepare, some))
            except Unavailable as error:
                log.warning("memory waits for the database: %s", error)
                await asyncio.sleep(1)
                continue
            for _ in some:
                self._queue.popleft()

    def _prepare(self, some: Sequence[tuple[MemoryScope, NewRow]]) -> list[tuple[MemoryScope, NewRow]]:
        return [(scope, self.prepared(row)) for scope, row in some]

    def prepared(self, row: NewRow) -> NewRow:
        """The row with its words. Costs some tenths of a millisecond: call in a thread."""
        return prepare(
            kind=row.kind,
            text=row.text,
            at=row.at,
            label=row.label,
            source=row.source,
            zone=self.zone,
            speaker=row.speaker,
            speaker_id=row.speaker_id,
            session=row.session,
            place=row.place,
            message_id=row.message_id,
            subject=row.subject,
            attribute=row.attribute,
        )

    async def write(self, ready: Sequence[tuple[MemoryScope, NewRow]], *, durable: bool = False) -> list[Added]:
        """Write rows, each into its scope's own memory. What a scope's row replaces becomes history.

        Not durable by default: rows outlive the process, and the ledger has the message after a power cut.
        """
        now = self.clock.ms()
        groups: dict[MemoryScope, list[NewRow]] = {}
        for scope, row in ready:
            groups.setdefault(scope, []).append(row)

        def fn(c: Connection) -> list[tuple[MemoryScope, int, list[Added]]]:
            out = []
            for scope, some in groups.items():
                kind, key = table.store_keys(scope)[0]
                store = table.make_store(c, scope.tenant, kind, key, now)
                out.append((scope, store, table.add_rows(c, self.index, scope.tenant, store, some, now)))
            return out

        everything: list[Added] = []
        for scope, store, added in await self.db.write(fn, durable=durable):
            everything += added
            await self._told(scope, store, added)
        return everything
