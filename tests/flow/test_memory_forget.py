"""Forgotten means gone: from rows, words, vectors, views, answers that repeat it, transcripts, export and the file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from agent.memory.base import MemoryScope
from agent.memory.forget import Forgetter, Wish
from agent.memory.newrow import OURS
from agent.memory.rows import memory_t, vector_t
from agent.memory.store import MemoryStore, build_memory
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.envelope import Inbound, Outgoing, Part
from storage.ledger import Ending, JobView, Ledger, conversation_t, delivery_t, job_t, message_t, step_t
from storage.live import Live
from storage.runner import Runner, Work

ANNE = MemoryScope(tenant="main", person="feishu:ou_anne")
BOB = MemoryScope(tenant="main", person="feishu:ou_bob")
GROUP = MemoryScope(tenant="main", group="bot/oc_team")
CANARY = "zebraxylophone"


@pytest.fixture
async def memory(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    background = Background()
    store = build_memory(db, clock, background, tmp_path / "index", embedder="none")
    await store.start()
    yield store
    await store.stop()
    await background.stop()


async def say(
    memory: MemoryStore, n: int, text: str, *, scope: MemoryScope = ANNE, speaker: str = "安妮", by: str = ""
) -> None:
    memory.clock.advance(60)  # type: ignore[attr-defined]
    await memory.keep_turn(
        scope,
        message_id=n,
        speaker=speaker,
        text=text,
        at=memory.clock.ms(),
        session="c1",
        label="t2",
        speaker_id=by,
    )


async def rows(memory: MemoryStore) -> list[str]:
    await memory.settle()
    return await memory.db.read(lambda c: [r.text for r in c.execute(select(memory_t.c.text).order_by(memory_t.c.id))])


async def test_a_dry_run_shows_and_changes_nothing(memory: MemoryStore) -> None:
    await say(memory, 1, f"我的密码提示是 {CANARY}")
    await say(memory, 2, "今天天气不错")
    preview = await Forgetter(memory).preview(ANNE, Wish(query=CANARY))
    assert preview.counts == {"turn": 1}
    assert preview.samples[0].text == f"我的密码提示是 {CANARY}"
    assert len(await rows(memory)) == 2


async def test_a_search_takes_echoes_and_facts_along(memory: MemoryStore) -> None:
    await say(memory, 1, f"我的护照号码是 {CANARY} 签发于上海")
    await memory.remember(ANNE, f"护照号码 {CANARY}", at=memory.clock.ms(), source="message:1", label="t2")
    await say(memory, 2, f"好的，你的护照号码是 {CANARY}，签发于上海。", speaker=OURS)
    await say(memory, 3, "好的，再见", speaker=OURS)
    await say(memory, 4, "今天天气不错")
    gone = await Forgetter(memory).forget(ANNE, Wish(query=f"护照号码 {CANARY}"))
    assert gone.counts == {"turn": 2, "fact": 1}
    assert await rows(memory) == ["好的，再见", "今天天气不错"]


async def test_by_source_time_and_person(memory: MemoryStore) -> None:
    forgetter = Forgetter(memory)
    await say(memory, 1, "一", scope=GROUP, by="feishu:ou_anne")
    middle = memory.clock.ms()
    await say(memory, 2, "二", scope=GROUP, by="feishu:ou_bob")
    await say(memory, 3, "三", by="feishu:ou_anne")
    await say(memory, 4, "四", scope=BOB, by="feishu:ou_bob")
    await memory.remember(ANNE, "来自文件的话", at=memory.clock.ms(), source="import:x", label="t5")
    assert (await forgetter.forget(ANNE, Wish(source="import:x"))).total == 1
    assert (await forgetter.forget(GROUP, Wish(until=middle))).total == 1
    assert await rows(memory) == ["二", "三", "四"]
    assert (await forgetter.forget(GROUP, Wish(person="feishu:ou_bob"))).total == 2
    assert await rows(memory) == ["三"]
    assert (await forgetter.forget(ANNE, Wish())).total == 0
    assert (await forgetter.forget(ANNE, Wish(everything=True))).total == 1
    assert await rows(memory) == []


async def test_another_tenant_is_never_touched(memory: MemoryStore) -> None:
    other = MemoryScope(tenant="other", person="feishu:ou_anne")
    await say(memory, 1, "我的猫叫豆豆", scope=other, by="feishu:ou_anne")
    await memory.settle()
    for wish in (Wish(person="feishu:ou_anne"), Wish(everything=True), Wish(ids=(1,)), Wish(query="豆豆")):
        assert (await Forgetter(memory).forget(ANNE, wish)).total == 0
    assert await rows(memory) == ["我的猫叫豆豆"]


class Repeats:
    """A handler that answers with what it was told, as a job with steps."""

    async def run(self, work: Work) -> Ending:
        async def step() -> str:
            return f'[{{"id": 1, "text": "{CANARY}"}}]'

        await work.step("recall", "recall", step)
        return Ending(say=(Outgoing(kind="answer", text=f"noted {CANARY}"),))

    def excuse(self, job: JobView, error: Exception) -> Ending:
        return Ending(status="failed", reason=str(error))


async def test_transcripts_go_too(memory: MemoryStore, db: SqliteDatabase, clock: ManualClock) -> None:
    ledger, background = Ledger(db, clock), memory.background
    runner = Runner(ledger, Live(), {"message": Repeats()})  # type: ignore[dict-item]
    views: list[JobView] = []
    ledger.on_job = views.append
    accepted = await ledger.accept(
        Inbound(
            tenant="main",
            bot="b",
            channel="feishu",
            keys=("e1",),
            vendor_id="m1",
            conversation="c1",
            kind="direct",
            sender="ou_anne",
            parts=(Part(kind="text", text=f"my code is {CANARY}"),),
        )
    )
    await runner.run(views[0].id)
    await say(memory, accepted.message_id, f"my code is {CANARY}")
    await memory.settle()
    await Forgetter(memory).forget(ANNE, Wish(query=CANARY))

    def left(c):  # type: ignore[no-untyped-def]
        out = []
        for table in (message_t, step_t, job_t, delivery_t, conversation_t, memory_t):
            out += [str(tuple(row)) for row in c.execute(select(table)) if CANARY in str(tuple(row))]
        return out

    found = await db.read(left)
    assert [row for row in found if "pending" not in row] == []  # what was not sent yet is still to be said
    await background.stop()


async def test_nothing_is_left_in_the_file(memory: MemoryStore, db: SqliteDatabase) -> None:
    await say(memory, 1, f"我的密码提示是 {CANARY}")
    for n in range(2, 40):
        await say(memory, n, f"第{n}句闲话，关于天气和午饭")
    await memory.settle()
    forgetter = Forgetter(memory)
    await forgetter.forget(ANNE, Wish(query=CANARY))
    async with asyncio.timeout(10):
        await forgetter.purge()
    await memory.stop()
    db.close()
    plain = sqlite3.connect(db.path)
    plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    from agent.memory.tokens import hashed, stem

    term = f"%z{hashed(stem(CANARY)):x}"
    assert plain.execute("SELECT count(*) FROM memory_words_count WHERE term LIKE ?", (term,)).fetchone()[0] == 0
    assert plain.execute("SELECT count(*) FROM memory_words_count WHERE doc > 30").fetchone()[0] > 0
    plain.close()
    data = db.path.read_bytes()
    assert CANARY.encode() not in data
    assert term[1:].encode() not in data


async def test_vectors_go_with_their_rows(memory: MemoryStore, db: SqliteDatabase) -> None:
    await say(memory, 1, "我的猫叫豆豆")
    await memory.settle()
    await db.write(
        lambda c: (
            c.execute(
                vector_t.insert(),
                {"memory_id": 1, "embedder": "x", "store_id": 1, "settled": True, "pooled": b"1", "tokens": b"1"},
            ).rowcount
        )
    )
    await memory.forget(ANNE, [1])
    assert await db.read(lambda c: c.execute(select(vector_t)).first()) is None


async def test_a_tenth_goes_and_the_rest_is_found_as_before(memory: MemoryStore) -> None:
    for n in range(1, 101):
        await say(memory, n, f"my item number{n} lies on shelf{n * 7}")
    await memory.settle()
    found = {n: (await memory.recall(ANNE, f"number{n}"))[0].id for n in range(1, 101)}
    await memory.forget(ANNE, [found[n] for n in range(10, 101, 10)])
    for n in range(1, 101):
        now = await memory.recall(ANNE, f"number{n}")
        assert (now[0].id == found[n]) if n % 10 else not [r for r in now if f"number{n} " in r.text]
