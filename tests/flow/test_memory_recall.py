"""Kept in one conversation, found in another, by its owner alone."""

from __future__ import annotations

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
GROUP = MemoryScope(tenant="main", group="feishu-bot/oc_team")
OTHER = MemoryScope(tenant="other", person="feishu:ou_anne")


@pytest.fixture
async def memory(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    store = build_memory(db, clock, Background(), tmp_path / "index", embedder="none")
    await store.start()
    yield store
    await store.stop()


async def say(memory: MemoryStore, scope: MemoryScope, n: int, text: str, *, session: str = "c1", at: int = 0) -> None:
    await memory.keep_turn(
        scope, message_id=n, speaker="安妮", text=text, at=at or memory.clock.ms(), session=session, label="t2"
    )


async def texts(memory: MemoryStore, scope: MemoryScope, query: str) -> list[str]:
    return [item.text for item in await memory.recall(scope, query)]


async def test_a_birthday_is_found_in_a_later_conversation(memory: MemoryStore, clock: ManualClock) -> None:
    await say(memory, ANNE, 1, "记住我的生日是5月3日")
    await say(memory, ANNE, 2, "今天天气不错")
    clock.advance(86_400)
    found = await memory.recall(ANNE, "我的生日是哪天?")
    assert found[0].text == "记住我的生日是5月3日"
    assert found[0].source == "message:1"
    assert found[0].why
    assert await texts(memory, BOB, "我的生日是哪天?") == []
    assert await texts(memory, OTHER, "我的生日是哪天?") == []
    assert await texts(memory, GROUP, "我的生日是哪天?") == []


async def test_a_fact_is_found_at_once_and_kept_once(memory: MemoryStore, clock: ManualClock) -> None:
    first = await memory.remember(ANNE, "我的生日是5月3日", at=clock.ms(), source="message:1", label="t2")
    again = await memory.remember(ANNE, "我的生日是5月3日", at=clock.ms(), source="message:1", label="t2")
    assert first == again
    assert await texts(memory, ANNE, "我的生日是哪天?") == ["我的生日是5月3日"]


async def test_a_turn_is_kept_once(memory: MemoryStore) -> None:
    for _ in range(3):
        await say(memory, ANNE, 7, "I moved to Shanghai in March")
    assert await texts(memory, ANNE, "Where did I move?") == ["I moved to Shanghai in March"]


async def test_the_question_itself_is_no_answer(memory: MemoryStore) -> None:
    await say(memory, ANNE, 1, "我的车牌号是多少?")
    await say(memory, ANNE, 2, "我的车牌号是京A12345")
    assert await texts(memory, ANNE, "我的车牌号是多少?") == ["我的车牌号是京A12345"]


async def test_nothing_fits(memory: MemoryStore) -> None:
    await say(memory, ANNE, 1, "我的车牌号是京A12345")
    assert await texts(memory, ANNE, "What is the capital of France?") == []
    assert await texts(memory, ANNE, "  ") == []


async def test_a_group_and_its_members_do_not_see_each_other(memory: MemoryStore) -> None:
    await say(memory, ANNE, 1, "我的工资是三万元")
    await say(memory, GROUP, 2, "我们的发布日期是12月1日")
    assert await texts(memory, GROUP, "工资是多少") == []
    assert await texts(memory, ANNE, "发布日期是哪天") == []
    assert await texts(memory, GROUP, "发布日期是哪天") == ["我们的发布日期是12月1日"]


async def test_the_tenant_knows_for_all(memory: MemoryStore, clock: ManualClock) -> None:
    tenant = MemoryScope(tenant="main")
    await memory.remember(tenant, "公司的报销截止日是每月25日", at=clock.ms(), source="panel", label="t0")
    for scope in (ANNE, BOB, GROUP):
        assert await texts(memory, scope, "报销截止日是哪天") == ["公司的报销截止日是每月25日"]
    assert await texts(memory, OTHER, "报销截止日是哪天") == []


async def test_forgotten_is_gone_and_stays_gone(
    memory: MemoryStore, db: SqliteDatabase, clock: ManualClock, tmp_path: Path
) -> None:
    number = await memory.remember(ANNE, "我的生日是5月3日", at=clock.ms(), source="message:1", label="t2")
    assert await memory.forget(BOB, [number]) == 0
    assert await memory.forget(ANNE, [number]) == 1
    assert await texts(memory, ANNE, "我的生日是哪天?") == []
    again = build_memory(db, clock, Background(), tmp_path / "index", embedder="none")
    await again.start()
    assert await texts(again, ANNE, "我的生日是哪天?") == []
    await again.stop()


async def test_rows_outlive_the_process(memory: MemoryStore, db: SqliteDatabase, tmp_path: Path) -> None:
    await say(memory, ANNE, 1, "我养了一只叫豆豆的猫")
    await memory.settle()
    again = build_memory(db, memory.clock, Background(), tmp_path / "index", embedder="none")
    await again.start()
    assert await texts(again, ANNE, "我的猫叫什么") == ["我养了一只叫豆豆的猫"]
    await again.stop()


async def test_what_stands_in_the_context_is_left_out(memory: MemoryStore) -> None:
    await say(memory, ANNE, 1, "我的猫叫豆豆", session="c1")
    await say(memory, ANNE, 2, "我的狗叫豆豆的朋友", session="c1")
    found = await memory.recall(ANNE, "豆豆是谁", session="c1", since=2)
    assert [item.text for item in found] == ["我的猫叫豆豆"]
