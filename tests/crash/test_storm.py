"""A storm: many events, a third of them twice, in any order, and three times `kill -9` on the way.

`ZHIXING_STORM=10000` runs it at full size and prints how long acknowledging took.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks.parts.client import quantile
from tests.crash.kill_house import TAG, KillHouse, Question

SIZE = int(os.environ.get("ZHIXING_STORM", "240"))
AGAIN = 0.3
KILLS = (0.25, 0.5, 0.75)
SENDERS = 32
PEOPLE = 97

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120 + SIZE // 4)]


class Storm:
    """Feishu's side: sends each event until it is acknowledged, as the vendor does."""

    def __init__(self, house: KillHouse, events: list[Question]) -> None:
        self.house, self.waiting, self.sent = house, list(reversed(events)), 0
        self.times: list[float] = []
        self.up = asyncio.Event()

    async def send(self) -> None:
        while self.waiting:
            event = self.waiting.pop()
            await self.up.wait()
            began = time.perf_counter()
            before = event.tag in self.house.acknowledged
            self.house.acknowledged.discard(event.tag)
            await self.house.post([event])
            if event.tag not in self.house.acknowledged:
                self.waiting.append(event)  # the process is dead: the vendor comes again
                if before:
                    self.house.acknowledged.add(event.tag)
                await asyncio.sleep(0.05)
                continue
            self.times.append((time.perf_counter() - began) * 1000)
            self.sent += 1

    async def kill(self, at: int) -> None:
        """Kill the process once so many were acknowledged, and start it again."""
        while self.sent < at:
            await asyncio.sleep(0.01)
        assert self.house.server is not None
        self.up.clear()
        self.house.server.process.send_signal(signal.SIGKILL)
        assert await self.house.died() == -signal.SIGKILL
        await self.house.start()
        self.up.set()


def questions(house: KillHouse, count: int) -> list[Question]:
    """Many people's messages."""
    made = []
    for n in range(count):
        tag = f"q{n + 1}-{os.urandom(3).hex()}"
        raw = house.events.raw_message(f"Please answer {tag}", person=f"ou_person{n % PEOPLE}")
        made.append(Question(tag=tag, vendor="feishu", id=raw["event"]["message"]["message_id"], raw=raw))
    house.questions += made
    return made


async def test_every_event_is_handled_once_and_in_order_over_three_kills(tmp_path: Path) -> None:
    async with KillHouse(tmp_path) as house:
        house.model.gate.set()
        unique = questions(house, SIZE)
        dice = random.Random(20261124)
        events = [*unique, *dice.sample(unique, int(SIZE * AGAIN))]
        dice.shuffle(events)
        storm = Storm(house, events)
        await house.start()
        storm.up.set()
        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                _ = group.create_task(storm.send())
            for share in KILLS:
                await storm.kill(int(len(events) * share))
        await house.settled(60 + SIZE / 20)

        assert house.look("SELECT count(*) FROM job") == [(SIZE,)]
        assert house.look("SELECT status, count(*) FROM job GROUP BY status") == [("done", SIZE)]
        found = house.answers()
        lost = [q.tag for q in unique if found[q.tag] == 0]
        doubled = [q.tag for q in unique if found[q.tag] > 1]
        assert (len(lost), len(doubled)) == (0, 0)
        assert house.said() == SIZE
        check_order(house)
        p50, p99 = quantile(storm.times, 0.5), quantile(storm.times, 0.99)
        print(f"\n{SIZE} events, {len(events)} deliveries: acknowledged in {p50:.1f} ms (p50), {p99:.1f} ms (p99)")


def check_order(house: KillHouse) -> None:
    """Each conversation's answers came in the order in which its messages were taken."""
    query = "SELECT c.key, m.text FROM job j JOIN message m ON m.id = j.message_id"
    taken: dict[str, list[str]] = defaultdict(list)
    where: dict[str, str] = {}
    for key, text in house.look(f"{query} JOIN conversation c ON c.id = j.conversation_id ORDER BY j.id"):
        tag = TAG.findall(text)[-1]
        taken[key].append(tag)
        where[tag] = key
    said: dict[str, list[str]] = defaultdict(list)
    for sent in sorted(house.feishu.messages, key=lambda message: message.at):
        tag = TAG.findall(sent.text)[0]
        said[where[tag]].append(tag)
    assert json.dumps(said, sort_keys=True) == json.dumps(taken, sort_keys=True)
