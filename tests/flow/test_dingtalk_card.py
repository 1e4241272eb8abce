"""AI cards: an answer shown while it is written, always brought to an end, and Markdown where cards do not work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from channels.dingtalk.address import Address
from channels.dingtalk.card import CardPace
from channels.dingtalk.runtime import DingTalkChannel
from channels.hooks import Hooks
from channels.streaming import Streaming
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.envelope import Button, Outgoing
from storage.errors import Unavailable
from storage.ledger import Ledger
from storage.live import Live, LiveEvent
from tests.fakes.dingtalk_cards import Card
from tests.fakes.dingtalk_server import FakeDingTalk
from tests.flow.test_dingtalk_channel import Bench

QUICK = CardPace(first=0.002, later=0.002, throttled=0.002, apart=0.0)
GROUP = Address(kind="group", conversation="cidG==").to_json()
PERSON = Address(kind="direct", staff="staff1").to_json()


class CardBench(Bench):
    """A bot with a card template."""

    def __init__(self, fake: FakeDingTalk, clock: ManualClock, **settings: str) -> None:
        super().__init__(fake, clock, **({"card_template_id": "tpl.schema"} | settings))
        self.background = Background()
        self.text = ""
        self.again()

    def again(self) -> None:
        """The bot as after a restart."""
        hooks = Hooks(background=self.background, pulse=self.pulse, local=True, read=self.read)
        self.channel = DingTalkChannel(self.config, self.egress, self.clock, self.accept, hooks, card_pace=QUICK)

    def begin(self, job: int = 7, address: str = GROUP) -> None:
        self.channel.begin(job, address, lambda: self.text)

    async def shows(self, text: str, job: int = 7) -> Card:
        self.text = text
        async with asyncio.timeout(5):
            while (card := self.fake.cards.all.get(f"zhixing-1-{job}")) is None or card.content != text:
                await asyncio.sleep(0.001)
        return card

    async def answer(self, text: str, key: str = "7-0", address: str = GROUP, **more: object) -> str:
        out = Outgoing(kind="answer", text=text, **more)  # type: ignore[arg-type]
        return (await self.channel.send(out, address, key, self.count)).vendor_id


@pytest.fixture
async def bench(clock: ManualClock) -> AsyncIterator[CardBench]:
    async with FakeDingTalk(now=clock.ms) as fake:
        made = CardBench(fake, clock)
        await made.channel.start()
        yield made
        await made.channel.stop()
        await made.background.stop()
        await made.egress.close()


async def test_an_answer_grows_in_a_card_and_ends_final(bench: CardBench) -> None:
    bench.begin()
    card = await bench.shows("今")
    assert (card.space, card.state) == ("IM_GROUP.cidG==", "2")
    await bench.shows("今天")
    assert await bench.answer("今天**晴**") == "zhixing-1-7"
    assert (card.content, card.finalized, card.failed, card.state) == ("今天**晴**", True, False, "3")
    assert card.params["content"] == "今天**晴**"
    assert bench.fake.messages == []
    assert bench.written == 1


async def test_a_direct_answer_has_a_card_too(bench: CardBench) -> None:
    bench.begin(address=PERSON)
    assert (await bench.shows("hi")).space == "IM_ROBOT.staff1"


async def test_an_answer_that_comes_at_once_ends_the_card_too(bench: CardBench) -> None:
    bench.begin()
    assert await bench.answer("ok") == "zhixing-1-7"
    assert bench.fake.cards.all["zhixing-1-7"].finalized


async def test_a_text_taken_back_does_not_empty_the_card(bench: CardBench) -> None:
    bench.begin()
    card = await bench.shows("first model")
    bench.text = ""
    await bench.shows("second model")
    assert "" not in card.frames


@pytest.mark.parametrize("fault", [{"kind": "scope"}, {"kind": "undelivered"}, {"kind": "status", "status": 500}])
async def test_where_a_card_cannot_be_made_the_answer_is_markdown(bench: CardBench, fault: dict[str, object]) -> None:
    bench.fake.fault("card", **fault)  # type: ignore[arg-type]
    bench.begin()
    await bench.answer("whole answer")
    assert [(m.way, m.text) for m in bench.fake.messages] == [("group", "whole answer")]
    assert bench.fake.cards.all == {}


async def test_without_a_template_nothing_is_shown(clock: ManualClock) -> None:
    async with FakeDingTalk(now=clock.ms) as fake:
        bench = CardBench(fake, clock, card_template_id="")
        await bench.channel.start()
        assert not bench.channel.streams
        bench.begin()
        await bench.answer("ok")
        assert [m.text for m in fake.messages] == ["ok"]
        await bench.egress.close()


async def test_a_card_whose_updates_fail_is_still_ended(bench: CardBench) -> None:
    bench.begin()
    await bench.shows("a")
    bench.fake.fault("streaming", "status", status=500)
    bench.text = "ab"
    async with asyncio.timeout(5):
        while bench.fake._faults["streaming"]:
            await asyncio.sleep(0.001)
    assert await bench.answer("abc") == "zhixing-1-7"
    card = bench.fake.cards.all["zhixing-1-7"]
    assert (card.content, card.finalized, card.state) == ("abc", True, "3")


async def test_a_throttled_update_is_made_later(bench: CardBench) -> None:
    bench.begin()
    await bench.shows("a")
    bench.fake.fault("streaming", "qps", times=3)
    await bench.shows("ab")
    await bench.answer("abc")


async def test_an_ending_whose_answer_was_lost_may_be_repeated(bench: CardBench) -> None:
    bench.begin()
    await bench.shows("a")
    bench.fake.fault("streaming", "status", status=502)
    with pytest.raises(Unavailable):
        await bench.answer("abc")
    assert await bench.answer("abc") == "zhixing-1-7"
    card = bench.fake.cards.all["zhixing-1-7"]
    assert (card.content, card.state) == ("abc", "3")
    assert bench.fake.messages == []


async def test_a_card_that_may_have_been_made_is_ended(bench: CardBench) -> None:
    bench.fake.fault("card", "drop")
    bench.begin()
    assert await bench.answer("abc") == "zhixing-1-7"
    assert bench.fake.cards.all["zhixing-1-7"].state == "3"
    assert bench.fake.messages == []


async def test_a_card_opened_before_a_restart_is_ended_after_it(bench: CardBench) -> None:
    bench.begin()
    await bench.shows("a")
    await bench.channel.stop()
    bench.again()
    await bench.channel.start()
    assert await bench.answer("abc") == "zhixing-1-7"
    card = bench.fake.cards.all["zhixing-1-7"]
    assert (card.content, card.state) == ("abc", "3")
    assert bench.fake.messages == []
    bench.again()
    await bench.channel.start()
    assert await bench.answer("abc") == "zhixing-1-7"  # the receipt was not recorded: the same again
    assert bench.fake.messages == []


async def test_a_job_that_goes_on_after_a_restart_goes_on_in_its_card(bench: CardBench) -> None:
    bench.begin()
    await bench.shows("a")
    await bench.channel.stop()
    bench.again()
    await bench.channel.start()
    bench.begin()
    await bench.shows("ab")
    assert await bench.answer("abc") == "zhixing-1-7"
    assert len(bench.fake.cards.all) == 1


async def test_a_job_from_before_without_a_card_is_answered_by_message(bench: CardBench) -> None:
    await bench.answer("abc")
    assert [m.text for m in bench.fake.messages] == ["abc"]


async def test_further_messages_pushes_and_pieces_are_messages(bench: CardBench) -> None:
    bench.begin()
    await bench.shows("a")
    assert await bench.answer("one", "7-0.0") == "zhixing-1-7"
    await bench.answer("two", "7-0.1")
    await bench.answer("three", "7-1")
    await bench.answer("four", "push-9-0")
    assert [m.text for m in bench.fake.messages] == ["two", "three", "four"]


async def test_buttons_follow_the_card(bench: CardBench) -> None:
    bench.begin()
    await bench.shows("a")
    await bench.answer("May I?", buttons=(Button(label="yes", value="y"),))
    assert bench.fake.cards.all["zhixing-1-7"].content == "May I?"
    assert [m.key for m in bench.fake.messages] == ["sampleActionCard"]


async def test_no_card_spins_for_ever(bench: CardBench) -> None:
    bench.begin()
    await bench.shows("half an")
    await bench.channel.abandon(7)
    card = bench.fake.cards.all["zhixing-1-7"]
    assert (card.finalized, card.failed, card.state) == (True, True, "5")


async def test_the_template_is_tested_without_a_message(bench: CardBench) -> None:
    assert ("card", "pass") in [(r.name, r.status) for r in await bench.channel.probe()]
    bench.fake.cards.templates = {"other.schema"}
    failed = next(r for r in await bench.channel.probe() if r.status == "fail")
    assert (failed.name, failed.code) == ("card", "dingtalk.card_template")
    assert bench.fake.cards.all == {}


async def test_running_jobs_are_shown_by_their_bots(bench: CardBench, db: SqliteDatabase, clock: ManualClock) -> None:
    ledger, live = Ledger(db, clock), Live()
    streaming = Streaming(db, live, bench.background, lambda tenant, bot: bench.channel if bot == "it-bot" else None)
    streaming.start()
    accepted = await ledger.accept(
        await bench.say("hi", conversationType="2", conversationId="cidG==", isInAtList=True)
    )

    def tell(kind: str, **data: object) -> None:
        live.publish(LiveEvent(conversation=accepted.conversation_id, job=accepted.job_id, kind=kind, data=data))

    tell("job.started")
    tell("text", delta="今")
    await bench.shows("今", accepted.job_id)
    tell("text", delta="天")
    await bench.shows("今天", accepted.job_id)
    tell("job.ended", status="cancelled", message_ids=[])
    card = bench.fake.cards.all[f"zhixing-1-{accepted.job_id}"]
    async with asyncio.timeout(5):
        while not card.finalized:
            await asyncio.sleep(0.001)
    streaming.stop()
