"""What was true and what is: changed facts, change and change back, late words about the past, two of one name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.memory.base import MemoryScope
from agent.memory.store import MemoryStore, build_memory
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase

ANNE = MemoryScope(tenant="main", person="feishu:ou_anne")
GROUP = MemoryScope(tenant="main", group="bot/oc_team")
ZONE = ZoneInfo("Asia/Shanghai")


def day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp() * 1000)


@pytest.fixture
async def memory(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    store = build_memory(db, clock, Background(), tmp_path / "index", embedder="none")
    await store.start()
    yield store
    await store.stop()


async def say(memory: MemoryStore, text: str, on: str, *, scope: MemoryScope = ANNE, by: str = "") -> None:
    say.n += 1  # type: ignore[attr-defined]
    n = say.n  # type: ignore[attr-defined]
    await memory.keep_turn(
        scope,
        message_id=n,
        speaker=by or "安妮",
        text=text,
        at=day(on),
        session=f"c{n}",
        label="t2" if scope.person else "t3",
        speaker_id=by and f"feishu:{by}",
    )


say.n = 0  # type: ignore[attr-defined]

CASES = [
    # what was said and when, the question, what must be found, what must not
    ([("我住在北京", "2026-01-05"), ("我搬到上海了", "2026-03-08")], "我住在哪里?", "上海", "北京"),
    (
        [("我住在北京", "2026-01-05"), ("我搬到上海了", "2026-03-08"), ("我搬回北京了", "2026-09-01")],
        "我住在哪里?",
        "搬回北京",
        "上海",
    ),
    ([("我搬到上海了", "2026-03-08"), ("我以前住在北京", "2026-05-01")], "我住在哪里?", "上海", "北京"),
    ([("我搬到上海了", "2026-03-08"), ("我2024年住在北京", "2026-05-01")], "我住在哪里?", "上海", "北京"),
    ([("我喜欢吃辣", "2026-01-05"), ("我不再吃辣", "2026-06-01")], "我吃辣吗?", "不再吃辣", "喜欢吃辣"),
    ([("我不喝咖啡", "2026-01-05"), ("我又开始喝咖啡了", "2026-06-01")], "我喝咖啡吗?", "又开始喝咖啡", "不喝咖啡"),
    (
        [("我的生日是5月3日", "2026-01-05"), ("不对，我的生日是5月4日", "2026-01-06")],
        "我的生日是哪天?",
        "5月4日",
        "5月3日",
    ),
    (
        [("我的电话是13800000000", "2026-01-05"), ("我的新电话是13911111111", "2026-06-01")],
        "我的电话是多少?",
        "139",
        "138",
    ),
    ([("我在阿里巴巴工作", "2026-01-05"), ("我跳槽到字节了", "2026-06-01")], "我在哪家公司工作?", "字节", "阿里"),
    (
        [("项目截止日期是12月1日", "2026-01-05"), ("项目截止日期改到12月5日", "2026-06-01")],
        "项目截止日期是哪天?",
        "12月5日",
        "12月1日",
    ),
    ([("我的猫叫豆豆", "2026-01-05"), ("我的狗叫毛毛", "2026-06-01")], "我的猫叫什么?", "豆豆", ""),
    (
        [("研发部小王的电话是111", "2026-01-05"), ("销售部小王的电话是222", "2026-06-01")],
        "研发部小王的电话是多少?",
        "111",
        "",
    ),
    ([("I live in Berlin", "2026-01-05"), ("I moved to Paris", "2026-03-08")], "Where do I live?", "Paris", "Berlin"),
    (
        [("I moved to Paris", "2026-03-08"), ("I used to live in Oslo", "2026-05-01")],
        "Where do I live?",
        "Paris",
        "Oslo",
    ),
    (
        [("I like coffee", "2026-01-05"), ("I no longer drink coffee", "2026-06-01")],
        "Do I drink coffee?",
        "no longer",
        "like",
    ),
    (
        [("My birthday is May 3", "2026-01-05"), ("No, my birthday is May 4", "2026-01-06")],
        "When is my birthday?",
        "May 4",
        "May 3",
    ),
    ([("I work at Acme", "2026-01-05"), ("I joined Initech", "2026-06-01")], "Where do I work?", "Initech", "Acme"),
    (
        [("The launch date is now Dec 1", "2026-01-05"), ("The launch date is now Dec 5", "2026-06-01")],
        "launch date",
        "Dec 5",
        "Dec 1",
    ),
    (
        [("Tom's phone number is 111", "2026-01-05"), ("Anna's phone number is 222", "2026-06-01")],
        "Tom's phone number?",
        "111",
        "",
    ),
    ([("我对花生过敏", "2026-01-05"), ("我对牛奶过敏", "2026-06-01")], "我对花生过敏吗?", "花生", ""),
]


@pytest.mark.parametrize(("said", "question", "found", "gone"), CASES)
async def test_what_holds_now(
    memory: MemoryStore, said: list[tuple[str, str]], question: str, found: str, gone: str
) -> None:
    for text, on in said:
        await say(memory, text, on)
    texts = [item.text for item in await memory.recall(ANNE, question, now=day("2026-11-24"))]
    assert found in texts[0]
    assert not gone or not any(gone in text and found not in text for text in texts)
    assert (await memory.recall(ANNE, question, now=day("2026-11-24")))[0].at > 0


async def test_history_on_request(memory: MemoryStore) -> None:
    await say(memory, "我住在北京", "2026-01-05")
    await say(memory, "我搬到上海了", "2026-03-08")
    found = await memory.recall(ANNE, "我以前住在哪里?")
    assert any(item.text == "我住在北京" and item.why.get("history") for item in found)


async def test_members_of_a_group_do_not_correct_each_other(memory: MemoryStore) -> None:
    await say(memory, "我住在北京", "2026-01-05", scope=GROUP, by="anne")
    await say(memory, "我住在上海", "2026-03-08", scope=GROUP, by="bob")
    texts = [item.text for item in await memory.recall(GROUP, "谁住在北京")]
    assert "我住在北京" in texts


async def test_text_from_outside_replaces_nothing(memory: MemoryStore, clock: ManualClock) -> None:
    await memory.remember(ANNE, "我的生日是5月3日", at=clock.ms(), source="message:1", label="t2")
    await memory.remember(ANNE, "我的生日是1月1日", at=clock.ms() + 1, source="message:2", label="t5")
    texts = [item.text for item in await memory.recall(ANNE, "我的生日是哪天?")]
    assert "我的生日是5月3日" in texts


async def test_an_old_fact_does_not_come_back_when_the_newer_is_forgotten(
    memory: MemoryStore, clock: ManualClock
) -> None:
    await memory.remember(ANNE, "我住在北京", at=clock.ms(), source="message:1", label="t2")
    newer = await memory.remember(ANNE, "我搬到上海了", at=clock.ms() + 1, source="message:2", label="t2")
    await memory.forget(ANNE, [newer])
    assert await memory.recall(ANNE, "我住在哪里?") == []
