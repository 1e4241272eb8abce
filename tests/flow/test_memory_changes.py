"""What was true and what is: changed facts, change and change back, late words about the past, two of one name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.memory.base import MemoryScope
from agent.memory.store import MemoryStore, build_memory
from agent.prompts import system_prompt
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.words import Words
from tests.rules.reading import ROOT

ANNE = MemoryScope(tenant="main", person="feishu:ou_anne")
GROUP = MemoryScope(tenant="main", group="bot/oc_team")
ZONE = ZoneInfo("Asia/Shanghai")
WORDS = Words(ROOT / "assets" / "locale")


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


CASES += [
    # corrections and negation in other words
    ([("我住在北京", "2026-01-05"), ("更正一下，我住在天津", "2026-01-06")], "我家在哪儿?", "天津", "北京"),
    ([("我抽烟", "2025-03-01"), ("我戒烟了", "2026-02-01")], "我还抽烟吗?", "戒烟", ""),
    ([("我讨厌香菜", "2026-01-05"), ("我现在喜欢香菜了", "2026-07-01")], "我喜欢香菜吗?", "现在喜欢", "讨厌"),
    ([("I eat meat", "2026-01-05"), ("I stopped eating meat", "2026-04-01")], "Do I eat meat?", "stopped", ""),
    (
        [("I hate coriander", "2026-01-05"), ("I like coriander now", "2026-07-01")],
        "Do I like coriander?",
        "now",
        "hate",
    ),
    # two people of one name
    (
        [("设计部的张伟的生日是3月2日", "2026-01-05"), ("财务部的张伟的生日是8月9日", "2026-02-05")],
        "财务部的张伟生日是哪天?",
        "8月9日",
        "",
    ),
    (
        [("Kim from sales sits on floor 3", "2026-01-05"), ("Kim from legal sits on floor 7", "2026-02-05")],
        "Where does Kim from legal sit?",
        "floor 7",
        "",
    ),
    # a promise with a date
    (
        [("我答应周五前把预算表发给王经理", "2026-11-18"), ("今天天气不错", "2026-11-19")],
        "我答应王经理什么?",
        "预算表",
        "",
    ),
    (
        [("I promised Anna the slides by Friday", "2026-11-18"), ("Lunch was good", "2026-11-19")],
        "What did I promise Anna?",
        "slides",
        "",
    ),
    (
        [("合同交付日期是12月1日", "2026-10-01"), ("合同交付日期推迟到12月15日", "2026-11-10")],
        "合同什么时候交付?",
        "12月15日",
        "12月1日",
    ),
    # relative dates in the question
    ([("我去了医院体检", "2026-10-12"), ("我去了医院拔牙", "2026-08-03")], "上个月我去医院做什么?", "体检", ""),
    (
        [("I went to the dentist", "2026-05-14"), ("I went to the eye doctor", "2026-09-02")],
        "Which doctor did I see last May?",
        "dentist",
        "",
    ),
    ([("和老陈吃了火锅", "2026-11-23"), ("和老陈吃了烤鸭", "2026-10-02")], "昨天和老陈吃了什么?", "火锅", ""),
    (
        [("We shipped version 4", "2026-11-17"), ("We shipped version 3", "2026-08-11")],
        "What did we ship last week?",
        "version 4",
        "",
    ),
    # other attributes that change
    ([("项目负责人是李雷", "2026-01-05"), ("项目负责人改为韩梅梅", "2026-05-05")], "项目负责人是谁?", "韩梅梅", "李雷"),
    ([("年会地点是杭州", "2026-09-01"), ("年会地点改到苏州", "2026-10-01")], "年会地点在哪?", "苏州", "杭州"),
    (
        [("Our budget is 30,000", "2026-01-05"), ("Our budget is now 45,000", "2026-05-05")],
        "What is our budget?",
        "45,000",
        "30,000",
    ),
    (
        [("My email is a@x.com", "2026-01-05"), ("My new email is b@y.com", "2026-05-05")],
        "What is my email?",
        "b@y.com",
        "a@x.com",
    ),
    ([("我今年35岁", "2025-06-01"), ("我36岁了", "2026-06-02")], "我几岁?", "36", "35"),
    ([("我叫王小明", "2026-01-05"), ("我叫王晓明", "2026-01-06")], "我叫什么名字?", "晓明", "小明"),
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
    best = (await memory.recall(ANNE, question, now=day("2026-11-24")))[0]
    told = system_prompt(WORDS, "zh_CN", now="2026-11-24", person="安妮", recalled=[best])
    assert f"- [{next(on for text, on in said if text == best.text)}] {best.text}" in told  # and when it was said


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
