"""Memory of processes that share a PostgreSQL: the same words found, one's rows seen by the other, pgvector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from agent.memory.base import MemoryScope
from agent.memory.fulltext import Fts5Words, WordIndex
from agent.memory.pg_graph import PgGraph
from agent.memory.pg_words import PgWords
from agent.memory.store import MemoryStore, build_memory
from agent.memory.tokens import hashed, pack
from storage.background import Background
from storage.bus import SharedBus
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.postgres import PostgresDatabase
from tests.conftest import TEMPLATE
from tests.flow.test_memory_large import Letters, words_of
from tests.postgres import Cluster

AN = MemoryScope(tenant="main", person="an")
ROWS = 160


async def test_words_are_found_the_same_on_both(any_db: SqliteDatabase | PostgresDatabase) -> None:
    index: WordIndex = Fts5Words() if any_db.dialect == "sqlite" else PgWords()
    rows = [(1 + n % 2, n, pack(["all", f"a{n % 3}", "twice", "twice"])) for n in range(1, 31)]
    a0, every, none = hashed("a0"), hashed("all"), hashed("none")
    await any_db.write(index.make)
    await any_db.write(index.make)
    await any_db.write(lambda c: index.add(c, rows))
    known = await any_db.read(lambda c: index.counts(c, 1, [a0, every, none]))
    assert known == {a0: 5, every: 15, none: 0}
    assert await any_db.read(lambda c: index.rows(c, 1, [a0, none], 3)) == [30, 24, 18]
    assert await any_db.read(lambda c: index.rows(c, 1, [], 3)) == []
    await any_db.write(lambda c: index.remove(c, [row for row in rows if row[1] == 30]))
    assert await any_db.read(lambda c: index.rows(c, 1, [a0], 3)) == [24, 18, 12]
    await any_db.write(index.clear)
    assert await any_db.read(lambda c: index.counts(c, 1, [every])) == {every: 0}


Make = Callable[[], Awaitable[MemoryStore]]


@pytest.fixture
async def memories(
    postgres: Cluster, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Make]:
    """Makes memories on one database, each with the parts of its own process."""
    from agent.memory import large, views

    monkeypatch.setattr(views, "LARGE", 100)
    monkeypatch.setattr(large, "LARGE", 100)
    monkeypatch.setattr("agent.memory.meaning.load_embedder", lambda wanted, folder: Letters("letters"))
    name, made = postgres.database(TEMPLATE), list[tuple[MemoryStore, SharedBus, PostgresDatabase]]()

    async def make() -> MemoryStore:
        db, background = PostgresDatabase(postgres.url(name)), Background()
        memory = build_memory(db, clock, background, tmp_path / f"m{len(made)}")
        bus = SharedBus(db.conninfo, db.origin, background)
        for table in ("memory", "memory_vector"):
            bus.hear_rows(table, lambda which: memory.changed_elsewhere(int(which)))
        made.append((memory, bus, db))
        await bus.start()
        await memory.start()
        await memory.loaded()
        return memory

    yield make
    for memory, bus, db in made:
        await memory.stop()
        await bus.stop()
        await memory.background.stop()
        db.close()
    postgres.drop(name)


async def found(memory: MemoryStore, query: str) -> list[str]:
    return [item.text for item in await memory.recall(AN, query)]


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await check():
            await asyncio.sleep(0.02)


@pytest.mark.pg
async def test_what_one_process_keeps_or_forgets_the_other_knows(memories: Make) -> None:
    one, other = await memories(), await memories()
    await one.remember(AN, "The printer is in room 7", at=1, source="t", label="t2")
    assert await found(other, "where is the printer") == ["The printer is in room 7"]
    number = await one.remember(AN, "The scanner is in room 9", at=2, source="t", label="t2")

    async def there() -> bool:
        return "The scanner is in room 9" in await found(other, "where is the scanner")

    await until(there)
    await one.forget(AN, [number])

    async def gone() -> bool:
        return not await there()

    await until(gone)


@pytest.mark.pg
async def test_large_memories_find_the_nearest_by_pgvector(memories: Make, postgres: Cluster) -> None:
    if not postgres.sql("postgres", "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"):
        pytest.skip("this PostgreSQL has no pgvector: the one in requirements-dev.txt has")
    one, other = await memories(), await memories()
    numbers = [await one.remember(AN, words_of(n), at=n + 1, source=f"s{n}", label="t2") for n in range(ROWS)]
    await one.indexed()
    embedder, own = one.embedder, await one.own_store(AN)
    assert embedder is not None
    assert own is not None
    for memory in (one, other):
        await memory.recall(AN, words_of(7))  # the first search opens it
        await memory.large.settle()
        graph = memory.large.graph(own, "talk", embedder)
        assert isinstance(graph, PgGraph)
        assert graph.ids() == set(numbers)
        wanted = embedder.query(words_of(30)).pooled
        exact = np.array([embedder.query(words_of(n)).pooled @ wanted for n in range(ROWS)])
        ids, likeness = await asyncio.to_thread(graph.near, wanted, 10)
        assert likeness[0] == pytest.approx(1.0, abs=1e-3)
        assert sorted(likeness) == pytest.approx(sorted(np.sort(exact)[-10:]), abs=2e-3)
        assert (await found(memory, words_of(7)))[0] == words_of(7)
        assert len(ids) == 10
    await one.forget(AN, [numbers[7]])
    left = text("SELECT count(*) FROM memory_embedding WHERE memory_id = :id")
    assert await other.db.read(lambda c: c.execute(left, {"id": numbers[7]}).scalar()) == 0
    assert words_of(7) not in await found(other, words_of(7))
