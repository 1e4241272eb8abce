"""Said to memory itself, in both languages, with a confirmation that names what was kept or removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.memory.base import MemoryScope
from agent.memory.forget import Forgetter
from agent.memory.said import SaidToIt, Speaker
from agent.memory.store import MemoryStore, build_memory
from assets.build import LOCALE, compiled
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.words import Words

ANNE = MemoryScope(tenant="main", person="feishu:ou_anne")
GROUP = MemoryScope(tenant="main", group="bot/oc_team")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Words:
    folder = tmp_path_factory.mktemp("locale")
    for lang in ("zh_CN", "en"):
        target = folder / lang / "LC_MESSAGES" / "zhixing.mo"
        target.parent.mkdir(parents=True)
        target.write_bytes(compiled(lang))
    assert LOCALE.is_dir()
    return Words(folder)


@pytest.fixture
async def memory(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    store = build_memory(db, clock, Background(), tmp_path / "index", embedder="none")
    await store.start()
    yield store
    await store.stop()


class Talk:
    """One who talks: each message is put to memory first, and kept if it was not meant for it, as the loop does."""

    def __init__(self, memory: MemoryStore, words: Words, clock: ManualClock) -> None:
        self.memory, self.clock, self.n = memory, clock, 0
        self.said = SaidToIt(memory, Forgetter(memory), words)

    async def say(
        self,
        text: str,
        *,
        scope: MemoryScope = ANNE,
        lang: str = "zh_CN",
        label: str = "t2",
        by: str = "feishu:ou_anne",
    ) -> str | None:
        self.n += 1
        self.clock.advance(60)
        at = self.clock.ms()
        who = Speaker(scope=scope, message_id=self.n, at=at, label=label, lang=lang, name="安妮", id=by)
        answer = await self.said.answer(who, text)
        if answer is None:
            await self.memory.keep_turn(
                scope, message_id=self.n, speaker="安妮", text=text, at=at, session="c1", label=label, speaker_id=by
            )
            await self.memory.settle()
        return answer

    async def ask(self, query: str, *, scope: MemoryScope = ANNE) -> list[str]:
        return [item.text for item in await self.memory.recall(scope, query)]


@pytest.fixture
def talk(memory: MemoryStore, words: Words, clock: ManualClock) -> Talk:
    return Talk(memory, words, clock)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("记住我的生日是5月3日", "我的生日是5月3日"),
        ("请记住：我对花生过敏", "我对花生过敏"),
        ("帮我记一下，下周五交报告", "下周五交报告"),
        ("别忘了我不吃香菜", "我不吃香菜"),
        ("Remember that my birthday is May 3", "my birthday is May 3"),
        ("please remember: I am allergic to peanuts", "I am allergic to peanuts"),
        ("Don't forget I live in Berlin", "I live in Berlin"),
    ],
)
async def test_remember(talk: Talk, text: str, kept: str) -> None:
    answer = await talk.say(text, lang="en" if text.isascii() else "zh_CN")
    assert answer is not None
    assert kept in answer
    assert kept in await talk.ask(kept)


@pytest.mark.parametrize(
    "text",
    [
        "你还记得我的生日吗？",
        "记住了吗",
        "我忘了带伞",
        "忘了告诉你，我搬家了",
        "我忘记密码了怎么办？",
        "Do you remember my birthday?",
        "I remember when we met",
        "remember when we went to Rome",
        "forget it",
        "I forgot my password",
        "请删除文件 a.txt",
        "不对称加密是什么？",
        "你好",
    ],
)
async def test_ordinary_talk_is_left_alone(talk: Talk, text: str) -> None:
    await talk.say("记住我的生日是5月3日")
    assert await talk.say(text) is None
    assert await talk.ask("我的生日是哪天") != []


async def test_a_changed_fact_names_the_old_one(talk: Talk) -> None:
    await talk.say("记住我住在北京")
    answer = await talk.say("记住我搬到上海了")
    assert answer is not None
    assert "我搬到上海了" in answer
    assert "我住在北京" in answer


@pytest.mark.parametrize(("ask", "lang"), [("你记得我什么？", "zh_CN"), ("What do you remember about me?", "en")])
async def test_list(talk: Talk, ask: str, lang: str) -> None:
    assert (await talk.say(ask, lang=lang)) == talk.said.words.say(lang, "memory.said.list_none")
    await talk.say("记住我的生日是5月3日")
    await talk.say("今天天气不错")
    answer = await talk.say(ask, lang=lang)
    assert answer is not None
    assert answer.count("5月3日") == 1
    assert "天气" not in answer
    assert "2026-01-01" in answer


async def test_forget_one_thing(talk: Talk) -> None:
    await talk.say("记住我的生日是5月3日")
    await talk.say("记住我的猫叫豆豆")
    answer = await talk.say("忘记我的生日")
    assert answer is not None
    assert "5月3日" in answer
    assert await talk.ask("我的生日是哪天") == []
    assert "我的猫叫豆豆" in await talk.ask("我的猫叫什么")
    assert "没有找到" in (await talk.say("忘记我的护照号码") or "")


async def test_forget_in_english(talk: Talk) -> None:
    await talk.say("Remember that my locker code is 4711", lang="en")
    answer = await talk.say("Forget my locker code", lang="en")
    assert answer is not None
    assert "4711" in answer
    assert await talk.ask("locker code") == []


async def test_forgetting_everything_is_asked_about_first(talk: Talk) -> None:
    await talk.say("记住我的生日是5月3日")
    answer = await talk.say("忘记关于我的一切")
    assert answer is not None
    assert "确认忘记" in answer
    assert await talk.ask("我的生日是哪天") != []
    assert await talk.say("确认忘记") is not None
    assert await talk.ask("我的生日是哪天") == []
    assert await talk.say("确认忘记") is None


async def test_a_confirmation_comes_too_late(talk: Talk) -> None:
    await talk.say("记住我的生日是5月3日")
    await talk.say("忘记关于我的一切")
    talk.clock.advance(3600)
    assert await talk.say("确认忘记") is None
    assert await talk.ask("我的生日是哪天") != []


@pytest.mark.parametrize("text", ["那是错的", "你记错了", "That's wrong"])
async def test_what_was_recalled_is_retracted(talk: Talk, text: str) -> None:
    await talk.say("记住我的生日是5月3日")
    await talk.ask("我的生日是哪天")
    answer = await talk.say(text)
    assert answer is not None
    assert "5月3日" in answer
    assert not [t for t in await talk.ask("我的生日是哪天") if "5月3日" in t]


@pytest.mark.parametrize("text", ["不对，我的生日是5月4日", "那是错的，应该是5月4日", "你记错了，我的生日是5月4日"])
async def test_a_correction_takes_the_place(talk: Talk, text: str) -> None:
    await talk.say("记住我的生日是5月3日")
    await talk.ask("我的生日是哪天")
    answer = await talk.say(text)
    assert answer is not None
    assert "5月4日" in answer
    assert "5月3日" in answer
    found = await talk.ask("我的生日是哪天")
    assert "5月4日" in found[0]
    assert not [t for t in found if "5月3日" in t]


async def test_that_is_wrong_without_a_memory_is_for_the_model(talk: Talk) -> None:
    assert await talk.say("那是错的") is None


async def test_text_from_outside_is_not_kept(talk: Talk) -> None:
    answer = await talk.say("记住我的银行是某某银行", label="t5")
    assert answer == talk.said.words.say("zh_CN", "memory.said.outside")
    assert not [t for t in await talk.memory.recall(ANNE, "我的银行是哪家") if t.kind == "fact"]


async def test_in_a_group_one_forgets_only_ones_own(talk: Talk) -> None:
    await talk.say("我的工位在三楼", scope=GROUP, label="t3", by="feishu:ou_anne")
    await talk.say("我的工位在五楼", scope=GROUP, label="t3", by="feishu:ou_bob")
    assert "确认忘记" in (await talk.say("忘记关于我的一切", scope=GROUP, label="t3", by="feishu:ou_anne") or "")
    assert await talk.say("确认忘记", scope=GROUP, label="t3", by="feishu:ou_bob") is None
    assert await talk.say("确认忘记", scope=GROUP, label="t3", by="feishu:ou_anne") is not None
    found = await talk.ask("工位在几楼", scope=GROUP)
    assert "我的工位在五楼" in found
    assert "我的工位在三楼" not in found
