"""Memories beyond the size that is looked at whole: the same answers, a graph that mends itself, files that lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.memory import large, views
from agent.memory.base import MemoryScope
from agent.memory.embedder import Encoded, QueryVectors
from agent.memory.parsers.chunks import Piece
from agent.memory.store import MemoryStore, build_memory
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase

TENANT = MemoryScope(tenant="main")
ROWS = 300


class Letters:
    """An embedder whose vectors count letters: quick, and the same everywhere."""

    def __init__(self, name: str = "letters") -> None:
        self.name, self.size = name, 26

    def _vector(self, text: str):  # type: ignore[no-untyped-def]
        import numpy as np

        counts = np.array([text.lower().count(chr(97 + i)) for i in range(26)], np.float32) + 0.01
        return counts / np.linalg.norm(counts)

    def passages(self, sittings):  # type: ignore[no-untyped-def]
        from agent.memory.vectors import pack_pooled

        return [[Encoded(pack_pooled(self._vector(t))) for t in texts] for texts in sittings]

    def query(self, text: str) -> QueryVectors:
        return QueryVectors(self._vector(text))

    def close(self) -> None:
        pass


def words_of(n: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return f"part{n} " + letters[n % 26] * 3 + letters[n // 26 % 26] * 5 + f" shelf{n % 7}"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "LARGE", 100)
    monkeypatch.setattr(large, "LARGE", 100)
    monkeypatch.setattr("agent.memory.meaning.load_embedder", lambda wanted, folder: Letters(f"letters-{wanted}"))


@pytest.fixture
async def memory(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    store = await started(db, clock, tmp_path)
    yield store
    await store.stop()


async def started(db: SqliteDatabase, clock: ManualClock, folder: Path) -> MemoryStore:
    store = build_memory(db, clock, Background(), folder / "index")
    await store.start()
    async with asyncio.timeout(20):
        await store.loaded()
    return store


async def fill(memory: MemoryStore) -> None:
    await memory.keep_pieces(TENANT, 1, [Piece(n, words_of(n), str(n // 10)) for n in range(1, ROWS + 1)])
    async with asyncio.timeout(30):
        await memory.indexed()


async def top(memory: MemoryStore, query: str) -> str:
    found = await memory.recall(TENANT, query)
    return found[0].text if found else ""


async def test_found_by_words_and_by_vectors(memory: MemoryStore) -> None:
    await fill(memory)
    assert await top(memory, "part77") == words_of(77)
    async with asyncio.timeout(20):
        await memory.large.settle()
    assert await top(memory, "part203 shelf0") == words_of(203)
    assert (memory.large.folder / f"graph-{1}-documents.hnsw").is_file()


async def test_forgotten_rows_leave_the_graph(memory: MemoryStore) -> None:
    await fill(memory)
    await top(memory, "part77")
    await memory.large.settle()
    found = await memory.recall(TENANT, "part77")
    assert await memory.forget(TENANT, [found[0].id]) == 1
    async with asyncio.timeout(20):
        await memory.large.settle()
    graph = next(iter(memory.large._graphs.values()))
    assert graph.count == ROWS - 1
    assert found[0].id not in graph.ids()
    assert await top(memory, "part77") != words_of(77)


@pytest.mark.parametrize("harm", ["cut", "zeroed", "swapped", "label", "missing", "foreign"])
async def test_a_damaged_file_is_made_anew(db: SqliteDatabase, clock: ManualClock, tmp_path: Path, harm: str) -> None:
    first = await started(db, clock, tmp_path)
    await fill(first)
    await top(first, "part77")
    await first.large.settle()
    await first.stop()
    path = tmp_path / "index" / "graph-1-documents.hnsw"
    data = path.read_bytes()
    if harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "zeroed":
        path.write_bytes(bytes(len(data)))
    elif harm == "swapped":
        path.write_bytes(data[:200] + data[400:600] + data[200:400] + data[600:])
    elif harm == "label":
        path.with_suffix(".json").write_text("{")
    elif harm == "missing":
        path.unlink()
    elif harm == "foreign":
        text = path.with_suffix(".json").read_text()
        path.with_suffix(".json").write_text(text.replace("letters-auto", "other"))
    second = await started(db, clock, tmp_path)
    assert await top(second, "part77") == words_of(77)
    async with asyncio.timeout(20):
        await second.large.settle()
    assert await top(second, "part77") == words_of(77)
    assert next(iter(second.large._graphs.values())).count == ROWS
    await second.stop()


async def test_a_saved_graph_catches_up(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> None:
    first = await started(db, clock, tmp_path)
    await fill(first)
    await top(first, "part77")
    await first.large.settle()
    await first.stop()
    words_only = build_memory(db, clock, Background(), tmp_path / "index", embedder="none")
    await words_only.start()
    await words_only.keep_pieces(TENANT, 2, [Piece(1, "part999 zzzz", "1")])
    await words_only.stop()
    second = await started(db, clock, tmp_path)
    async with asyncio.timeout(30):
        await second.indexed()
    await top(second, "part999")
    await second.large.settle()
    assert next(iter(second.large._graphs.values())).count == ROWS + 1
    await second.stop()


async def test_an_embedder_switch_never_fails_a_search(memory: MemoryStore) -> None:
    await fill(memory)
    await memory.meaning.switch("other")
    for n in range(1, 60):
        assert await top(memory, f"part{n}") == words_of(n)
    async with asyncio.timeout(30):
        await memory.indexed()
    assert memory.embedder is not None
    assert memory.embedder.name == "letters-other"
    assert await top(memory, "part77") == words_of(77)
    progress = await memory.progress()
    assert (progress.done, progress.total) == (ROWS, ROWS)


async def test_a_switch_survives_a_restart_in_the_middle(
    db: SqliteDatabase, clock: ManualClock, tmp_path: Path
) -> None:
    first = await started(db, clock, tmp_path)
    await fill(first)
    await first.meaning._note("memory.embedder", "other")  # as far as it had come when the process died
    await first.stop()
    second = await started(db, clock, tmp_path)
    assert await top(second, "part77") == words_of(77)
    async with asyncio.timeout(30):  # the old one serves until the other has made its vectors
        while second.embedder is None or second.embedder.name != "letters-other":
            await asyncio.sleep(0.01)
        await second.indexed()
    assert await top(second, "part77") == words_of(77)
    await second.stop()
