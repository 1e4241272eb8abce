"""DingTalk with everything behind it, from registry to sender. Whatever happens, one answer leaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from channels.actions import BotActions, BotEntry
from channels.base import RawRequest
from channels.registry import Bots
from channels.sender import Sender
from channels.streaming import Streaming
from security.egress_client import EgressClient
from storage.audit import Audit
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.dispatch import LocalDispatcher
from storage.envelope import Outgoing
from storage.errors import AppError
from storage.ledger import Ending, JobView, Ledger, delivery_t, lane_of
from storage.live import Live
from storage.outbox import Outbox
from storage.runner import Runner, Work
from storage.vault import Vault
from storage.words import Words
from tests.fakes.dingtalk_server import FakeDingTalk, Robot
from tests.rules.reading import ROOT


class Answers:
    """Says what it was told, after it has streamed it."""

    async def run(self, work: Work) -> Ending:
        work.tell("text", delta=work.job.title)
        return Ending(say=(Outgoing(kind="answer", text=work.job.title),))

    def excuse(self, job: JobView, error: AppError) -> Ending:
        return Ending(status="failed", reason=error.code)


class House:
    """The whole way of a message, with one app robot and one group robot. Waiting moves the clock."""

    def __init__(self, fake: FakeDingTalk, db: SqliteDatabase, clock: ManualClock) -> None:
        self.fake, self.db, self.clock = fake, db, clock
        self.ledger, self.background, self.live = Ledger(db, clock), Background(), Live()
        self.outbox = Outbox(self.ledger)
        vault = Vault(b"k" * 32, clock)
        self.egress = EgressClient(allow_local_vendors=True)
        self.bots = Bots(
            db=db,
            vault=vault,
            clock=clock,
            egress=self.egress,
            ledger=self.ledger,
            background=self.background,
            live=self.live,
            words=Words(ROOT / "assets" / "locale"),
            local=True,
        )
        self.actions = BotActions(db=db, vault=vault, audit=Audit(clock, b"a" * 32), clock=clock, bots=self.bots)
        runner = Runner(self.ledger, self.live, {"message": Answers()})
        self.dispatcher = LocalDispatcher(self.ledger, runner, self.background)
        self.sender = Sender(
            outbox=self.outbox,
            bots=self.bots,
            background=self.background,
            clock=clock,
            live=self.live,
            nap=self.nap,
        )
        self.streaming = Streaming(db, self.live, self.background, self.bots.channel)
        self.ledger.on_job = self.dispatcher.submit
        self.ledger.on_deliveries = self.sender.submit

    async def nap(self, seconds: float, woken: asyncio.Event) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def start(self, **settings: str) -> None:
        """Provide the bots as `channels.yaml` does, and take up what is open."""
        base = {"client_id": self.fake.client_id, "api_base": self.fake.url, "oapi_base": self.fake.url}
        secrets = {"client_secret": self.fake.client_secret}
        self.fake.robots["group-token"] = Robot(secret="SECabc")
        endpoint = f"{self.fake.url}/robot/send?access_token=group-token"
        await self.actions.provision(
            "channels.yaml",
            [
                BotEntry(
                    name="it-bot",
                    type="dingtalk",
                    mode="http",
                    settings=base | {"access": "open"} | settings,
                    secrets=secrets,
                ),
                BotEntry(
                    name="dingtalk", type="webhook", settings={"endpoint": endpoint}, secrets={"secret": "SECabc"}
                ),
            ],
        )
        for name in ("it-bot", "dingtalk"):
            await self.bots.reload("main", name)
        self.streaming.start()
        await self.sender.start()
        await self.dispatcher.start()

    async def stop(self) -> None:
        self.streaming.stop()
        await self.bots.stop()
        await self.background.stop()
        await self.egress.close()

    async def post(self, signed: tuple[dict[str, str], bytes]) -> int:
        headers, body = signed
        request = RawRequest(method="POST", path="/", query={}, headers=headers, body=body, ip="1.2.3.4")
        return (await self.bots.receive("dingtalk", "it-bot", "main", request)).status

    async def say(self, words: str, person: int = 1, **fields: Any) -> int:
        """A message of one of many people, each in a direct chat of their own."""
        self.clock.advance(0.001)
        who = {"conversationId": f"cid{person}==", "senderStaffId": f"staff{person}", "senderId": f"s{person}"}
        return await self.post(self.fake.callback(words, **(who | fields)))

    async def deliveries(self) -> list[Any]:
        query = select(delivery_t).order_by(delivery_t.c.id)
        return list(await self.db.read(lambda c: c.execute(query).all()))

    async def settled(self, seconds: float = 20.0) -> None:
        """Until every delivery has ended and no job is open."""
        async with asyncio.timeout(seconds):
            while await self.ledger.open_jobs() or any(
                d.status in ("pending", "sending") for d in await self.deliveries()
            ):
                await asyncio.sleep(0.01)


@pytest.fixture
async def fake(clock: ManualClock) -> AsyncIterator[FakeDingTalk]:
    async with FakeDingTalk(now=clock.ms) as server:
        yield server


@pytest.fixture
async def house(fake: FakeDingTalk, db: SqliteDatabase, clock: ManualClock) -> AsyncIterator[House]:
    made = House(fake, db, clock)
    await made.start()
    yield made
    await made.stop()


async def test_a_message_has_one_answer_with_the_vendors_id(house: House) -> None:
    assert await house.say("在吗") == 200
    await house.settled()
    (sent,) = house.fake.messages
    (delivery,) = await house.deliveries()
    assert (sent.to, sent.text) == ("staff1", "在吗")
    assert (delivery.status, delivery.vendor_id) == ("delivered", sent.id)


async def test_an_event_sent_again_also_after_a_restart_gives_one_answer(
    fake: FakeDingTalk, db: SqliteDatabase, clock: ManualClock
) -> None:
    house = House(fake, db, clock)
    await house.start()
    first = fake.callback("在吗", msgId="m1")
    for _ in range(3):
        assert await house.post(first) == 200
    clock.advance(60)
    await house.post(fake.callback("在吗", msgId="m1"))  # signed anew
    await house.settled()
    await house.stop()

    again = House(fake, db, clock)
    await again.start()
    assert await again.post(first) == 200
    assert await again.post(fake.callback("另一条", msgId="m2")) == 200
    await again.settled()
    await again.stop()
    assert [(m.to, m.text) for m in fake.messages] == [("staff1", "在吗"), ("staff1", "另一条")]


async def test_doubled_and_shuffled_events_are_handled_once_and_in_order(house: House) -> None:
    events = []
    for n in range(150):
        for _ in range(2 if n % 3 == 0 else 1):
            events.append(n)
    shuffled = random.Random(7)
    late = [n for n in events if shuffled.random() < 0.3]
    for n in [*range(150), *late]:
        await house.say(f"{n}", person=n % 10, msgId=f"m{n}")
    await house.settled()
    for person in range(10):
        got = [int(m.text) for m in house.fake.messages if m.to == f"staff{person}"]
        assert got == [n for n in range(150) if n % 10 == person]


async def test_conversations_side_by_side_keep_their_words_to_themselves(house: House) -> None:
    for n in range(300):
        assert await house.say(f"canary-{n}", person=n) == 200
    await house.settled()
    got = sorted((m.to, m.text) for m in house.fake.messages)
    assert got == sorted((f"staff{n}", f"canary-{n}") for n in range(300))


async def test_ten_minutes_without_the_vendor_lose_nothing_and_double_nothing(house: House) -> None:
    back = house.clock.ms() + 600_000
    house.fake.down = lambda: house.clock.ms() < back
    for n in range(40):
        await house.say(f"{n}", person=n % 5)
    await house.settled()
    assert house.clock.ms() >= back
    assert house.clock.ms() - back <= 60_000
    for person in range(5):
        got = [int(m.text) for m in house.fake.messages if m.to == f"staff{person}"]
        assert got == [n for n in range(40) if n % 5 == person]
    assert {d.status for d in await house.deliveries()} == {"delivered"}


async def test_a_lost_answer_is_unknown_and_sent_again_only_by_a_person(house: House) -> None:
    house.fake.fault("send", "drop")
    await house.say("one")
    await house.settled()
    (delivery,) = await house.deliveries()
    assert (delivery.status, len(house.fake.messages)) == ("unknown", 1)
    assert await house.outbox.again("main", delivery.id)
    await house.settled()
    assert [m.text for m in house.fake.messages] == ["one", "one"]


async def test_a_throttled_vendor_and_an_expired_token_only_delay(house: House) -> None:
    house.fake.fault("send", "qps", times=3)
    house.fake.fault("send", "expired")
    for n in range(5):
        await house.say(f"{n}")
    await house.settled()
    assert [m.text for m in house.fake.messages] == ["0", "1", "2", "3", "4"]


async def test_pushes_to_a_group_robot_keep_its_twenty_a_minute(house: House) -> None:
    began = house.clock.ms()
    for n in range(45):
        await house.outbox.push(
            tenant="main",
            bot="dingtalk",
            channel="webhook",
            lane=lane_of("main", "dingtalk", "push"),
            key=f"p{n}",
            address="{}",
            out=Outgoing(kind="push", text=f"{n}"),
        )
    await house.settled()
    assert [m.text for m in house.fake.messages] == [str(n) for n in range(45)]
    assert house.clock.ms() - began >= 120_000
    assert {d.attempts for d in await house.deliveries()} == {1}


async def test_answers_in_cards_come_once_too(fake: FakeDingTalk, db: SqliteDatabase, clock: ManualClock) -> None:
    house = House(fake, db, clock)
    await house.start(card_template_id="tpl.schema")
    for n in range(10):
        await house.say(f"card-{n}", person=n)
    await house.settled()
    cards = fake.cards.all.values()
    shown = sorted([(c.space, c.content) for c in cards] + [(f"IM_ROBOT.{m.to}", m.text) for m in fake.messages])
    assert shown == sorted((f"IM_ROBOT.staff{n}", f"card-{n}") for n in range(10))
    assert all(c.state == "3" for c in cards)
    await house.stop()
