"""What no longer fits into the window is summarised, and what a summary must not lose is still there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update

from agent.context import MOST_MESSAGES, compacted, fit, fitted, read_asked, tokens
from agent.digest import digest, figures, lost
from agent.memory.transcripts import redact
from agent.models.base import ChatMessage
from agent.summaries import KEPT, Summaries
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.envelope import Inbound, Part
from storage.errors import Unavailable
from storage.ledger import Ledger, conversation_t, message_t

FACTS = [
    "年会定在12月20日，在杭州办",
    "预算从30万改成45万",
    "李雷负责订酒店，11月28日前给出三家报价",
    "We decided to go with Hengtong at 128 per unit",
    "The contract number is HT-2026-0091",
    "下一步：周五下午3点和王经理确认名单",
    "供应商电话 0571-88231290",
    "Anna will send the seating plan by 2 December",
]
CHATTER = "好的，明白了，这样挺好。"


class Talk:
    """A conversation whose messages are written as the ledger does."""

    def __init__(self, db: SqliteDatabase, ledger: Ledger) -> None:
        self.db, self.ledger, self.n, self.conversation = db, ledger, 0, 0

    async def say(self, text: str, *, direction: str = "in", origin: str = "t2") -> int:
        self.n += 1
        accepted = await self.ledger.accept(
            Inbound(
                tenant="main",
                bot="b",
                channel="feishu",
                keys=(f"m{self.n}",),
                vendor_id=f"m{self.n}",
                conversation="c1",
                kind="direct",
                sender="ou_1",
                sender_name="安妮",
                origin=origin,
                parts=(Part(kind="text", text=text),),
            )
        )
        job = await self.ledger.db.read(
            lambda c: c.execute(select(message_t).where(message_t.c.job_id == accepted.job_id)).first()
        )
        assert job is not None
        self.conversation = job.conversation_id
        if direction == "out":
            await self.db.write(
                lambda c: c.execute(update(message_t).where(message_t.c.id == job.id).values(direction="out")).rowcount
            )
        return int(job.id)


@pytest.fixture
async def talk(db: SqliteDatabase, clock: ManualClock) -> Talk:
    return Talk(db, Ledger(db, clock))


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    made = Background()
    yield made
    await made.stop()


async def long_talk(talk: Talk) -> None:
    for n, fact in enumerate(FACTS):
        await talk.say(fact)
        await talk.say(CHATTER if n % 2 else "那就这样", direction="out")
    for n in range(60):
        await talk.say(f"{CHATTER}{'啊' * (n % 3)}", direction="out" if n % 2 else "in")


async def no_model(_tenant: str, _prompt: str) -> str:
    raise Unavailable("model.none")


async def test_without_a_model_the_sentences_that_matter_are_kept(
    talk: Talk, db: SqliteDatabase, background: Background
) -> None:
    await long_talk(talk)
    summaries = Summaries(db, background, no_model)
    while await summaries.shorten("main", talk.conversation, 32_000):
        pass
    last = await talk.say("年会在哪天办？")
    asked = await db.read(lambda c: read_asked(c, last))
    assert len(asked.history) < MOST_MESSAGES / 2
    assert asked.unseen == 0
    for fact in FACTS:
        assert figures(fact) <= figures(asked.summary), fact
    assert "李雷" in asked.summary
    assert "王经理" in asked.summary
    assert asked.summary.count(CHATTER) == 0


async def test_what_a_model_leaves_out_is_put_back(talk: Talk, db: SqliteDatabase, background: Background) -> None:
    await long_talk(talk)
    prompts: list[str] = []

    async def forgetful(_tenant: str, prompt: str) -> str:
        prompts.append(prompt)
        return "他们在筹备年会，定在杭州。"

    summaries = Summaries(db, background, forgetful)
    while await summaries.shorten("main", talk.conversation, 32_000):
        pass
    newest = select(message_t.c.id).order_by(message_t.c.id.desc())
    asked = await db.read(lambda c: read_asked(c, c.execute(newest).scalar() or 0))
    assert asked.summary.startswith("他们在筹备年会")
    for fact in FACTS:
        assert figures(fact) <= figures(asked.summary), fact
    assert FACTS[0] in prompts[0]


async def test_a_short_talk_is_left_alone(talk: Talk, db: SqliteDatabase, background: Background) -> None:
    for fact in FACTS:
        await talk.say(fact)
    assert not await Summaries(db, background, no_model).shorten("main", talk.conversation, 32_000)


async def test_a_small_window_is_summarised_sooner(talk: Talk, db: SqliteDatabase, background: Background) -> None:
    for n in range(KEPT + 6):
        await talk.say(f"第{n}段 " + "很长的一段话。" * 40)
    assert await Summaries(db, background, no_model).shorten("main", talk.conversation, 4_000)


async def test_what_is_forgotten_meanwhile_does_not_come_back(
    talk: Talk, db: SqliteDatabase, background: Background
) -> None:
    await long_talk(talk)
    first = await db.read(lambda c: c.execute(select(message_t.c.id).order_by(message_t.c.id)).scalar())

    async def while_asked(_tenant: str, _prompt: str) -> str:
        await db.write(lambda c: redact(c, "main", [first], []))
        return FACTS[0]

    assert not await Summaries(db, background, while_asked).shorten("main", talk.conversation, 32_000)
    row = await db.read(lambda c: c.execute(select(conversation_t.c.summary)).scalar())
    assert row == ""


async def test_one_summary_of_a_conversation_at_a_time(talk: Talk, db: SqliteDatabase, background: Background) -> None:
    await long_talk(talk)
    gate, calls = asyncio.Event(), 0

    async def slow(_tenant: str, _prompt: str) -> str:
        nonlocal calls
        calls += 1
        await gate.wait()
        return "摘要"

    summaries = Summaries(db, background, slow)
    job = await talk.ledger.claim((await db.read(lambda c: c.execute(select(message_t.c.job_id)).scalar())) or 0)
    assert job is not None
    for _ in range(5):
        summaries.notice(job, 32_000, messages=100, chars=5_000)
    for _ in range(200):
        if calls:
            break
        await asyncio.sleep(0.01)
    assert calls == 1
    gate.set()


async def test_what_does_not_fit_is_counted(talk: Talk, db: SqliteDatabase) -> None:
    for n in range(MOST_MESSAGES + 20):
        last = await talk.say(f"消息 {n} " + "字" * 50)
    asked = fitted(await db.read(lambda c: read_asked(c, last)), 600)
    assert asked.since == asked.history[0].id
    assert len(asked.history) + asked.unseen == MOST_MESSAGES + 19
    assert sum(tokens(m.text) for m in fit(asked.history, 600)) <= 600


def test_old_tool_results_are_cut_and_say_so() -> None:
    long = "a" * 20_000
    messages = [ChatMessage(role="system", text="s"), ChatMessage(role="user", text="q")]
    messages += [ChatMessage(role="tool", text=long, call_id=str(n), name="t") for n in range(5)]
    short = compacted(messages, 12_000)
    assert sum(tokens(m.text) for m in short) <= 12_000
    assert short[-1].text == long
    assert "left out here" in short[2].text
    assert [m.call_id for m in short] == [m.call_id for m in messages]
    assert compacted(messages, 1_000_000) == messages


def test_digest_is_bounded_and_counts_what_it_leaves_out() -> None:
    lines = [f"安妮: 第{n}项的预算是{n}00元，由张三负责。" for n in range(200)]
    made = digest(lines, 2_000)
    assert len(made) < 2_200
    assert made.splitlines()[-1].startswith("(+")
    assert lost(["安妮: 电话是 0571-88231290。"], "已留电话") == ["安妮: 电话是 0571-88231290。"]
