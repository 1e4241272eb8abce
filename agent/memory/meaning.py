"""The vector side of memory: which embedder serves, which one is being moved to, and the rows that wait for it.

A change of embedder goes on behind: the old one serves until every row has a vector of the new one. What serves
is noted in the database, so a restart in the middle goes on where it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, delete, func, insert, select

from agent.memory.embedder import CHOICES, Embedder, load_embedder
from agent.memory.indexer import Indexer, Progress
from agent.memory.rows import vector_t
from storage.background import Background
from storage.clock import Clock
from storage.database import Database
from storage.tables.system import Setting

log = logging.getLogger(__name__)
T = TypeVar("T")

setting_t = Setting.__table__  # type: ignore[attr-defined]
HOUSE = ""  # the tenant of settings that belong to the process
WANTED, SERVING = "memory.embedder", "memory.embedder.serving"
SLICE = 500


class Meaning:
    """Owns the embedders."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        background: Background,
        folder: Path,
        default: str,
        run: Callable[..., Awaitable[Embedder | None]],
        told: Callable[[int, dict[int, bytes]], Awaitable[None]],
        changed: Callable[[], Awaitable[None]],
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """`told` hears of new vectors of the serving embedder, `changed` when another one has begun to serve; `busy`
        says whether people are asking now."""
        self.db, self.clock, self.background, self.folder, self._default = db, clock, background, folder, default
        self._run, self._told, self._changed, self._busy = run, told, changed, busy
        self.embedder: Embedder | None = None
        self.wanted = default
        self.refused = ""  # the embedder that was wanted last and cannot be used here
        self._serving: Indexer | None = None
        self._next: Indexer | None = None
        self._loaded = asyncio.Event()
        self._tasks: dict[Indexer, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()

    # ---- life

    def start(self) -> None:
        """Load behind."""
        self._loading = self.background.spawn("memory-load", self._load())

    async def stop(self) -> None:
        """End threads. What has no vector gets it after the next start."""
        if not self._loading.done():
            self._loading.cancel()
            await asyncio.wait([self._loading], timeout=30)
        for indexer in list(self._tasks):
            await self._end(indexer)
        for embedder in {self.embedder, *(indexer.embedder for indexer in (self._next,) if indexer is not None)}:
            if embedder is not None:
                embedder.close()

    async def loaded(self) -> None:
        """Wait until an embedder serves, or it is known that there is none."""
        await self._loaded.wait()

    async def settle(self) -> None:
        """Wait until every row has its vector and the wanted embedder serves."""
        await self._loaded.wait()
        while True:
            waited = self._next or self._serving
            if waited is None:
                return
            await waited.settle()
            if self._next is None:
                return
            await asyncio.sleep(0.02)  # the change-over itself

    def mark(self, store: int, sitting: int) -> None:
        """A sitting has new rows."""
        for indexer in self._tasks:
            indexer.mark(store, sitting)

    def look_again(self) -> None:
        """Rows have come or changed in number: look for those without a vector."""
        for indexer in self._tasks:
            indexer.look_again()

    async def progress(self) -> Progress:
        """Of the embedder that is being moved to, else of the one that serves."""
        indexer = self._next or self._serving
        return Progress("", 0, 0) if indexer is None else await indexer.progress()

    @property
    def moving_to(self) -> str:
        """Name of the embedder that will serve once it is ready; empty when none is on its way."""
        return "" if self._next is None else self._next.embedder.name

    # ---- choosing

    async def switch(self, wanted: str) -> None:
        """Move to another embedder: noted at once, loaded and filled behind. The old one serves until then."""
        await self._note(WANTED, wanted)
        self._loading = self.background.spawn("memory-switch", self._move(wanted))

    async def _load(self) -> None:
        try:
            self.wanted = await self._noted(WANTED) or self._default
            self.refused = ""
            serving = await self._noted(SERVING)
            if serving and serving != self.wanted and self.wanted != "none":
                await self._serve(serving, await self._run(load_embedder, serving, self.folder))
                self._loaded.set()
            await self._move(self.wanted)
        finally:
            self._loaded.set()

    async def _move(self, wanted: str) -> None:
        async with self._turn:
            self.wanted = wanted
            if self._next is not None:
                await self._end(self._next)
                self._next = None
            made = None if wanted == "none" else await self._run(load_embedder, wanted, self.folder)
            self.refused = wanted if made is None and wanted != "none" else ""
            if self.refused:  # what serves goes on; at the start there is nothing yet
                if self.embedder is None and wanted not in CHOICES:
                    await self._serve("auto", await self._run(load_embedder, "auto", self.folder))
                return
            if made is None or self.embedder is None or made.name == self.embedder.name:
                await self._serve(wanted, made)
                return
            if await self._count(made.name) == 0 == await self._count(self.embedder.name):
                await self._serve(wanted, made)  # nothing to lose
                return
            self._next = self._begin(made)
            self._moving = self.background.spawn("memory-move", self._finish(self._next, wanted))

    async def _finish(self, indexer: Indexer, wanted: str) -> None:
        await indexer.settle(hurry=False)
        async with self._turn:
            if self._next is indexer:
                self._next = None
                await self._serve(wanted, indexer.embedder, indexer)
                await self._drop_others(indexer.embedder.name)

    async def _serve(self, wanted: str, embedder: Embedder | None, indexer: Indexer | None = None) -> None:
        if self._serving is not None and self._serving is not indexer:
            await self._end(self._serving)
        before, self.embedder = self.embedder, embedder
        if before is not None and before is not embedder:
            before.close()
        self._serving = None if embedder is None else indexer or self._begin(embedder)
        await self._changed()
        await self._note(SERVING, wanted if embedder is not None else "")
        log.info("memory uses %s", embedder.name if embedder is not None else "words alone")

    def _begin(self, embedder: Embedder) -> Indexer:
        async def told(store: int, vectors: dict[int, bytes]) -> None:
            if self.embedder is embedder:
                await self._told(store, vectors)

        indexer = Indexer(self.db, embedder, told, self._busy)
        self._tasks[indexer] = self.background.spawn("memory-index", indexer.run())
        return indexer

    async def _end(self, indexer: Indexer) -> None:
        task = self._tasks.pop(indexer, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=30)
            await asyncio.get_running_loop().run_in_executor(None, indexer.stop)

    # ---- the database

    async def _noted(self, key: str) -> str:
        def fn(c: Connection) -> str:
            query = select(setting_t.c.value).where((setting_t.c.tenant == HOUSE) & (setting_t.c.key == key))
            return str(c.execute(query).scalar() or "")

        return await self.db.read(fn)

    async def _note(self, key: str, value: str) -> None:
        now = self.clock.ms()

        def fn(c: Connection) -> None:
            c.execute(delete(setting_t).where((setting_t.c.tenant == HOUSE) & (setting_t.c.key == key)))
            c.execute(insert(setting_t), {"tenant": HOUSE, "key": key, "value": value, "updated_at": now})

        await self.db.write(fn)

    async def _count(self, name: str) -> int:
        query = select(func.count()).select_from(vector_t).where(vector_t.c.embedder == name)
        return await self.db.read(lambda c: int(c.execute(query).scalar_one()))

    async def _drop_others(self, name: str) -> None:
        """Delete vectors of embedders that serve no more, a slice at a time."""

        def fn(c: Connection) -> int:
            old = select(vector_t.c.memory_id, vector_t.c.embedder).where(vector_t.c.embedder != name).limit(SLICE)
            rows = list(c.execute(old))
            for row in rows:
                same = (vector_t.c.memory_id == row.memory_id) & (vector_t.c.embedder == row.embedder)
                c.execute(delete(vector_t).where(same))
            return len(rows)

        deleted = SLICE
        while deleted == SLICE:
            deleted = await self.db.write(fn, durable=False)
