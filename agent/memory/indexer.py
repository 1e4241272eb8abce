"""Gives rows their vectors, behind everything else: newest sittings first, a little at a time, never lost.

What lacks a vector is known from the database alone, so nothing has to survive a crash: the next start goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select

from agent.memory.embedder import Embedder, Encoded
from agent.memory.rows import memory_t, vector_t
from storage.database import Database
from storage.errors import Unavailable

log = logging.getLogger(__name__)

MOST_MARKED = 2_000  # sittings remembered as changed; more are found by looking
PAGE = 400  # rows looked up at a time
MOST_SITTINGS = 8  # encoded together
MOST_ROWS = 64  # rows encoded together
QUIET = 1.5  # seconds without a new row before a sitting is encoded: each new row has the rows before it made anew
LONGEST = 15.0  # seconds that a sitting without a pause may wait; meanwhile its words are found
NICE = 10
RESTS = 8  # while people ask, it rests so many times as long as it worked
LONGEST_REST = 4.0  # seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the vectors of one embedder are."""

    embedder: str
    done: int
    total: int


def lower_priority() -> None:
    """Let a thread yield to all others."""
    if sys.platform == "linux":  # there a thread has its own priority
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


class Indexer:
    """One background task and one thread of low priority."""

    def __init__(
        self,
        db: Database,
        embedder: Embedder,
        told: Callable[[int, dict[int, bytes]], Awaitable[None]],
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """`told` is given the packed vectors of rows of one memory once they are kept; `busy` says when to rest."""
        self.db, self.embedder, self._told, self._busy = db, embedder, told, busy
        self._marked: OrderedDict[tuple[int, int], tuple[float, float]] = OrderedDict()  # since when, when due
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._below: int | None = None  # rows from here down are still to be looked at; None: all were
        self._stopped = False
        self._hurry = 0  # who waits for all of it
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="memory-index", initializer=lower_priority)

    def mark(self, store: int, sitting: int) -> None:
        """A sitting has new rows."""
        now = asyncio.get_running_loop().time()
        since = self._marked.get((store, sitting), (now, now))[0]
        self._marked[(store, sitting)] = (since, min(now + QUIET, since + LONGEST))
        if len(self._marked) > MOST_MARKED:
            self._marked.popitem(last=False)
            self._below = sys.maxsize  # look for what was dropped
        self._idle.clear()
        self._wake.set()

    def look_again(self) -> None:
        """Look through all rows for missing vectors."""
        self._below = sys.maxsize
        self._idle.clear()
        self._wake.set()

    async def settle(self, *, hurry: bool = True) -> None:
        """Wait until every row has its vector; in a hurry nothing is put off meanwhile."""
        self._hurry += hurry
        self._wake.set()
        try:
            await self._idle.wait()
        finally:
            self._hurry -= hurry

    async def progress(self) -> Progress:
        """Rows with a vector, of all."""

        def fn(c: Connection) -> tuple[int, int]:
            done = select(func.count()).select_from(vector_t).where(vector_t.c.embedder == self.embedder.name)
            return int(c.execute(done).scalar_one()), int(
                c.execute(select(func.count()).select_from(memory_t)).scalar_one()
            )

        done, total = await self.db.read(fn)
        return Progress(self.embedder.name, done, total)

    async def run(self) -> None:
        """Work until cancelled."""
        self.look_again()
        while not self._stopped:
            try:
                due = self._due()
                if due:
                    await self._take_marked(due)
                elif self._below is not None:
                    await self._take_page()
                else:
                    await self._wait()
            except Unavailable as error:
                log.warning("vectors wait for the database: %s", error)
                await asyncio.sleep(2)

    def stop(self) -> None:
        """End the thread; what is being encoded is dropped and made anew at the next start."""
        self._stopped = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _due(self) -> list[tuple[int, int]]:
        """Some of the sittings that wait no longer."""
        now = asyncio.get_running_loop().time()
        return list(islice((key for key, (_, due) in self._marked.items() if self._hurry or due <= now), MOST_SITTINGS))

    async def _wait(self) -> None:
        """Until there is something new, or the next sitting is due."""
        self._wake.clear()
        if not self._marked:
            self._idle.set()
            await self._wake.wait()
            return
        soon = min(due for _, due in self._marked.values()) - asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(soon, 0.01)):
                while not self._hurry:  # one more row makes none due earlier
                    await self._wake.wait()
                    self._wake.clear()
                    if self._below is not None:
                        return

    async def _take_marked(self, some: Sequence[tuple[int, int]]) -> None:
        for key in some:
            del self._marked[key]
        sittings = await self.db.read(lambda c: [self._open_rows(c, store, sitting) for store, sitting in some])
        await self._encode([rows for rows in sittings if rows])

    async def _take_page(self) -> None:
        below = self._below if self._below is not None else 0
        rows = await self.db.read(lambda c: self._missing(c, below))
        groups: dict[tuple[int, int], list[Row[Any]]] = {}
        for row in sorted(rows, key=lambda row: int(row.id)):
            groups.setdefault((row.store_id, row.sitting), []).append(row)
        left = int(rows[-1].id) if len(rows) == PAGE else None
        if left is not None and len(groups) > 1:  # the oldest sitting may go on below this page: the next one has it
            left = int(groups.pop((rows[-1].store_id, rows[-1].sitting))[-1].id) + 1
        pages: list[list[Row[Any]]] = []
        for group in groups.values():
            if pages and sum(map(len, pages)) + len(group) > MOST_ROWS:
                await self._encode(pages)
                pages = []
                if self._due():  # what was just said goes first
                    return
            pages.append(group)
        await self._encode(pages)
        if self._below == below:
            self._below = left

    def _columns(self) -> Any:
        return select(
            memory_t.c.id, memory_t.c.store_id, memory_t.c.sitting, memory_t.c.kind, memory_t.c.speaker, memory_t.c.text
        )

    def _missing(self, c: Connection, below: int) -> list[Row[Any]]:
        """The newest rows that lack a vector."""
        on = and_(vector_t.c.memory_id == memory_t.c.id, vector_t.c.embedder == self.embedder.name)
        query = (
            self._columns()
            .select_from(memory_t.outerjoin(vector_t, on))
            .where(and_(vector_t.c.memory_id.is_(None), memory_t.c.id < below))
            .order_by(memory_t.c.id.desc())
            .limit(PAGE)
        )
        return list(c.execute(query))

    def _open_rows(self, c: Connection, store: int, sitting: int) -> list[Row[Any]]:
        """The rows of a sitting from the first on whose vector is missing or may still change."""
        on = and_(vector_t.c.memory_id == memory_t.c.id, vector_t.c.embedder == self.embedder.name)
        mine = and_(memory_t.c.store_id == store, memory_t.c.sitting == sitting)
        first = c.execute(
            select(func.min(memory_t.c.id))
            .select_from(memory_t.outerjoin(vector_t, on))
            .where(and_(mine, (vector_t.c.memory_id.is_(None)) | (vector_t.c.settled.is_(False))))
        ).scalar()
        if first is None:
            return []
        query = self._columns().where(and_(mine, memory_t.c.id >= first)).order_by(memory_t.c.id).limit(MOST_ROWS)
        return list(c.execute(query))

    async def _encode(self, sittings: Sequence[Sequence[Row[Any]]]) -> None:
        if not sittings:
            return
        texts = [[f"{r.speaker}: {r.text}" if r.speaker else str(r.text) for r in rows] for rows in sittings]
        loop = asyncio.get_running_loop()
        begun = loop.time()
        made = await loop.run_in_executor(self._pool, self._passages, texts)
        worked = loop.time() - begun
        flat = [(r, e) for rows, out in zip(sittings, made, strict=True) for r, e in zip(rows, out, strict=True)]
        kept = await self.db.write(lambda c: self._keep(c, flat), durable=False)
        stores: dict[int, dict[int, bytes]] = {}
        for row, encoded in flat:
            if row.id in kept:
                stores.setdefault(row.store_id, {})[row.id] = encoded.pooled
        for store, vectors in stores.items():
            await self._told(store, vectors)
        if self._busy() and not self._hurry:  # what comes meanwhile is encoded together, once
            await asyncio.sleep(min(LONGEST_REST, RESTS * worked))

    def _passages(self, texts: Sequence[Sequence[str]]) -> list[list[Encoded]]:
        try:
            return self.embedder.passages(texts)
        except Exception as error:  # noqa: BLE001 - one text must not stop all others
            if len(texts) == 1 and len(texts[0]) == 1:
                log.warning("a text has no vector, its words serve: %s: %s", type(error).__name__, error)
                return [[Encoded(b"")]]
            return [[self._passages([[text]])[0][0] for text in sitting] for sitting in texts]

    def _keep(self, c: Connection, flat: Sequence[tuple[Row[Any], Encoded]]) -> set[int]:
        """Write vectors of the rows that are still there with the same text."""
        ids = [row.id for row, _ in flat]
        still = {r.id: r.text for r in c.execute(select(memory_t.c.id, memory_t.c.text).where(memory_t.c.id.in_(ids)))}
        rows = [(row, e) for row, e in flat if still.get(row.id) == row.text]
        if not rows:
            return set()
        mine = vector_t.c.embedder == self.embedder.name
        c.execute(delete(vector_t).where(and_(vector_t.c.memory_id.in_([row.id for row, _ in rows]), mine)))
        c.execute(
            insert(vector_t),
            [
                {
                    "memory_id": row.id,
                    "embedder": self.embedder.name,
                    "store_id": row.store_id,
                    "settled": e.settled,
                    "pooled": e.pooled,
                    "tokens": e.tokens,
                }
                for row, e in rows
            ],
        )
        return {row.id for row, _ in rows}
