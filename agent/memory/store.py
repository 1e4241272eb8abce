"""The memory: keeps what was said, finds it again. Rows in the database are the truth, all else is made from them."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from agent.memory import rows as table
from agent.memory.base import MemoryScope, Recalled
from agent.memory.embedder import Embedder, load_embedder
from agent.memory.fulltext import Fts5Words, WordIndex
from agent.memory.indexer import Indexer, Progress
from agent.memory.question import read_question
from agent.memory.rows import NewRow
from storage.background import Background
from storage.clock import Clock
from storage.database import Database
from storage.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from agent.memory.search import Hit
    from agent.memory.view import View

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_QUEUED = 5_000
MOST_AT_ONCE = 200
MOST_IN_MEMORY = 60_000  # rows of all memories that are kept ready; the least used ones go first
LONGEST_QUERY = 2_000


class MemoryStore:
    """Implements `agent.memory.base.Memory`.

    What a scope may see is a list of memories (`rows.store_keys`): in a direct chat the person's own (across all
    bots and conversations), in a group the group's, and beside it the tenant's and the bot's knowledge. Each memory
    is searched by itself, so nothing outside the scope is ever looked at.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        background: Background,
        index_dir: Path,
        *,
        wanted: str = "auto",
        zone: str = "Asia/Shanghai",
        index: WordIndex | None = None,
    ) -> None:
        self.db, self.clock, self.background, self.index_dir = db, clock, background, index_dir
        self.wanted = wanted
        self.embedder: Embedder | None = None
        self.indexer: Indexer | None = None
        self._loaded = asyncio.Event()
        self.zone = ZoneInfo(zone)
        self.index = index or Fts5Words()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="memory")
        self._queue: deque[tuple[MemoryScope, NewRow]] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self._views: OrderedDict[tuple[int, bool], View] = OrderedDict()
        self._stores: dict[tuple[str, str, str], int] = {}
        self._changed: dict[int, int] = {}  # memory -> how often it has changed since the start

    # ---- life

    async def start(self) -> None:
        """Make the word index where it is missing, and load the embedder behind. Quick."""
        await self.db.write(self.index.make)
        self._loading = self.background.spawn("memory-load", self._load())

    async def _load(self) -> None:
        self.embedder = await self._thread(load_embedder, self.wanted, self.index_dir)
        if self.embedder is not None:
            log.info("memory uses %s", self.embedder.name)
            self._views.clear()  # those made before have no vectors
            self.indexer = Indexer(self.db, self.embedder, self._embedded)
            self._indexing = self.background.spawn("memory-index", self.indexer.run())
        self._loaded.set()

    async def stop(self) -> None:
        """Write what waits and end the threads. Vectors that are missing are made after the next start."""
        await self.settle()
        if self.indexer is not None:
            self._indexing.cancel()
            await asyncio.get_running_loop().run_in_executor(None, self.indexer.stop)
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def loaded(self) -> None:
        """Wait until the embedder is loaded, or known to be missing."""
        await self._loaded.wait()

    async def indexed(self) -> None:
        """Wait until everything said so far has its vectors."""
        await self.settle()
        await self._loaded.wait()
        if self.indexer is not None:
            await self.indexer.settle()

    async def progress(self) -> Progress:
        """How far the vectors are; an empty name where words alone serve."""
        if self.indexer is None:
            return Progress("", 0, 0)
        return await self.indexer.progress()

    async def settle(self) -> None:
        """Wait until everything said so far is in the database."""
        while self._queue or self._flushing is not None:
            if self._flushing is None:
                self._flush_soon()
            if self._flushing is not None:
                await asyncio.wait([self._flushing], timeout=30)

    async def _thread(self, fn: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)

    # ---- keeping

    async def keep_turn(
        self,
        scope: MemoryScope,
        *,
        message_id: int,
        speaker: str,
        text: str,
        at: int,
        session: str,
        label: str,
        speaker_id: str = "",
    ) -> None:
        """Queue something said. Returns at once; safe to repeat by message id.

        Args:
            speaker: name as shown; `assistant` for what we said ourselves.
            speaker_id: stable id of the speaker, the scope's person where it is left out.
        """
        if not text.strip():
            return
        while len(self._queue) >= MOST_QUEUED:  # bounded: who keeps faster than the disk waits for it
            self._flush_soon()
            if self._flushing is not None:
                await asyncio.wait([self._flushing], timeout=30)
        said_by = speaker_id or ("" if speaker == table.OURS else scope.person)
        row = NewRow(
            kind="turn",
            text=text,
            speaker=speaker,
            speaker_id=said_by,
            session=session,
            at=at,
            label=label,
            source=f"message:{message_id}",
            message_id=message_id,
        )
        self._queue.append((scope, row))
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flushing is None and self._queue:
            self._flushing = self.background.spawn("memory-keep", self._flush())
            self._flushing.add_done_callback(self._flushed)

    def _flushed(self, _task: asyncio.Task[None]) -> None:
        self._flushing = None
        if self._queue:
            self._flush_soon()

    async def _flush(self) -> None:
        while self._queue:
            some = [self._queue[i] for i in range(min(MOST_AT_ONCE, len(self._queue)))]
            try:
                ready = await self._thread(self._prepare, some)
                await self._write(ready)
            except Unavailable as error:
                log.warning("memory waits for the database: %s", error)
                await asyncio.sleep(1)
                continue
            for _ in some:
                self._queue.popleft()

    def _prepare(self, some: Sequence[tuple[MemoryScope, NewRow]]) -> list[tuple[MemoryScope, NewRow]]:
        out: list[tuple[MemoryScope, NewRow]] = []
        for scope, row in some:
            made = table.prepare(
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
            )
            out.append((scope, made))
        return out

    async def _write(self, ready: Sequence[tuple[MemoryScope, NewRow]]) -> list[int]:
        now = self.clock.ms()
        groups: dict[MemoryScope, list[NewRow]] = {}
        for scope, row in ready:
            groups.setdefault(scope, []).append(row)

        def fn(c: Connection) -> list[tuple[MemoryScope, int, list[tuple[int, NewRow, int, bool]]]]:
            out = []
            for scope, some in groups.items():
                kind, key = table.store_keys(scope)[0]
                store = table.make_store(c, scope.tenant, kind, key, now)
                out.append((scope, store, table.add_rows(c, self.index, scope.tenant, store, some, now)))
            return out

        ids: list[int] = []
        for scope, store, added in await self.db.write(fn, durable=False):
            kind, key = table.store_keys(scope)[0]
            self._stores[(scope.tenant, kind, key)] = store
            ids += [number for number, _, _, _ in added]
            await self._extend(store, added)
        return ids

    async def _extend(self, store: int, added: Sequence[tuple[int, NewRow, int, bool]]) -> None:
        """Show new rows to the views that are in memory, and to the indexer."""
        self._changed[store] = self._changed.get(store, 0) + 1
        for documents in (False, True):
            view = self._views.get((store, documents))
            fresh = [
                _Kept(n, row, sitting) for n, row, sitting, new in added if new and (row.kind == "chunk") == documents
            ]
            if view is not None and fresh:
                await self._thread(view.add, fresh)
        if self.indexer is not None:
            for _, _, sitting, new in added:
                if new:
                    self.indexer.mark(store, sitting)

    async def _embedded(self, store: int, vectors: dict[int, bytes]) -> None:
        from agent.memory.search import show

        self._changed[store] = self._changed.get(store, 0) + 1
        for documents in (False, True):
            view = self._views.get((store, documents))
            if view is not None and self.embedder is not None:
                await self._thread(show, view, list(vectors.items()), self.embedder.size)

    async def remember(
        self,
        scope: MemoryScope,
        text: str,
        *,
        at: int,
        source: str,
        label: str,
        kind: str = "fact",
        speaker: str = "",
        speaker_id: str = "",
    ) -> int:
        """Keep a fact on request; found at once by words, soon by meaning. The same again gives the same id.

        Raises:
            Invalid: nothing to keep.
        """
        text = " ".join(text.split())
        if not text:
            raise Invalid("memory.empty", field="text")
        row = await self._thread(
            lambda: table.prepare(
                kind=kind,
                text=text,
                at=at,
                label=label,
                source=source,
                zone=self.zone,
                speaker=speaker,
                speaker_id=speaker_id or scope.person,
                place=table.fact_place(text),
            )
        )
        return (await self._write([(scope, row)]))[0]

    async def keep_pieces(
        self, scope: MemoryScope, document: int, pieces: Sequence[tuple[int, str, str]], *, label: str = "t5"
    ) -> list[int]:
        """Keep pieces of a document: (number, text, section). Sections keep their order; a piece is kept once."""
        now = self.clock.ms()
        sections = {name: n for n, name in enumerate(dict.fromkeys(section for _, _, section in pieces), 1)}

        def make() -> list[tuple[MemoryScope, NewRow]]:
            return [
                (
                    scope,
                    table.prepare(
                        kind="chunk",
                        text=text,
                        at=now,
                        label=label,
                        source=f"document:{document}",
                        zone=self.zone,
                        session=section,
                        place=str(number),
                        document_id=document,
                        sitting=-(document * 1_000_000 + sections[section]),
                    ),
                )
                for number, text, section in pieces
            ]

        return await self._write(await self._thread(make))

    async def numbers(self, ids: Sequence[int]) -> dict[int, int]:
        """Of rows by id: the message id of a turn, the number of a piece."""

        def fn(c: Connection) -> dict[int, int]:
            found = table.some_rows(c, ids)
            return {row.id: row.message_id or int(row.place or 0) for row in found}

        return await self.db.read(fn)

    # ---- finding

    async def recall(
        self,
        scope: MemoryScope,
        query: str,
        *,
        limit: int = 8,
        now: int = 0,
        session: str = "",
        since: int = 0,
    ) -> list[Recalled]:
        """The best matches, best first; empty where nothing fits.

        Args:
            now: what "last month" counts from; the clock's time where it is 0.
            session, since: turns of this session from this message id on stand in the context already.
        """
        hits = await self.search(scope, query, limit=limit + 8, now=now)
        full = await self.db.read(lambda c: table.full_rows(c, scope.tenant, [hit.id for hit in hits]))
        out: list[Recalled] = []
        same = " ".join(query.split()).lower()
        for hit in hits:
            row = full.get(hit.id)
            if hit.fit < 0 or row is None or " ".join(row.text.split()).lower() == same:
                continue  # the question itself, asked before, answers nothing
            if session and row.session == session and row.message_id and row.message_id >= since > 0:
                continue
            out.append(
                Recalled(
                    id=hit.id,
                    kind=row.kind,
                    text=row.text,
                    speaker=row.speaker,
                    at=row.at,
                    score=round(hit.score, 4),
                    why=hit.why,
                    source=row.source,
                    label=row.label,
                )
            )
        return out[:limit]

    async def search(self, scope: MemoryScope, query: str, *, limit: int = 20, now: int = 0) -> list[Hit]:
        """Ids in order, best first, without asking whether anything fits. What `recall` and the page are made of."""
        query = query.strip()[:LONGEST_QUERY]
        if not query or limit < 1:
            return []
        if self._queue:
            await self.settle()
        views = [
            (view, documents)
            for store in await self._scope_stores(scope)
            for documents in (False, True)
            if (view := await self._view(store, documents)) is not None
        ]
        if not views:
            return []
        question, vectors, passes = await self._thread(self._first, views, query, now or self.clock.ms())
        tokens: dict[int, bytes] = {}
        embedder = self.embedder
        if vectors is not None and vectors.tokens is not None and embedder is not None:
            wanted = [i for one in passes for i in one.ids]
            tokens = await self.db.read(lambda c: table.load_tokens(c, embedder.name, wanted))
        return await self._thread(self._second, passes, question, vectors, tokens, limit)

    def _first(self, views: Sequence[tuple[View, bool]], query: str, now: int) -> Any:
        from agent.memory import search

        question = read_question(query, now, self.zone)
        vectors = None if self.embedder is None else self.embedder.query(query)
        return question, vectors, search.first(views, question, vectors)

    def _second(self, passes: Any, question: Any, vectors: Any, tokens: dict[int, bytes], limit: int) -> list[Hit]:
        from agent.memory import search

        return search.second(passes, question, vectors, tokens, limit)

    async def _scope_stores(self, scope: MemoryScope) -> list[int]:
        keys = table.store_keys(scope)
        missing = [k for k in keys if (scope.tenant, *k) not in self._stores]
        if missing:

            def fn(c: Connection) -> dict[tuple[str, str], int | None]:
                return {k: table.find_store(c, scope.tenant, *k) for k in missing}

            for k, number in (await self.db.read(fn)).items():
                if number is not None:
                    self._stores[(scope.tenant, *k)] = number
        return [self._stores[(scope.tenant, *k)] for k in keys if (scope.tenant, *k) in self._stores]

    async def _view(self, store: int, documents: bool) -> View | None:
        held = self._views.get((store, documents))
        while held is None:
            before, embedder = self._changed.get(store, 0), self.embedder
            loaded, pooled = await self.db.read(lambda c, e=embedder: _load(c, store, documents, e))  # type: ignore[misc]
            made = await self._thread(_make_view, loaded, pooled, 0 if embedder is None else embedder.size)
            if self._changed.get(store, 0) == before and self.embedder is embedder:  # nothing came in meanwhile
                held = self._views[(store, documents)] = made
        self._views.move_to_end((store, documents))
        while len(self._views) > 1 and sum(v.size + 50 for v in self._views.values()) > MOST_IN_MEMORY:
            self._views.popitem(last=False)
        return held if held.size else None

    def _drop_views(self, stores: Sequence[int]) -> None:
        for store in stores:
            self._changed[store] = self._changed.get(store, 0) + 1
            for documents in (False, True):
                self._views.pop((store, documents), None)

    async def forget(self, scope: MemoryScope, ids: list[int]) -> int:
        """Remove for good. Ids outside the scope's own memory count as absent. Returns how many were removed."""
        await self.settle()
        own = (await self._scope_stores(scope))[:1]

        def fn(c: Connection) -> int:
            found = table.rows_in(c, own, ids)
            table.remove_rows(c, self.index, found)
            return len(found)

        removed = await self.db.write(fn) if own else 0
        self._drop_views(own)
        return removed


class _Kept:
    """A new row in the form in which views read rows."""

    __slots__ = ("at", "id", "kind", "message_id", "session", "sitting", "speaker", "terms", "traits")

    def __init__(self, number: int, row: NewRow, sitting: int) -> None:
        self.id, self.kind, self.sitting, self.speaker = number, row.kind, sitting, row.speaker
        self.at, self.traits, self.message_id, self.session = row.at, row.traits, row.message_id, row.session
        self.terms = row.terms


def _load(
    c: Connection, store: int, documents: bool, embedder: Embedder | None
) -> tuple[list[Any], list[tuple[int, bytes]]]:
    pooled = table.load_pooled(c, store, embedder.name) if embedder is not None else []
    return table.load_rows(c, store, documents), pooled


def _make_view(loaded: Sequence[Any], pooled: Sequence[tuple[int, bytes]], size: int) -> View:
    from agent.memory.search import make_view

    return make_view(loaded, pooled, size)


def build_memory(
    db: Database, clock: Clock, background: Background, index_dir: Path, *, embedder: str = "auto"
) -> MemoryStore:
    """The memory of a process. Call `start()` after the database is migrated, `stop()` before it closes.

    Args:
        index_dir: folder for what is made from the database and can be made again.
        embedder: `auto`, `pooled` (the bundled model without token vectors) or `none` (words alone).
    """
    return MemoryStore(db, clock, background, index_dir, wanted=embedder)
