"""The memory: keeps what was said, finds it again. Rows in the database are the truth, all else is made from them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from agent.memory import rows as table
from agent.memory.base import MemoryScope, Recalled
from agent.memory.citing import cited
from agent.memory.embedder import Embedder, QueryVectors
from agent.memory.fulltext import Fts5Words, WordIndex
from agent.memory.indexer import Progress
from agent.memory.keeper import Keeper
from agent.memory.large import Large
from agent.memory.meaning import Meaning
from agent.memory.newrow import OURS, Added, NewRow, fact_place, prepare
from agent.memory.parsers.chunks import Piece
from agent.memory.pg_graphs import shared_graphs
from agent.memory.pg_words import PgWords
from agent.memory.question import Question, read_question
from agent.memory.views import Views
from storage.background import Background
from storage.clock import Clock
from storage.database import Database
from storage.errors import Invalid

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from agent.memory.search import Hit
    from agent.memory.view import View

T = TypeVar("T")

LONGEST_QUERY = 2_000
AT_ONCE = 3_000  # rows that are ranked within one visit to the database
MOST_NOTED = 50_000
ABSENT_SECONDS = 10.0
BUSY_SEARCHES, BUSY_SECONDS = 8, 2.0
MOST_RECALLED = 2_000
_SMALL_TALK = re.compile(
    r"^\W*(?:你好|您好|在吗|谢谢你?|多谢|好的?|好吧|嗯+|哦+|收到|行|可以|辛苦了|再见"
    r"|hi|hello|hey|ok(?:ay)?|thanks?(?: you)?|bye|yes|no)\W*$",
    re.IGNORECASE,
)
_HISTORY = re.compile(
    r"以前|曾经|之前|原来|过去|历史|改过|变过|一开始|最早|\b(?:used to|before|previous(?:ly)?|former(?:ly)?|history|"
    r"originally|earlier|in the past|changed?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a search found: hits, and where they were wanted the whole rows and names of documents."""

    hits: list[Hit]
    rows: dict[int, Any] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)


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
        self.db, self.clock, self.background = db, clock, background
        self.zone = ZoneInfo(zone)
        self.index = index or (PgWords() if db.dialect == "postgresql" else Fts5Words())
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="memory")
        self._stores: dict[tuple[str, str, str], int] = {}
        self._absent: dict[tuple[str, str, str], float] = {}  # memories that do not exist, until when that is believed
        self._asked: deque[float] = deque(maxlen=BUSY_SEARCHES)
        self._recalled: OrderedDict[int, tuple[int, ...]] = OrderedDict()  # memory -> ids of its last recall
        self.views = Views(db, self.thread)
        self.keeper = Keeper(db, clock, background, self.index, self.zone, self.thread, self._added)
        self.large = Large(db, background, self.index, index_dir, self.thread)
        if db.dialect == "postgresql":
            self.large.open_graph = shared_graphs(db)
        self.meaning = Meaning(
            db, clock, background, index_dir, wanted, self.thread, self._embedded, self._changed, self.busy
        )

    # ---- life

    async def start(self) -> None:
        """Make the word index where it is missing, and load the embedder behind. Quick."""
        await self.db.write(self.index.make)
        self.meaning.start()

    async def stop(self) -> None:
        """Write what waits and end the threads. Vectors that are missing are made after the next start."""
        await self.settle()
        await self.meaning.stop()
        await self.large.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def embedder(self) -> Embedder | None:
        """The one that serves; None while it loads and where there is none."""
        return self.meaning.embedder

    async def loaded(self) -> None:
        """Wait until the embedder is loaded, or known to be missing."""
        await self.meaning.loaded()

    async def settle(self) -> None:
        """Wait until everything said so far is in the database."""
        await self.keeper.settle()

    async def indexed(self) -> None:
        """Wait until everything said so far has its vectors."""
        await self.settle()
        await self.meaning.settle()
        await self.large.settle()

    async def progress(self) -> Progress:
        """How far the vectors are; an empty name where words alone serve."""
        return await self.meaning.progress()

    async def thread(self, fn: Callable[..., T], *args: Any) -> T:
        """Run a function in one of the search's threads."""
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
            speaker: name as shown; `assistant` for what we said ourselves in answer to that message.
            speaker_id: stable id of the speaker, the scope's person where it is left out.
        """
        if not text.strip():
            return
        row = NewRow(
            kind="turn",
            text=text,
            speaker=speaker,
            speaker_id=speaker_id or ("" if speaker == OURS else scope.person),
            session=session,
            at=at,
            label=label,
            source=f"message:{message_id}",
            place="answer" if speaker == OURS else "",
            message_id=message_id,
        )
        await self.keeper.queue(scope, row)

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
        subject: str = "",
        attribute: str = "",
    ) -> int:
        """Keep a fact on request; found at once by words, soon by meaning. The same again gives the same id.

        What it contradicts (the same subject and attribute) becomes history.

        Raises:
            Invalid: nothing to keep.
        """
        text = " ".join(text.split())
        if not text:
            raise Invalid("memory.empty", field="text")
        row = NewRow(
            kind=kind,
            text=text,
            speaker=speaker,
            speaker_id=speaker_id or scope.person,
            session="",
            at=at,
            label=label,
            source=source,
            place=fact_place(text),
            subject=subject,
            attribute=attribute,
        )
        await self.keeper.settle()  # what was said before must be older
        ready = await self.thread(self.keeper.prepared, row)
        return (await self.keeper.write([(scope, ready)], durable=True))[0].id

    async def keep_pieces(
        self, scope: MemoryScope, document: int, pieces: Sequence[Piece], *, label: str = "t5"
    ) -> list[int]:
        """Keep pieces of a document in order; a piece that is kept already is not kept twice."""
        now = self.clock.ms()

        def make() -> list[tuple[MemoryScope, NewRow]]:
            return [
                (
                    scope,
                    prepare(
                        kind="chunk",
                        text=piece.text,
                        at=now,
                        label=label,
                        source=f"document:{document}",
                        zone=self.zone,
                        session=piece.section,
                        place=f"{piece.number:06d} {piece.place}".strip(),
                        document_id=document,
                        sitting=-(document * 1_000_000 + int(piece.section)),
                        heading=piece.heading,
                    ),
                )
                for piece in pieces
            ]

        return [one.id for one in await self.keeper.write(await self.thread(make))]

    async def _added(self, scope: MemoryScope, store: int, added: Sequence[Added]) -> None:
        self._note_store(scope.tenant, *table.store_keys(scope)[0], store)
        await self.views.add(store, added)
        for sitting in {one.sitting for one in added if one.fresh}:
            self.meaning.mark(store, sitting)

    async def _embedded(self, store: int, vectors: dict[int, bytes]) -> None:
        embedder = self.embedder
        if embedder is not None:
            await self.views.embedded(store, vectors, embedder.size)
            await self.large.embedded(store, vectors, embedder)

    async def _changed(self) -> None:
        self.views.clear()
        self.large.clear()
        if self.embedder is not None:
            await self.large.prepare(self.embedder)

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
        """The best matches, best first; empty where nothing fits. What no longer holds only where it is asked for.

        Args:
            now: what "last month" counts from; the clock's time where it is 0.
            session, since: turns of this session from this message id on stand in the context already.
        """
        if _SMALL_TALK.match(query):
            return []
        found = await self._look(scope, query, limit + 8, now, (), full=True)
        hits, full, names = found.hits, found.rows, found.names
        out: list[Recalled] = []
        same = " ".join(query.split()).lower()
        facts = {full[hit.id].source for hit in hits if hit.id in full and full[hit.id].kind not in ("turn", "chunk")}
        for hit in hits:
            row = full.get(hit.id)
            if row is not None and row.kind == "turn" and row.source in facts:
                continue  # the fact that was drawn from it says it better
            if hit.fit < 0 or row is None or (row.kind == "turn" and " ".join(row.text.split()).lower() == same):
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
                    cite=cited(names.get(row.document_id, ""), row.place) if row.kind == "chunk" else "",
                )
            )
        await self._note_recalled(scope, [item.id for item in out[:limit]])
        return out[:limit]

    async def _note_recalled(self, scope: MemoryScope, ids: Sequence[int]) -> None:
        own = await self.own_store(scope)
        if own is not None and ids:
            self._recalled[own] = tuple(ids)
            self._recalled.move_to_end(own)
            while len(self._recalled) > MOST_RECALLED:
                self._recalled.popitem(last=False)

    def last_recalled(self, store: int) -> tuple[int, ...]:
        """What the last recall in this memory found: what "that is wrong" speaks of."""
        return self._recalled.get(store, ())

    async def search(
        self,
        scope: MemoryScope,
        query: str,
        *,
        limit: int = 20,
        now: int = 0,
        parts: Sequence[str] = (),
    ) -> list[Hit]:
        """Ids in order, best first, without asking whether anything fits. What `recall` and the page are made of.

        Args:
            parts: `talk`, `documents`, `history`; by default the first two, and history where it is asked for.
        """
        return (await self._look(scope, query, limit, now, parts, full=False)).hits

    async def _look(
        self, scope: MemoryScope, query: str, limit: int, now: int, parts: Sequence[str], *, full: bool
    ) -> Looked:
        """Search with as few changes of thread as it takes: each costs as much as a small memory's ranking."""
        query = query.strip()[:LONGEST_QUERY]
        if not query or limit < 1:
            return Looked([])
        if self.keeper.waiting:
            await self.settle()
        embedder, now = self.embedder, now or self.clock.ms()
        self._asked.append(self.clock.monotonic())
        parts = parts or (("talk", "documents", "history") if _HISTORY.search(query) else ("talk", "documents"))
        held: list[tuple[View | tuple[int, str], str]] = []
        for store in await self.stores_of(scope):
            for part in parts:
                view = await self.views.get(store, part, embedder)
                if view is not None:
                    held.append(((store, part) if view == "large" else view, part))
        if not held:
            return Looked([])
        meant = any(isinstance(view, tuple) or view.embedded for view, _ in held)  # are there vectors to compare with?
        question, vectors = None, None
        if embedder is not None and meant:
            question, vectors = await self.thread(self._ask, query, now, embedder)
        asked = question or read_question(query, now, self.zone)
        seen: list[tuple[Any, str]] = [
            (await self.large.snapshot(*view, asked, vectors, embedder) if isinstance(view, tuple) else view, part)
            for view, part in held
        ]

        def ranked(c: Connection, passes: Any) -> Looked:
            tokens: dict[int, bytes] = {}
            if vectors is not None and vectors.tokens is not None and embedder is not None:
                tokens = table.load_tokens(c, embedder.name, [i for one in passes for i in one.ids])
            hits = _second(passes, asked, vectors, tokens, limit)
            if not full:
                return Looked(hits)
            rows = table.full_rows(c, scope.tenant, [hit.id for hit in hits])
            documents = sorted({r.document_id for r in rows.values() if r.document_id})
            return Looked(hits, rows, table.document_names(c, documents))

        if sum(view.size for view, _ in seen) <= AT_ONCE:
            return await self.db.read(lambda c: ranked(c, _first(seen, asked, vectors)))
        passes = await self.thread(_first, seen, asked, vectors)  # readers of the database are few
        return await self.db.read(lambda c: ranked(c, passes))

    def _ask(self, query: str, now: int, embedder: Embedder) -> tuple[Question, QueryVectors | None]:
        question = read_question(query, now, self.zone)
        try:
            return question, embedder.query(query)
        except Exception as error:  # noqa: BLE001 - whatever an embedder raises, words alone find too
            log.warning("a query has no vectors, its words serve: %s: %s", type(error).__name__, error)
            return question, None

    def busy(self) -> bool:
        """True while people ask: what can wait should."""
        asked = self._asked
        return len(asked) == asked.maxlen and self.clock.monotonic() - asked[0] < BUSY_SECONDS

    async def stores_of(self, scope: MemoryScope) -> list[int]:
        """Numbers of the memories that a scope may see, as far as they exist; its own first if it exists."""
        keys = table.store_keys(scope)
        now = self.clock.monotonic()
        unknown = [k for k in keys if (scope.tenant, *k) not in self._stores]
        missing = [k for k in unknown if now >= self._absent.get((scope.tenant, *k), now)]
        if missing:

            def fn(c: Connection) -> dict[tuple[str, str], int | None]:
                return {k: table.find_store(c, scope.tenant, *k) for k in missing}

            for k, number in (await self.db.read(fn)).items():
                if number is not None:
                    self._note_store(scope.tenant, *k, number)
                else:  # noted for a while: another process may make it
                    if len(self._absent) > MOST_NOTED:
                        self._absent.clear()
                    self._absent[(scope.tenant, *k)] = now + ABSENT_SECONDS
        return [self._stores[(scope.tenant, *k)] for k in keys if (scope.tenant, *k) in self._stores]

    async def own_store(self, scope: MemoryScope) -> int | None:
        """Number of the scope's own memory, if there is one."""
        await self.stores_of(scope)
        return self._stores.get((scope.tenant, *table.store_keys(scope)[0]))

    def _note_store(self, tenant: str, kind: str, key: str, number: int) -> None:
        if len(self._stores) > MOST_NOTED:
            self._stores.clear()
        self._absent.pop((tenant, kind, key), None)
        self._stores[(tenant, kind, key)] = number

    # ---- forgetting

    async def forget(self, scope: MemoryScope, ids: list[int]) -> int:
        """Remove for good, with echoes and transcripts. Ids outside the scope's own memory count as absent."""
        from agent.memory.forget import Forgetter, Wish

        return (await Forgetter(self).forget(scope, Wish(ids=tuple(ids)))).total if ids else 0

    def reworded(self, store: int, sitting: int) -> None:
        """A row has another text: views and vectors follow."""
        self.forgotten([store])
        self.meaning.mark(store, sitting)

    def changed_elsewhere(self, store: int) -> None:
        """Another process has changed a memory: what was made from it is made anew."""
        self.views.drop([store])
        self.large.changed_elsewhere(store)
        self._stores = {key: number for key, number in self._stores.items() if number != store}

    def forgotten(self, stores: Sequence[int]) -> None:
        """Rows of these memories are gone or changed: nothing that was made from them may serve any more."""
        self.views.drop(stores)
        self.large.changed(stores)
        self._stores = {key: number for key, number in self._stores.items() if number not in set(stores)}


def _first(held: Sequence[tuple[Any, str]], question: Question, vectors: QueryVectors | None) -> Any:
    from agent.memory import search
    from agent.memory.view import View

    parts = [(one.snapshot() if isinstance(one, View) else one, part) for one, part in held]
    return search.first(parts, question, vectors)


def _second(passes: Any, question: Any, vectors: Any, tokens: dict[int, bytes], limit: int) -> list[Hit]:
    from agent.memory import search

    return search.second(passes, question, vectors, tokens, limit)


def build_memory(
    db: Database, clock: Clock, background: Background, index_dir: Path, *, embedder: str = "auto"
) -> MemoryStore:
    """The memory of a process. Call `start()` after the database is migrated, `stop()` before it closes.

    Args:
        index_dir: folder for what is made from the database and can be made again.
        embedder: `auto`, `pooled` (the bundled model without token vectors) or `none` (words alone); a choice made
            on the page goes before it.
    """
    return MemoryStore(db, clock, background, index_dir, wanted=embedder)
