"""A thousand people with a secret each: nobody's recall holds another's."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path

from agent.memory.base import MemoryScope
from agent.memory.store import build_memory
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase

PEOPLE, GROUPS = 1000, 20
SECRET = re.compile(r"canary(\d+)x")


def direct(n: int) -> MemoryScope:
    return MemoryScope(tenant=f"t{n % 3}", person=f"feishu:ou_{n}", bot="hr")


async def test_no_secret_in_anothers_recall(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> None:
    memory = build_memory(db, clock, Background(), tmp_path / "index", embedder="none")
    await memory.start()
    dice, number = random.Random(1), 0
    members: dict[int, set[int]] = {g: set() for g in range(GROUPS)}
    for n in range(PEOPLE):
        number += 1
        text = f"my secret code is canary{n}x 我的密码是 canary{n}x"
        await memory.keep_turn(
            direct(n), message_id=number, speaker=f"p{n}", text=text, at=clock.ms(), session="d", label="t2"
        )
        group = n % GROUPS
        members[group].add(n)
        number += 1
        scope = MemoryScope(tenant=f"t{n % 3}", group=f"bot/g{group}")
        text = f"in this group my secret code is canary{PEOPLE + n}x"
        await memory.keep_turn(
            scope, message_id=number, speaker=f"p{n}", text=text, at=clock.ms(), session="g", label="t3",
            speaker_id=f"feishu:ou_{n}",
        )  # fmt: skip
    await memory.settle()
    async with asyncio.timeout(50):
        for n in dice.sample(range(PEOPLE), 250):
            other = (n + 3) % PEOPLE
            for query in ("what is my secret code?", "我的密码是什么", f"canary{other}x", f"canary{PEOPLE + n}x"):
                for item in await memory.recall(direct(n), query):
                    assert [int(c) for c in SECRET.findall(item.text)] == [n, n]
            group = n % GROUPS
            scope = MemoryScope(tenant=f"t{n % 3}", group=f"bot/g{group}")
            for query in ("what is the secret code?", f"canary{n}x"):
                for item in await memory.recall(scope, query):
                    assert {int(c) - PEOPLE for c in SECRET.findall(item.text)} <= members[group]
    await memory.stop()
