"""A change of embedder under load: no search fails, the old one serves until the new one is ready, restarts included.

The other embedder is the process for sentence-transformers models, with a stand-in for the libraries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from agent.memory.base import MemoryScope
from agent.memory.rows import vector_t
from agent.memory.store import MemoryStore, build_memory
from agent.memory.transformers import Transformers, is_model
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from tests.rules.reading import ROOT

ANNE = MemoryScope(tenant="main", person="feishu:ou_anne")
FAKES = ROOT / "tests" / "fakes" / "models"
ROWS = 60


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process with the model finds our stand-in instead of the libraries."""
    monkeypatch.setenv("PYTHONPATH", str(FAKES))


async def started(db: SqliteDatabase, clock: ManualClock, folder: Path, embedder: str = "none") -> MemoryStore:
    store = build_memory(db, clock, Background(), folder / "index", embedder=embedder)
    await store.start()
    async with asyncio.timeout(30):
        await store.loaded()
    return store


async def fill(memory: MemoryStore) -> None:
    for n in range(ROWS):
        await memory.keep_turn(
            ANNE,
            message_id=n + 1,
            speaker="安妮",
            text=f"第{n}号柜子里放着{'红蓝绿黄'[n % 4]}色的文件夹",
            at=memory.clock.ms() + n,
            session=f"c{n // 6}",
            label="t2",
        )
    await memory.settle()


async def vectors(db: SqliteDatabase) -> dict[str, int]:
    counted = select(vector_t.c.embedder, func.count()).group_by(vector_t.c.embedder)
    return await db.read(lambda c: {row[0]: row[1] for row in c.execute(counted)})


@pytest.fixture
async def ends() -> AsyncIterator[list[MemoryStore]]:
    made: list[MemoryStore] = []
    yield made
    for store in made:
        await store.stop()
        await store.background.stop()


async def test_no_search_fails_while_it_changes(
    db: SqliteDatabase, clock: ManualClock, tmp_path: Path, ends: list[MemoryStore]
) -> None:
    memory = await started(db, clock, tmp_path, "acme/first")
    ends.append(memory)
    await fill(memory)
    async with asyncio.timeout(30):
        await memory.indexed()
    assert await vectors(db) == {"st:acme/first:64": ROWS}
    seen, stop = [], asyncio.Event()

    async def ask() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            found = await memory.recall(ANNE, f"第{n % ROWS}号柜子里是什么")
            assert found
            assert f"第{n % ROWS}号" in found[0].text
            assert memory.embedder is not None
            seen.append(memory.embedder.name)

    asking = [asyncio.ensure_future(ask()) for _ in range(3)]
    await memory.meaning.switch("acme/second")
    async with asyncio.timeout(50):
        while memory.embedder is None or memory.embedder.name != "st:acme/second:64":
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.gather(*asking)
    assert "st:acme/first:64" in seen
    async with asyncio.timeout(30):
        await memory.indexed()
        while await vectors(db) != {"st:acme/second:64": ROWS}:
            await asyncio.sleep(0.02)


async def test_a_restart_in_the_middle_goes_on(
    db: SqliteDatabase, clock: ManualClock, tmp_path: Path, ends: list[MemoryStore]
) -> None:
    memory = await started(db, clock, tmp_path, "acme/first")
    await fill(memory)
    async with asyncio.timeout(30):
        await memory.indexed()
    await memory.meaning.switch("acme/slow")
    async with asyncio.timeout(30):
        while not memory.meaning.moving_to:
            await asyncio.sleep(0.01)
    assert memory.embedder is not None
    assert memory.embedder.name == "st:acme/first:64"
    await memory.stop()  # as the process ends, in the middle
    again = await started(db, clock, tmp_path, "acme/first")  # the choice goes before the flag
    ends.append(again)
    assert await again.recall(ANNE, "第7号柜子里是什么")
    async with asyncio.timeout(40):
        while again.embedder is None or again.embedder.name != "st:acme/slow:64":
            await asyncio.sleep(0.02)
    assert await again.recall(ANNE, "第7号柜子里是什么")


async def test_a_model_that_cannot_be_used_leaves_the_old_one(
    db: SqliteDatabase, clock: ManualClock, tmp_path: Path, ends: list[MemoryStore]
) -> None:
    memory = await started(db, clock, tmp_path, "acme/first")
    ends.append(memory)
    await memory.meaning.switch("acme/broken")
    async with asyncio.timeout(30):
        while not memory.meaning.refused:
            await asyncio.sleep(0.02)
    assert memory.embedder is not None
    assert memory.embedder.name == "st:acme/first:64"


def test_a_model_process_that_dies_is_started_again() -> None:
    model = Transformers("acme/dies")
    try:
        for n in range(2):
            assert len(model.passages([[f"text {n}", "another"]])[0]) == 2
        with pytest.raises(RuntimeError):
            model.query("this one kills it")
        assert model.query("the next one finds it alive").pooled.shape == (64,)
    finally:
        model.close()


def test_what_may_be_a_model(tmp_path: Path) -> None:
    assert is_model("BAAI/bge-m3")
    assert is_model(str(tmp_path))
    for name in ("", "x", "../../etc/passwd", "a b/c", "nothing-here", "a/b;rm"):
        assert not is_model(name), name
