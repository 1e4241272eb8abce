"""Memories that are too large to look at whole: candidates by the word index and a graph, then the same ranking.

What is ranked is a small view of the best candidates and their sittings, with the counts of the whole memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, and_, func, select

from agent.memory import rows as table
from agent.memory.embedder import Embedder, QueryVectors
from agent.memory.fulltext import WordIndex
from agent.memory.indexer import lower_priority
from agent.memory.question import Question
from agent.memory.rows import memory_t, part_of, vector_t
from storage.background import Background
from storage.database import Database

if TYPE_CHECKING:
    from agent.memory.ann import Graph
    from agent.memory.view import Snapshot

log = logging.getLogger(__name__)
T = TypeVar("T")

LARGE = 30_000  # rows from which on looking at all of them is slower; both find the same
BY_WORDS = 1_200  # rows that are scored for their words
NEAREST = 150  # candidates from each side
SITTINGS = 40  # best sittings that are looked at whole
MOST_ROWS = 2_500
BATCH = 256  # vectors put into a graph between two looks at who else wants it
GRAIN = 8
SAVE_AFTER = 2_000  # changes; what is not saved is put in again after the next start


@dataclass(slots=True)
class _Counts:
    total: int
    mean_length: float
    at: int = 0  # changes since


class Large:
    """Searches large memories and owns their graphs."""

    def __init__(
        self,
        db: Database,
        background: Background,
        index: WordIndex,
        folder: Path,
        run: Callable[..., Awaitable[Any]],
    ) -> None:
        self.db, self.background, self.index, self.folder, self._run = db, background, index, folder, run
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="memory-graph", initializer=lower_priority)
        self._graphs: dict[tuple[int, str, str], Graph] = {}
        self._making: dict[tuple[int, str, str], asyncio.Task[None]] = {}
        self._counts: dict[tuple[int, str], _Counts] = {}
        self.open_graph: Callable[[int, str, str, int], Any] | None = None  # one that other processes see too
        self.progress: dict[tuple[int, str], tuple[int, int]] = {}  # graphs that are being made: done, of all

    async def prepare(self, embedder: Embedder) -> None:
        """After start: load or make the graphs of all large memories, behind."""

        def fn(c: Connection) -> list[tuple[int, str]]:
            out = []
            for part in ("talk", "documents"):
                query = select(memory_t.c.store_id).where(part_of(part)).group_by(memory_t.c.store_id)
                out += [(row.store_id, part) for row in c.execute(query.having(func.count() > LARGE))]
            return out

        for store, part in await self.db.read(fn):
            self._ensure(store, part, embedder)

    async def stop(self) -> None:
        """Save what has changed and end the thread."""
        for task in list(self._making.values()):
            task.cancel()
        if self._making:
            await asyncio.wait(list(self._making.values()), timeout=30)
        for (store, part, _), graph in self._graphs.items():
            if graph.unsaved:
                await self._slowly(graph.save, self._path(store, part))
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _slowly(self, fn: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)

    async def settle(self) -> None:
        """Wait until no graph is being made."""
        while self._making:
            await asyncio.wait(list(self._making.values()), timeout=60)

    async def embedded(self, store: int, vectors: dict[int, bytes], embedder: Embedder) -> None:
        """New vectors of a memory."""
        for part in ("talk", "documents"):
            graph = self._graphs.get((store, part, embedder.name))
            counts = self._counts.get((store, part))
            if counts is not None:
                counts.at += len(vectors)
            if graph is None:
                continue
            ids = await self.db.read(lambda c, p=part: _of_part(c, store, p, list(vectors)))  # type: ignore[misc]
            await self._put(graph, [(i, vectors[i]) for i in ids])
            if graph.unsaved > SAVE_AFTER and (store, part, embedder.name) not in self._making:
                await self._slowly(graph.save, self._path(store, part))

    def changed(self, stores: Sequence[int]) -> None:
        """Rows of these memories are gone or moved between parts: mend their graphs behind."""
        for (store, part, _), graph in list(self._graphs.items()):
            if store in stores:
                self._counts.pop((store, part), None)
                task = self.background.spawn("memory-graph", self._mend(graph, store, part))
                self._making[(store, part, f"mend {id(task)}")] = task
                task.add_done_callback(lambda done: self._made(done))

    def changed_elsewhere(self, store: int) -> None:
        """Another process has changed a memory. Its graph is mended where this process keeps one of its own."""
        own = any(key[0] == store and not hasattr(graph, "shared") for key, graph in self._graphs.items())
        if own and not any(key[0] == store for key in self._making):
            self.changed([store])
        for part in ("talk", "documents"):
            self._counts.pop((store, part), None)

    def clear(self) -> None:
        """Another embedder has taken over."""
        for task in self._making.values():
            task.cancel()
        self._graphs.clear()

    def graph(self, store: int, part: str, embedder: Embedder) -> Graph | None:
        """The graph that serves, if there is one yet."""
        return self._graphs.get((store, part, embedder.name))

    # ---- searching

    async def snapshot(
        self, store: int, part: str, q: Question, vectors: QueryVectors | None, embedder: Embedder | None
    ) -> Snapshot:
        """The best candidates as a view of their own, with the counts of the whole memory."""
        counts = await self._count(store, part)
        near: list[int] = []
        graph = None
        if embedder is not None and vectors is not None:
            graph = self._graphs.get((store, part, embedder.name))
            if graph is None:
                self._ensure(store, part, embedder)
            else:
                ids, _ = await self._run(graph.near, vectors.pooled, NEAREST)
                near = [int(i) for i in ids]
        terms = (*q.terms, *q.concepts)

        def by_words(c: Connection) -> tuple[dict[int, int], list[Any]]:
            known = self.index.counts(c, store, terms)
            chosen, size = [], 0
            for term in sorted((t for t in terms if known[t]), key=lambda t: known[t]):
                chosen.append(term)
                size += known[term]
                if size >= BY_WORDS:
                    break
            ids = self.index.rows(c, store, chosen, BY_WORDS)
            return known, table.load_rows(c, store, part, sorted({*ids, *near}))

        known, light = await self.db.read(by_words)
        best, sittings = await self._run(_best, light, near, q, known, counts)

        def whole(c: Connection) -> tuple[list[Any], list[tuple[int, bytes]]]:
            more = _of_sittings(c, store, part, sittings)
            ids = sorted({*best, *more})[:MOST_ROWS]
            pooled = [] if embedder is None else table.load_pooled_of(c, ids, embedder.name)
            return table.load_rows(c, store, part, ids), pooled

        rows, pooled = await self.db.read(whole)
        made: Snapshot = await self._run(
            _snapshot, rows, pooled, 0 if embedder is None else embedder.size, known, counts
        )
        return made

    async def _count(self, store: int, part: str) -> _Counts:
        held = self._counts.get((store, part))
        if held is None or held.at > max(1_000, held.total // 20):

            def fn(c: Connection) -> _Counts:
                mine = and_(memory_t.c.store_id == store, part_of(part))
                row = c.execute(select(func.count(), func.avg(func.length(memory_t.c.terms))).where(mine)).one()
                return _Counts(int(row[0]), float(row[1] or 4) / 4)

            held = self._counts[(store, part)] = await self.db.read(fn)
        return held

    # ---- graphs

    def _path(self, store: int, part: str) -> Path:
        return self.folder / f"graph-{store}-{part}.hnsw"

    def _ensure(self, store: int, part: str, embedder: Embedder) -> None:
        key = (store, part, embedder.name)
        if key not in self._graphs and key not in self._making:
            task = self.background.spawn("memory-graph", self._make(store, part, embedder))
            self._making[key] = task
            task.add_done_callback(self._made)

    def _made(self, task: asyncio.Task[None]) -> None:
        self._making = {key: held for key, held in self._making.items() if held is not task}

    async def _make(self, store: int, part: str, embedder: Embedder) -> None:
        """Load the saved graph and bring it up to date, or fill a fresh one."""
        path = self._path(store, part)
        graph: Graph | None = None
        if self.open_graph is not None:
            graph = await self._slowly(self.open_graph, store, part, embedder.name, embedder.size)
        if graph is None:
            graph = await self._slowly(_load, path, embedder.name, embedder.size)
        if graph is not None:  # serves at once, a little behind
            self._graphs[(store, part, embedder.name)] = graph
        else:
            counts = await self._count(store, part)
            graph = await self._slowly(_fresh, embedder.name, embedder.size, counts.total + BATCH)
            if graph is None:
                return
        await self._mend(graph, store, part)
        self._graphs[(store, part, embedder.name)] = graph

    async def _mend(self, graph: Graph, store: int, part: str) -> None:
        """Take out what is gone, put in what is missing, save."""
        wanted = await self.db.read(lambda c: set(_embedded_ids(c, store, part, graph.embedder)))
        have = await self._slowly(graph.ids)
        gone, missing = sorted(have - wanted), sorted(wanted - have)
        for i in range(0, len(gone), BATCH):
            await self._slowly(graph.remove, gone[i : i + BATCH])
        for i in range(0, len(missing), BATCH):
            self.progress[(store, part)] = (i, len(missing))
            some = missing[i : i + BATCH]
            pooled = await self.db.read(lambda c, s=some: table.load_pooled_of(c, s, graph.embedder))  # type: ignore[misc]
            await self._put(graph, pooled)
        self.progress.pop((store, part), None)
        if graph.unsaved:
            await self._slowly(graph.save, self._path(store, part))

    async def _put(self, graph: Graph, pooled: Sequence[tuple[int, bytes]]) -> None:
        for i in range(0, len(pooled), GRAIN):
            await self._slowly(_put, graph, pooled[i : i + GRAIN])


def _of_part(c: Connection, store: int, part: str, ids: Sequence[int]) -> list[int]:
    mine = and_(memory_t.c.store_id == store, part_of(part), memory_t.c.id.in_(ids))
    return [row.id for row in c.execute(select(memory_t.c.id).where(mine))]


def _embedded_ids(c: Connection, store: int, part: str, embedder: str) -> list[int]:
    joined = vector_t.join(memory_t, memory_t.c.id == vector_t.c.memory_id)
    mine = and_(memory_t.c.store_id == store, part_of(part), vector_t.c.embedder == embedder, vector_t.c.pooled != b"")
    return [row[0] for row in c.execute(select(memory_t.c.id).select_from(joined).where(mine))]


def _of_sittings(c: Connection, store: int, part: str, sittings: Sequence[int]) -> list[int]:
    mine = and_(memory_t.c.store_id == store, part_of(part), memory_t.c.sitting.in_(sittings))
    return [row.id for row in c.execute(select(memory_t.c.id).where(mine).limit(MOST_ROWS))]


def _load(path: Path, embedder: str, size: int) -> Graph | None:
    from agent.memory.ann import Graph

    return Graph.load(path, embedder, size)


def _fresh(embedder: str, size: int, room: int) -> Graph | None:
    from agent.memory.ann import Graph

    return Graph.fresh(embedder, size, room)


def _put(graph: Graph, pooled: Sequence[tuple[int, bytes]]) -> None:
    from agent.memory.vectors import unpack_pooled

    right = [(i, p) for i, p in pooled if len(p) == 2 * graph.size]
    if right:
        graph.add([i for i, _ in right], unpack_pooled([p for _, p in right], graph.size))


def _best(
    light: Sequence[Any], near: Sequence[int], q: Question, known: dict[int, int], counts: _Counts
) -> tuple[list[int], list[int]]:
    """Ids of the best candidates, and the sittings of the very best."""
    import numpy as np

    from agent.memory import rank
    from agent.memory.view import View

    if not light:
        return [], []
    s = replace(View(light).snapshot(), known=known, total=counts.total, mean_length=counts.mean_length)
    score, _, _ = rank.words(s, (*q.terms, *q.concepts))
    lexical = rank.top(score, NEAREST)
    place = {int(number): n for n, number in enumerate(near)}
    bonus = np.array([1 - place.get(int(i), len(near)) / max(len(near), 1) for i in s.ids], np.float32)
    order = np.argsort(-(rank.share(score) + bonus), kind="stable")
    sittings = list(dict.fromkeys(int(s.sitting[row]) for row in order[: 4 * SITTINGS]))[:SITTINGS]
    return [int(i) for i in s.ids[lexical]] + list(near), sittings


def _snapshot(
    rows: Sequence[Any], pooled: Sequence[tuple[int, bytes]], size: int, known: dict[int, int], counts: _Counts
) -> Snapshot:
    from agent.memory.search import make_view

    made = make_view(rows, pooled, size).snapshot()
    return replace(made, known=known, total=counts.total, mean_length=counts.mean_length)
