"""DingTalk and the real ledger: whatever is sent again, one answer leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from channels.base import RawRequest
from channels.dingtalk.runtime import DingTalkChannel
from channels.hooks import Hooks, Pulse
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.dispatch import LocalDispatcher
from storage.envelope import Inbound, Outgoing
from storage.errors import AppError
from storage.ledger import DeliveryView, Ending, JobView, Ledger
from storage.live import Live
from storage.outbox import Outbox
from storage.runner import Runner, Work
from tests.fakes.dingtalk_server import FakeDingTalk
from tests.flow.test_dingtalk_channel import Bench


class Answers:
    """Says what it was told."""

    async def run(self, work: Work) -> Ending:
        return Ending(say=(Outgoing(kind="answer", text=work.job.title),))

    def excuse(self, job: JobView, error: AppError) -> Ending:
        return Ending(status="failed", reason=error.code)


class House:
    """Ledger, dispatcher, one bot, and a sender without retries."""

    def __init__(self, fake: FakeDingTalk, db: SqliteDatabase, clock: ManualClock) -> None:
        self.ledger, self.background = Ledger(db, clock), Background()
        self.outbox = Outbox(self.ledger)
        runner = Runner(self.ledger, Live(), {"message": Answers()})
        self.dispatcher = LocalDispatcher(self.ledger, runner, self.background)
        self.ledger.on_job = self.dispatcher.submit
        self.ledger.on_deliveries = self.deliver
        self.egress = EgressClient(allow_local_vendors=True)
        config = Bench(fake, clock).config
        hooks = Hooks(background=self.background, pulse=Pulse(clock=clock), local=True)
        self.channel = DingTalkChannel(config, self.egress, clock, self.accept, hooks)
        self.clock = clock

    async def accept(self, inbound: Inbound) -> bool:
        return (await self.ledger.accept(inbound)).fresh

    def deliver(self, rows: Sequence[DeliveryView]) -> None:
        for row in rows:
            _ = self.background.spawn(f"delivery {row.id}", self.one(row))

    async def one(self, row: DeliveryView) -> None:
        await self.outbox.sending(row, durable=True)
        receipt = await self.channel.send(Outgoing.from_json(row.payload), row.address, row.key, lambda: None)
        await self.outbox.delivered(row, receipt.vendor_id, self.clock.ms())

    async def post(self, signed: tuple[dict[str, str], bytes]) -> int:
        headers, body = signed
        request = RawRequest(method="POST", path="/", query={}, headers=headers, body=body, ip="1.2.3.4")
        return (await self.channel.receive(request)).status

    async def settled(self) -> None:
        async with asyncio.timeout(10):
            while self.background._tasks:
                await asyncio.wait(set(self.background._tasks))


@pytest.fixture
async def fake(clock: ManualClock) -> AsyncIterator[FakeDingTalk]:
    async with FakeDingTalk(now=clock.ms) as server:
        yield server


async def test_an_event_sent_again_also_after_a_restart_gives_one_answer(
    fake: FakeDingTalk, db: SqliteDatabase, clock: ManualClock
) -> None:
    house = House(fake, db, clock)
    first = fake.callback("在吗", msgId="m1")
    for _ in range(3):
        assert await house.post(first) == 200
    clock.advance(60)
    await house.post(fake.callback("在吗", msgId="m1"))  # signed anew
    await house.settled()
    await house.egress.close()

    again = House(fake, db, clock)
    await again.dispatcher.start()
    assert await again.post(first) == 200
    assert await again.post(fake.callback("另一条", msgId="m2")) == 200
    await again.settled()
    await again.egress.close()
    assert [(m.to, m.text) for m in fake.messages] == [("staff1", "在吗"), ("staff1", "另一条")]


async def test_conversations_side_by_side_keep_their_words_to_themselves(
    fake: FakeDingTalk, db: SqliteDatabase, clock: ManualClock
) -> None:
    house = House(fake, db, clock)
    for n in range(60):
        clock.advance(0.01)
        fields = {"conversationId": f"cid{n}==", "senderStaffId": f"staff{n}", "senderId": f"s{n}"}
        assert await house.post(fake.callback(f"canary-{n}", **fields)) == 200
    await house.settled()
    await house.egress.close()
    assert sorted((m.to, m.text) for m in fake.messages) == sorted((f"staff{n}", f"canary-{n}") for n in range(60))
