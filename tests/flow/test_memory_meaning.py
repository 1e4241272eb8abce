"""With the bundled embedder: found by meaning, after a restart too, and without waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.memory.base import MemoryScope
from agent.memory.store import MemoryStore, build_memory
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase

ANNE = MemoryScope(tenant="main", person="feishu:ou_anne")
BOB = MemoryScope(tenant="main", person="feishu:ou_bob")
SAID = [
    "今天早上我去医院做了体检",
    "My sister adopted a golden retriever last week",
    "周末打算去爬黄山",
    "The quarterly report is due on Friday",
    "我对花生过敏，一点都不能吃",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("index")


@pytest.fixture
async def memory(db: SqliteDatabase, clock: ManualClock, folder: Path) -> AsyncIterator[MemoryStore]:
    background = Background()
    store = build_memory(db, clock, background, folder)
    await store.start()
    yield store
    await store.stop()
    await background.stop()


async def say_all(memory: MemoryStore) -> None:
    for n, text in enumerate(SAID, 1):
        await memory.keep_turn(
            ANNE, message_id=n, speaker="安妮", text=text, at=memory.clock.ms(), session="c1", label="t2"
        )


async def test_words_serve_until_the_embedder_is_there(memory: MemoryStore) -> None:
    await say_all(memory)
    assert (await memory.recall(ANNE, "黄山"))[0].text == "周末打算去爬黄山"


async def test_found_by_meaning_across_languages(memory: MemoryStore) -> None:
    await say_all(memory)
    async with asyncio.timeout(30):
        await memory.indexed()
    found = await memory.recall(ANNE, "Who got a new dog?")
    assert found[0].text == SAID[1]
    assert "meaning" in found[0].why
    found = await memory.recall(ANNE, "有什么忌口的食物")
    assert found[0].text == SAID[4]
    assert await memory.recall(BOB, "Who got a new dog?") == []
    progress = await memory.progress()
    assert (progress.done, progress.total) == (5, 5)


async def test_vectors_are_made_after_a_restart(db: SqliteDatabase, clock: ManualClock, folder: Path) -> None:
    first = build_memory(db, clock, Background(), folder, embedder="none")
    await first.start()
    await say_all(first)
    await first.stop()
    background = Background()
    second = build_memory(db, clock, background, folder)
    await second.start()
    async with asyncio.timeout(30):
        await second.indexed()
    assert (await second.progress()).done == 5
    assert (await second.recall(ANNE, "Who got a new dog?"))[0].text == SAID[1]
    await second.stop()
    await background.stop()
