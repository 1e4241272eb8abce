"""Bots are told of their jobs with the address of the job's own message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from channels.streaming import Streaming
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.envelope import Inbound, Part
from storage.ledger import Ledger
from storage.live import Live, LiveEvent


class Shown:
    """A bot that notes where it is to show what."""

    streams = True

    def __init__(self) -> None:
        self.begun: dict[int, str] = {}
        self.told = asyncio.Event()

    def begin(self, job: int, address: str, text: Callable[[], str]) -> None:
        self.begun[job] = address
        self.told.set()

    async def abandon(self, job: int) -> None:
        return None


def inbound(n: int) -> Inbound:
    return Inbound(
        tenant="main",
        bot="b",
        channel="feishu",
        keys=(f"msg-{n}",),
        vendor_id=f"msg-{n}",
        conversation="c1",
        kind="direct",
        sender="ou_1",
        parts=(Part(kind="text", text="hello"),),
        address=f'{{"message": "msg-{n}"}}',
    )


async def test_an_answer_grows_under_its_own_question_though_another_came_after_it(
    db: SqliteDatabase, clock: ManualClock
) -> None:
    ledger, live, background, bot = Ledger(db, clock), Live(), Background(), Shown()
    streaming = Streaming(db, live, background, lambda tenant, name: bot)
    streaming.start()
    first, _second = await ledger.accept(inbound(1)), await ledger.accept(inbound(2))
    live.publish(LiveEvent(conversation=first.conversation_id, job=first.job_id, kind="job.started", data={}))
    async with asyncio.timeout(5):
        await bot.told.wait()
    assert bot.begun == {first.job_id: '{"message": "msg-1"}'}
    streaming.stop()
    await background.stop()
