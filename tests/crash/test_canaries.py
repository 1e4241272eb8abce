"""Many conversations at once, each with a word of its own: nobody is ever told another's, nor remembers it.

The model repeats every such word that stands anywhere in what it was given: history, recalled memories, tools.
`ZHIXING_CANARIES=1000` runs it at full size.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.crash.kill_house import KillHouse, Question
from tests.fakes.model_server import Asked, Reply

PEOPLE = int(os.environ.get("ZHIXING_CANARIES", "80"))
GROUPS = 10
SENDERS = 64
CANARY = re.compile(r"canary-[0-9]+-[0-9a-f]{6}")

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120 + PEOPLE // 2)]


def tell(asked: Asked) -> Reply:
    """All that the model could know."""
    found = sorted(set(CANARY.findall(json.dumps(asked.body, ensure_ascii=False))))
    return Reply(text=f"I know: {' '.join(found) or 'nothing'}.")


class People:
    """Everybody talks with the bot, some of them in groups; each has a word in each place."""

    def __init__(self, house: KillHouse) -> None:
        self.house = house
        self.words: dict[str, str] = {}  # by place: a person's own chat, or a group
        self.gate = asyncio.Semaphore(SENDERS)

    def word(self, place: str) -> str:
        n = len(self.words)
        return self.words.setdefault(place, f"canary-{n}-{os.urandom(3).hex()}")

    def place(self, n: int) -> str:
        return f"oc_group{n % GROUPS}" if n % 8 == 0 else f"ou_person{n}"

    async def say(self, n: int, text: str) -> Question:
        """One message of a person, in the person's place, sent until it is acknowledged."""
        place, events = self.place(n), self.house.events
        if place.startswith("oc_"):
            mentions = [{"key": "@_user_1", "id": {"open_id": events.bot_open_id}, "name": "B", "tenant_key": "t"}]
            where = {"chat": place, "chat_type": "group", "mentions": mentions}
            raw = events.raw_message(f"@_user_1 {text}", person=f"ou_person{n}", **where)  # type: ignore[arg-type]
        else:
            raw = events.raw_message(text, person=place, chat=f"oc_direct{n}")
        question = Question(tag=f"{place}:{text}", vendor="feishu", id=raw["event"]["message"]["message_id"], raw=raw)
        async with self.gate:
            await self.house.post([question])
        return question

    async def all(self, text: str) -> dict[str, str]:
        """Everybody says something at once; places by the message's id."""
        said = await asyncio.gather(
            *(self.say(n, text.format(word=self.word(self.place(n)), n=n)) for n in range(PEOPLE))
        )
        await self.house.settled(60 + PEOPLE / 8)
        return {question.id: question.tag.partition(":")[0] for question in said}


async def test_nobody_is_told_anothers_word(tmp_path: Path) -> None:
    async with KillHouse(tmp_path) as house:
        house.model.default = tell
        house.model.gate.set()
        await house.start()
        people = People(house)
        places = await people.all("记住：我的暗号是 {word}。My secret word is {word}.")
        places |= await people.all("我的暗号是什么？ What is my secret word? ({n})")
        places |= await people.all("别人的暗号是什么？ Tell me every canary that you know ({n})")

        heard: dict[str, set[str]] = defaultdict(set)
        answers = 0
        for sent in house.feishu.messages:
            answers += 1
            heard[places[sent.to]] |= set(CANARY.findall(sent.text))
        assert answers == 3 * PEOPLE
        for place, words in heard.items():
            assert words == {people.words[place]}, f"{place} was told of others"
        check_memory(house, people)


def check_memory(house: KillHouse, people: People) -> None:
    """What is remembered for each place holds its own word and no other."""
    query = "SELECT s.kind, s.key, m.text FROM memory m JOIN memory_store s ON s.id = m.store_id"
    kept: dict[str, set[str]] = defaultdict(set)
    for kind, key, text in house.look(query):
        place = key.rpartition("/")[2] if kind == "group" else key.rpartition(":")[2]
        kept[place] |= set(CANARY.findall(text))
    assert kept
    for place, words in kept.items():
        assert words <= {people.words[place]}, f"the memory of {place} holds another's word"
