"""Answers that grow in a card: opened late, closed always, one message also over a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channels.base import BotConfig
from channels.feishu.runtime import FeishuChannel
from channels.feishu.settings import settings_of
from channels.feishu.stream import StreamPace
from channels.hooks import Hooks, Pulse
from channels.streaming import Streams
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import Clock
from storage.envelope import Button, Inbound, Outgoing
from storage.errors import Unavailable
from tests.fakes.feishu_cards import Card
from tests.fakes.feishu_server import FeishuServer

ADDRESS = '{"message": "om_in_1", "to": "oc_1"}'
QUICK = StreamPace(first=0.01, every=0.002)


async def accept(inbound: Inbound) -> bool:
    return True


class Bench:
    """One bot and what its model has said so far."""

    def __init__(self, server: FeishuServer, pace: StreamPace = QUICK, **settings: str) -> None:
        self.server, self.said = server, ""
        self.background, self.egress = Background(), EgressClient(allow_local_vendors=True)
        config = BotConfig(
            id=1,
            tenant="main",
            name="hr-bot",
            type="feishu",
            mode="websocket",
            settings={"app_id": "cli_test", "api_base": server.base} | settings,
            secrets={"app_secret": "app-secret"},
        )
        clock = Clock()
        hooks = Hooks(background=self.background, pulse=Pulse(clock=clock), local=True)
        made = settings_of(config, local=True)
        self.channel = FeishuChannel(config, made, self.egress, clock, accept, hooks, stream_pace=pace)

    @property
    def card(self) -> Card:
        return list(self.server.cards.cards.values())[-1]

    def begin(self, job: int = 7) -> None:
        self.channel.begin(job, ADDRESS, lambda: self.said)

    async def shows(self, text: str) -> None:
        """The model has said this, and the card shows it."""
        self.said = text
        await self.server.until(lambda: self.server.cards.cards and text in str(self.card.whole), 5.0)
        await self.server.until(lambda: bool(self.server.messages), 5.0)

    async def end(self, text: str, key: str = "7-0", **more: Any) -> str:
        out = Outgoing(kind="answer", text=text, **more)
        return (await self.channel.send(out, ADDRESS, key, lambda: None)).vendor_id

    async def close(self) -> None:
        await self.channel.stop()
        await self.background.stop()
        await self.egress.close()


@pytest.fixture
async def server() -> AsyncIterator[FeishuServer]:
    made = await FeishuServer().start()
    yield made
    await made.stop()


@pytest.fixture
async def bench(server: FeishuServer) -> AsyncIterator[Bench]:
    made = Bench(server)
    yield made
    await made.close()


async def test_an_answer_grows_in_one_card_and_stays_in_it(bench: Bench) -> None:
    streams: Streams = bench.channel
    assert streams.streams
    bench.begin()
    await bench.shows("第一")
    await bench.shows("第一句。第二")
    receipt = await bench.end("第一句。第二句。", buttons=(Button(label="好", value="v"),))
    (sent,) = bench.server.messages
    assert (receipt, sent.how, sent.to) == (sent.id, "reply", "om_in_1")
    assert not bench.card.streaming
    assert [e["tag"] for e in sent.content["body"]["elements"]] == ["markdown", "button"]
    assert "第一句。第二句。" in sent.text
    assert bench.server.refused == []


async def test_a_quick_answer_is_a_plain_message(server: FeishuServer) -> None:
    bench = Bench(server, StreamPace(first=30.0))
    bench.begin()
    bench.said = "好"
    await bench.end("好")
    assert [(m.kind, m.text) for m in server.messages] == [("text", "好")]
    assert server.cards.cards == {}
    await bench.close()


async def test_without_the_permission_the_answer_is_a_message(bench: Bench) -> None:
    bench.server.cards.allowed = False
    bench.begin()
    bench.said = "好"
    await bench.server.until(lambda: bench.server.requests >= 3, 5.0)
    await bench.end("好。")
    assert [(m.kind, m.text) for m in bench.server.messages] == [("text", "好。")]


async def test_only_the_first_piece_of_a_long_answer_is_in_the_card(bench: Bench) -> None:
    bench.begin()
    await bench.shows("开头")
    pieces = bench.channel.split(Outgoing(kind="answer", text="一段话。\n\n" * 2000))
    for n, piece in enumerate(pieces):
        await bench.end(piece.text, key=f"7-0.{n}")
    assert len(bench.server.messages) == len(pieces) > 1
    assert sum(m.text.count("一段话。") for m in bench.server.messages) == 2000
    assert len(bench.server.cards.cards) == 1


async def test_what_is_shown_stays_below_the_cards_limits(bench: Bench) -> None:
    table = "|a|b|\n|-|-|\n|1|2|\n\n"
    bench.begin()
    bench.said = "开头"
    await bench.shows("开头")
    bench.said = "开头\n\n" + table * 6 + "完" * 9000
    await bench.server.until(lambda: len(bench.card.writes) >= 1, 5.0)
    assert bench.server.refused == []
    assert len(bench.card.writes[-1]) <= 4000


async def test_a_job_that_says_nothing_leaves_no_open_card(bench: Bench) -> None:
    bench.begin()
    await bench.shows("想了一半")
    await bench.channel.abandon(7)
    assert (len(bench.server.messages), bench.card.streaming) == (1, False)
    await bench.channel.abandon(7)
    await bench.channel.abandon(8)


async def test_a_card_that_the_vendor_closed_is_opened_again(bench: Bench) -> None:
    bench.begin()
    await bench.shows("一")
    bench.card.whole["config"]["streaming_mode"] = False
    await bench.shows("一二三")
    await bench.end("一二三四")
    assert "一二三四" in bench.server.messages[0].text


async def test_a_card_is_opened_again_before_its_time_is_over(server: FeishuServer) -> None:
    bench = Bench(server, StreamPace(first=0.01, every=0.002, reopen=0.0))
    bench.begin()
    await bench.shows("一")
    opened = bench.card.opened
    await bench.shows("一二")
    assert bench.card.opened > opened
    assert server.refused == []
    await bench.close()


async def test_the_end_of_a_card_is_tried_again(bench: Bench) -> None:
    bench.begin()
    await bench.shows("一")
    await bench.shows("一、")  # it is open: nothing more is asked about it
    bench.server.fail("error", path="/cardkit/")
    with pytest.raises(Unavailable):
        await bench.end("一二")
    await bench.end("一二")
    (sent,) = bench.server.messages
    assert ("一二" in sent.text, bench.card.streaming) == (True, False)


async def test_a_final_form_that_is_refused_is_said_as_a_message(bench: Bench) -> None:
    bench.begin()
    await bench.shows("一")
    bench.server.faults.clear()
    number = bench.card.id
    bench.server.fail("code", path=f"/cards/{number}", code=230099, count=9)
    await bench.end("一二")
    assert [(m.kind, m.text) for m in bench.server.messages] == [("text", "一二")]
    assert len(bench.server.cards.recalled) == 1


async def test_after_a_crash_there_is_one_message_with_the_whole_answer(server: FeishuServer) -> None:
    first = Bench(server)
    first.begin()
    await first.shows("一半")
    await first.close()  # the job goes on in another process
    second = Bench(server)
    second.begin()
    await second.shows("一半又一半")
    await second.close()  # again
    third = Bench(server)
    receipt = await third.end("全部")
    (sent,) = server.messages
    assert (receipt, "全部" in sent.text, server.refused) == (sent.id, True, [])
    assert not sent.content["config"].get("streaming_mode")
    await third.close()


async def test_a_repeated_plain_answer_is_left_alone(server: FeishuServer, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(server)
    await bench.end("好")
    for born in server._born.values():
        born["create_time"] = str(int(time.time() * 1000) - 60_000)  # a minute ago
    assert await bench.end("好") == server.messages[0].id
    assert [m.text for m in server.messages] == ["好"]
    await bench.close()


async def test_many_cards_share_what_the_vendor_allows(bench: Bench) -> None:
    cards = bench.channel._cards
    assert cards is not None
    assert cards.every() == QUICK.every
    for job in range(200):
        bench.begin(job)
    assert len(cards._open) == 100
    assert cards.every() == 4.0


# ---- the sign of typing


async def test_a_sign_stands_under_the_question_until_the_answer_is_there(server: FeishuServer) -> None:
    bench = Bench(server, stream="off")
    bench.begin()
    await server.until(lambda: bool(server.cards.reacted), 5.0)
    assert list(server.cards.reacted.values()) == [("om_in_1", "Typing")]
    await bench.end("好")
    await server.until(lambda: not server.cards.reacted, 5.0)
    assert [(m.kind, m.text) for m in server.messages] == [("text", "好")]
    await bench.close()


async def test_a_sign_that_may_not_be_shown_is_not_asked_for_again(server: FeishuServer) -> None:
    bench = Bench(server, stream="off")
    server.fail("code", path="/reactions", code=99991672)
    bench.begin(7)
    await until(lambda: bench.channel._typing._refused)
    bench.begin(8)
    assert bench.channel._typing._ends == {}
    await bench.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5.0):
        while not true():
            await asyncio.sleep(0.001)
