"""Forgetting for good: what would go is shown first; then rows, words, vectors, echoes and transcripts go together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Row, and_, delete, or_, select

from agent.memory import rows as table
from agent.memory.base import MemoryScope
from agent.memory.newrow import OURS
from agent.memory.rows import memory_t, store_t
from agent.memory.tokens import unpack
from agent.memory.transcripts import forgetting, of_person, redact, unended
from storage.background import Background
from storage.database import Database
from storage.errors import Unavailable

log = logging.getLogger(__name__)

SAMPLES = 20
MOST = 200_000  # rows of one wish
SLICE = 1_000  # rows in one transaction
MOST_LATER = 20_000
SWEEP_SECONDS = 2.0
MATCHES = 0.6  # share of a search's weight that a row must hold to be meant by it
ECHO = 0.7  # share of a forgotten row's words that make an answer of ours its echo
FEWEST = 3  # words below which an echo cannot be told from chance
COMMON = 0.1  # words in more than a tenth of a memory tell nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What should be forgotten: rows that meet all that is given. Nothing given means nothing.

    Attributes:
        ids: these rows.
        person: what this person said anywhere in the tenant, and their own memory.
        source: what came from there (`message:7`, `document:3`, `import:…`).
        since, until: said in this span, ms, both included.
        query: what a search for these words finds.
        everything: all of the memory.
    """

    ids: tuple[int, ...] = ()
    person: str = ""
    source: str = ""
    since: int = 0
    until: int = 0
    query: str = ""
    everything: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A row that would go."""

    id: int
    kind: str
    text: str
    speaker: str
    at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """What would go, or went: numbers by kind, how many messages lose their text, some of the rows."""

    counts: dict[str, int]
    messages: int
    samples: tuple[Sample, ...]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


class Remembering(Protocol):
    """The part of a memory store that forgetting uses."""

    db: Database
    background: Background
    index: Any

    async def settle(self) -> None: ...
    async def own_store(self, scope: MemoryScope) -> int | None: ...
    async def search(self, scope: MemoryScope, query: str, *, limit: int, parts: Sequence[str]) -> Any: ...
    def forgotten(self, stores: Sequence[int]) -> None: ...


class Forgetter:
    """Finds and removes. Backups keep what they hold until they expire.

    `on_forgotten` are told after rows went: for caches of what was made from them.
    """

    def __init__(self, memory: Any) -> None:
        self.memory: Remembering = memory
        self.db: Database = memory.db
        self.on_forgotten: list[Callable[[], object]] = []
        self._later: set[tuple[str, int]] = set()  # (tenant, message) whose words go once they were sent
        self._wake = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    # ---- what can go only later

    async def start(self) -> None:
        """Go on with what a restart cut off, behind."""
        self._later.update(await self.db.read(forgetting))
        self._wake.set()
        self._running = self.memory.background.spawn("memory-sweep", self._sweeping())

    async def stop(self) -> None:
        """End the work behind."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running], timeout=10)

    def later(self, tenant: str, messages: Sequence[int]) -> None:
        """Take the words out of these messages and their answers as soon as they were sent."""
        for number in messages:
            if len(self._later) < MOST_LATER:
                self._later.add((tenant, number))
        self._wake.set()

    async def _sweeping(self) -> None:
        while True:
            await self._wake.wait()
            try:
                if not await self.sweep():
                    self._wake.clear()
                    continue
            except Unavailable as error:
                log.warning("forgotten words wait for the database: %s", error)
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> int:
        """Empty what was sent by now. Gives how many messages still wait."""
        for tenant in sorted({tenant for tenant, _ in self._later}):
            some = [number for held, number in self._later if held == tenant][:SLICE]

            def fn(c: Connection, tenant: str = tenant, some: Sequence[int] = some) -> list[int]:
                open_ones = set(unended(c, tenant, some))
                ended = [number for number in some if number not in open_ones]
                redact(c, tenant, ended, [])
                return ended

            self._later -= {(tenant, number) for number in await self.db.write(fn)}
        return len(self._later)

    # ---- now

    async def preview(self, scope: MemoryScope, wish: Wish) -> Preview:
        """What `forget` would remove now. Changes nothing."""
        await self.memory.settle()
        stores, ids = await self._found(scope, wish)

        def fn(c: Connection) -> Preview:
            rows = _chosen(c, scope.tenant, stores, wish, ids)
            return _preview(rows, _sent(c, scope.tenant, wish))

        return await self.db.read(fn)

    async def forget(self, scope: MemoryScope, wish: Wish) -> Preview:
        """Remove for good, echoes and transcripts too. Gives what was removed. Safe to repeat.

        Much goes in several transactions, so that others can write in between; cut off, the rest is still there.
        """
        await self.memory.settle()
        stores, ids = await self._found(scope, wish)
        tenant, index = scope.tenant, self.memory.index
        chosen = [row.id for row in await self.db.read(lambda c: _chosen(c, tenant, stores, wish, ids))]
        sent = await self.db.read(lambda c: _sent(c, tenant, wish))
        waiting: list[int] = []
        gone: list[Row[Any]] = []

        def fn(c: Connection, some: Sequence[int], messages: Sequence[int]) -> list[Row[Any]]:
            rows = list(table.full_rows(c, tenant, some).values())
            table.remove_rows(c, index, rows)
            drawn_from = sorted({*_messages(rows), *(row.message_id for row in rows if row.message_id), *messages})
            redact(c, tenant, drawn_from, [row.id for row in rows])
            waiting.extend(unended(c, tenant, drawn_from))
            return rows

        for i in range(0, max(len(chosen), len(sent), 1), SLICE):
            some, messages = chosen[i : i + SLICE], sent[i : i + SLICE]
            gone += await self.db.write(lambda c, s=some, m=messages: fn(c, s, m))  # type: ignore[misc]
            self.memory.forgotten(sorted({row.store_id for row in gone} | set(stores)))
        if wish.everything and not wish.person and stores:
            await self.db.write(lambda c: _drop_empty(c, stores))
        if waiting:
            self.later(tenant, waiting)
        for told in self.on_forgotten if gone or sent else ():
            told()
        if gone:
            self._purging = self.memory.background.spawn("memory-purge", self.purge())
        return _preview(gone, sent)

    async def purge(self) -> None:
        """Drop what removed rows left in the word index, a slice at a time between other writes."""
        begin = True
        while await self.db.write(lambda c, b=begin: self.memory.index.purge(c, begin=b), durable=False):  # type: ignore[misc]
            begin = False

    async def _found(self, scope: MemoryScope, wish: Wish) -> tuple[list[int], tuple[int, ...]]:
        """The memories to look in, and the rows that a search means."""
        if wish.person:
            tenant = scope.tenant
            return await self.db.read(lambda c: _stores_of_person(c, tenant, wish.person)), wish.ids
        own = await self.memory.own_store(scope)
        ids = wish.ids
        if wish.query and own is not None:
            hits = await self.memory.search(scope, wish.query, limit=200, parts=("talk", "history", "documents"))
            ids = (*ids, *(hit.id for hit in hits if hit.why.get("cover", 0) >= MATCHES))
        return ([] if own is None else [own]), ids


def _stores_of_person(c: Connection, tenant: str, person: str) -> list[int]:
    own = and_(store_t.c.tenant == tenant, store_t.c.kind == "person", store_t.c.key == person)
    said = and_(memory_t.c.tenant == tenant, memory_t.c.speaker_id == person)
    found = [row.id for row in c.execute(select(store_t.c.id).where(own))]
    found += [row.store_id for row in c.execute(select(memory_t.c.store_id).where(said).distinct())]
    return sorted(set(found))


def _chosen(c: Connection, tenant: str, stores: Sequence[int], wish: Wish, ids: Sequence[int]) -> list[Row[Any]]:
    """The rows that are meant, what was drawn from them or they were drawn from, and our echoes of them."""
    if not stores or not (ids or wish.person or wish.source or wish.since or wish.until or wish.everything):
        return []
    where = [memory_t.c.tenant == tenant, memory_t.c.store_id.in_(stores)]
    if wish.person:
        own = select(store_t.c.id).where(and_(store_t.c.kind == "person", store_t.c.key == wish.person))
        where.append(or_(memory_t.c.speaker_id == wish.person, memory_t.c.store_id.in_(own)))
    if wish.source:
        where.append(memory_t.c.source == wish.source)
    if wish.since:
        where.append(memory_t.c.at >= wish.since)
    if wish.until:
        where.append(memory_t.c.at <= wish.until)
    rows: dict[int, Row[Any]] = {}
    if ids or wish.query:
        for i in range(0, len(ids), table.PART):
            part = memory_t.c.id.in_(list(ids[i : i + table.PART]))
            rows |= {row.id: row for row in c.execute(select(memory_t).where(and_(*where, part)))}
    else:
        rows = {row.id: row for row in c.execute(select(memory_t).where(and_(*where)).limit(MOST))}
    if wish.everything:
        return list(rows.values())
    rows |= _same_source(c, stores, rows)
    rows |= _echoes(c, stores, list(rows.values()))
    return list(rows.values())


def _messages(rows: Sequence[Row[Any]]) -> list[int]:
    """Messages that rows were drawn from."""
    numbers = [row.source.partition(":")[2] for row in rows if row.source.startswith("message:")]
    return [int(number) for number in numbers if number.isdigit()]


def _same_source(c: Connection, stores: Sequence[int], rows: dict[int, Row[Any]]) -> dict[int, Row[Any]]:
    """A turn and the facts drawn from it go together: one would bring the other back."""
    sources = sorted({row.source for row in rows.values() if row.source.startswith("message:")})
    out: dict[int, Row[Any]] = {}
    for i in range(0, len(sources), table.PART):
        mine = and_(memory_t.c.store_id.in_(stores), memory_t.c.source.in_(sources[i : i + table.PART]))
        out |= {row.id: row for row in c.execute(select(memory_t).where(mine))}
    return out


def _echoes(c: Connection, stores: Sequence[int], rows: Sequence[Row[Any]]) -> dict[int, Row[Any]]:
    """Answers of ours that repeat what is forgotten: "your birthday is May 3"."""
    mine = and_(memory_t.c.store_id.in_(stores), memory_t.c.speaker == OURS)
    ours = [(row, set(unpack(row.terms))) for row in c.execute(select(memory_t).where(mine).limit(MOST))]
    if not ours or len(rows) > SLICE:
        return {}
    often: dict[int, int] = {}
    for _, terms in ours:
        for term in terms:
            often[term] = often.get(term, 0) + 1
    most = max(3.0, COMMON * len(ours))
    out: dict[int, Row[Any]] = {}
    for row in rows:
        own = {term for term in unpack(row.terms) if often.get(term, 0) <= most}
        if row.speaker == OURS or len(own) < FEWEST:
            continue
        for answer, terms in ours:
            if answer.store_id == row.store_id and answer.at >= row.at and len(own & terms) >= ECHO * len(own):
                out[answer.id] = answer
    return out


def _sent(c: Connection, tenant: str, wish: Wish) -> list[int]:
    """Messages of a person who is forgotten whole: also those that were never kept."""
    narrow = wish.ids or wish.source or wish.since or wish.until or wish.query
    return of_person(c, tenant, wish.person) if wish.person and not narrow else []


def _drop_empty(c: Connection, stores: Sequence[int]) -> None:
    left = select(memory_t.c.id).where(memory_t.c.store_id.in_(stores)).limit(1)
    if c.execute(left).first() is None:
        c.execute(delete(store_t).where(store_t.c.id.in_(stores)))


def _preview(rows: Sequence[Row[Any]], sent: Sequence[int]) -> Preview:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.kind] = counts.get(row.kind, 0) + 1
    newest = sorted(rows, key=lambda row: -int(row.at or 0))[:SAMPLES]
    return Preview(
        counts=counts,
        messages=len({*(row.message_id for row in rows if row.message_id), *_messages(rows), *sent}),
        samples=tuple(
            Sample(id=row.id, kind=row.kind, text=row.text[:300], speaker=row.speaker, at=row.at or 0) for row in newest
        ),
    )
