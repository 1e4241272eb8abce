"""Stream mode: messages by long connection, and a connection that does not go deaf."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channels.dingtalk.runtime import DingTalkChannel
from channels.hooks import Click, Hooks, Pulse
from channels.line import Line, Timing
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import ManualClock
from storage.errors import Unavailable
from tests.fakes.dingtalk_gateway import BOT, CARD, Gateway
from tests.fakes.dingtalk_server import FakeDingTalk
from tests.flow.test_dingtalk_channel import Bench

QUICK = {"first": 0.01, "most": 0.05, "refused": 0.01}


class StreamBench(Bench):
    """A bot in Stream mode."""

    def __init__(self, fake: FakeDingTalk, clock: ManualClock, timing: Timing, **settings: str) -> None:
        super().__init__(fake, clock, mode="stream", **settings)
        self.clicks: list[Click] = []
        self.background = Background()
        hooks = Hooks(background=self.background, pulse=self.pulse, local=True, clicked=self.clicked)
        self.channel = DingTalkChannel(self.config, self.egress, clock, self.accept, hooks, timing)

    async def clicked(self, click: Click) -> str:
        self.clicks.append(click)
        return ""

    @property
    def gateway(self) -> Gateway:
        return self.fake.gateway

    @property
    def line(self) -> Line:
        assert self.channel._line is not None
        return self.channel._line

    async def until(self, true: Callable[[], bool], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.001)

    async def connected(self, times: int = 1) -> None:
        await self.gateway.until(lambda: self.gateway.opened >= times)
        await self.until(lambda: self.pulse.connection == "online")

    async def close(self) -> None:
        await self.channel.stop()
        await self.background.stop()
        await self.egress.close()


@pytest.fixture
async def fake(clock: ManualClock) -> AsyncIterator[FakeDingTalk]:
    async with FakeDingTalk(now=clock.ms) as server:
        yield server


@pytest.fixture
async def bench(fake: FakeDingTalk, clock: ManualClock) -> AsyncIterator[StreamBench]:
    made = StreamBench(fake, clock, Timing(**QUICK))
    await made.channel.start()
    await made.connected()
    yield made
    await made.close()


# ---- frames


async def test_a_message_is_accepted_then_acknowledged(bench: StreamBench) -> None:
    number = await bench.gateway.push(BOT, bench.fake.message("你好"))
    ack = await bench.gateway.acked(number)
    assert (ack["code"], json.loads(ack["data"])) == (200, {"response": None})
    assert ack["headers"] == {"messageId": number, "contentType": "application/json"}
    assert [m.text for m in bench.accepted] == ["你好"]
    assert {s["topic"] for s in bench.gateway.subscriptions} == {BOT, CARD}


async def test_a_message_that_the_ledger_could_not_take_is_not_acknowledged_as_done(bench: StreamBench) -> None:
    bench.error = Unavailable("db.full")
    number = await bench.gateway.push(BOT, bench.fake.message())
    assert (await bench.gateway.acked(number))["code"] == 500
    bench.error = None
    again = await bench.gateway.push(BOT, bench.fake.message())
    assert (await bench.gateway.acked(again))["code"] == 200


@pytest.mark.parametrize(
    ("topic", "data", "kind", "code"),
    [
        (BOT, {"nonsense": 1}, "CALLBACK", 200),
        (BOT, {"msgId": "x" * 999}, "CALLBACK", 200),
        ("/v1.0/graph/api/invoke", {}, "CALLBACK", 404),
        ("*", {"a": 1}, "EVENT", 200),
    ],
)
async def test_other_frames_are_answered_and_ignored(
    bench: StreamBench, topic: str, data: dict[str, Any], kind: str, code: int
) -> None:
    ack = await bench.gateway.acked(await bench.gateway.push(topic, data, kind))
    assert ack["code"] == code
    if kind == "EVENT":
        assert json.loads(ack["data"])["status"] == "SUCCESS"
    assert bench.accepted == []


async def test_a_system_ping_is_echoed(bench: StreamBench) -> None:
    ack = await bench.gateway.acked(await bench.gateway.push("ping", {"opaque": "abc"}, "SYSTEM"))
    assert json.loads(ack["data"]) == {"opaque": "abc"}


async def test_garbage_does_not_break_the_connection(bench: StreamBench) -> None:
    socket = bench.gateway.sockets[-1]
    for garbage in ("", "{", "[]", "null", '{"type": 1}', '{"type":"CALLBACK","headers":{"topic":[]}}', "x" * 10_000):
        await socket.send_str(garbage)
    await socket.send_bytes(b"\xff\x00")
    await bench.gateway.acked(await bench.gateway.push(BOT, bench.fake.message()))
    assert len(bench.accepted) == 1
    assert bench.gateway.opened == 1


async def test_a_pressed_button_is_told_with_who_pressed_it(bench: StreamBench) -> None:
    data = {
        "outTrackId": "track-1",
        "userId": "staff7",
        "userIdType": 1,
        "spaceType": "IM_GROUP",
        "spaceId": "dtv1.card//IM_GROUP.cidG==",
        "type": "actionCallback",
        "content": json.dumps({"cardPrivateData": {"actionIds": ["ok"], "params": {"value": "approve:3"}}}),
    }
    ack = await bench.gateway.acked(await bench.gateway.push(CARD, data))
    assert (ack["code"], json.loads(ack["data"])) == (200, {"response": {}})
    await bench.until(lambda: bool(bench.clicks))
    click = bench.clicks[0]
    assert (click.person, click.value, click.message, click.conversation) == (
        "staff7",
        "approve:3",
        "track-1",
        "cidG==",
    )
    for wrong in ({}, {"outTrackId": "x"}, {**data, "content": "{"}, {**data, "userId": ["a"]}):
        await bench.gateway.acked(await bench.gateway.push(CARD, wrong))
    assert len(bench.clicks) == 1


# ---- life


async def test_a_cut_connection_is_replaced_with_a_new_ticket(bench: StreamBench) -> None:
    for times in range(2, 5):
        await bench.gateway.drop()
        await bench.connected(times)
    assert bench.pulse.reconnects == 3
    await bench.gateway.acked(await bench.gateway.push(BOT, bench.fake.message()))
    assert len(bench.accepted) == 1
    assert len(bench.gateway.tickets) == 0


async def test_a_farewell_opens_the_new_connection_first(bench: StreamBench) -> None:
    old = bench.gateway.sockets[-1]
    await bench.gateway.push("disconnect", {"reason": "x"}, "SYSTEM")
    await bench.gateway.until(lambda: bench.gateway.opened == 2)
    assert not old.closed
    late = {"specVersion": "1.0", "type": "CALLBACK", "headers": {"topic": BOT, "messageId": "late"}}
    await old.send_str(json.dumps({**late, "data": json.dumps(bench.fake.message("late"))}))
    await bench.gateway.acked("late")
    assert [m.text for m in bench.accepted] == ["late"]
    assert bench.pulse.reconnects == 0
    await old.close()
    await bench.gateway.acked(await bench.gateway.push(BOT, bench.fake.message("new")))
    assert bench.pulse.connection == "online"


async def test_a_half_open_connection_is_replaced_within_a_minute(fake: FakeDingTalk, clock: ManualClock) -> None:
    """The other end is silent without closing. Time is simulated, the sockets are real."""
    fake.gateway.deaf = True
    began = clock.monotonic()

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)
        await asyncio.sleep(0)

    bench = StreamBench(fake, clock, Timing(sleep=sleep, monotonic=clock.monotonic))
    await bench.channel.start()
    async with asyncio.timeout(10):
        while fake.gateway.opened < 2:
            await asyncio.sleep(0)
    await bench.until(lambda: bench.pulse.reconnects >= 1)
    assert bench.pulse.last_error == "line.silent"
    assert bench.pulse.last_error_at is not None
    first_lost = (bench.pulse.last_error_at / 1000 - 1_767_225_600) / bench.pulse.reconnects
    assert first_lost - began <= 60
    await bench.close()


async def test_a_day_of_silence_restarts_nothing(fake: FakeDingTalk, clock: ManualClock) -> None:
    """24 simulated hours in which nobody writes: pings are answered, and the connection stays the same."""
    done = asyncio.Event()
    bench: StreamBench

    async def sleep(seconds: float) -> None:
        async with asyncio.timeout(10):
            while bench.line._heard < clock.monotonic():  # until the pong of this round is there
                await asyncio.sleep(0)
        clock.advance(seconds)
        if clock.monotonic() >= 24 * 3600:
            done.set()
            await asyncio.Event().wait()

    bench = StreamBench(fake, clock, Timing(sleep=sleep, monotonic=clock.monotonic))
    await bench.channel.start()
    await asyncio.wait_for(done.wait(), 50)
    assert (fake.gateway.opened, bench.pulse.reconnects) == (1, 0)
    assert fake.gateway.pings >= 24 * 3600 / 15 - 1
    assert bench.pulse.connection == "online"
    await bench.close()


async def test_a_wrong_secret_is_shown_and_mended_without_a_restart(fake: FakeDingTalk, clock: ManualClock) -> None:
    bench = StreamBench(fake, clock, Timing(**QUICK))
    right, fake.client_secret = fake.client_secret, "another"
    await bench.channel.start()
    await bench.until(lambda: bench.pulse.last_error == "dingtalk.credentials")
    assert bench.pulse.connection != "online"
    fake.client_secret = right
    await bench.connected()
    await bench.close()


async def test_pauses_grow_to_a_minute_and_begin_anew_after_a_stable_time(
    fake: FakeDingTalk, clock: ManualClock
) -> None:
    pauses: list[float] = []
    hold = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds == 15.0:
            await hold.wait()  # the watch of a live connection
            return
        pauses.append(seconds)
        clock.advance(seconds)

    fake.fault("stream", "status", times=12, status=503)
    timing = Timing(sleep=sleep, monotonic=clock.monotonic, jitter=lambda: 1.0)
    bench = StreamBench(fake, clock, timing)
    await bench.channel.start()
    await bench.connected()
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == max(pauses) == 60.0
    assert len(pauses) == 12
    clock.advance(61)
    await fake.gateway.drop()
    await bench.connected(2)
    assert pauses[-1] == 0.5
    await bench.close()


@pytest.mark.parametrize("endpoint", ["ws://evil.example/connect", "wss://dingtalk.com.evil.example/", "http://x/", ""])
async def test_a_gateway_elsewhere_is_not_called(fake: FakeDingTalk, clock: ManualClock, endpoint: str) -> None:
    bench = StreamBench(fake, clock, Timing(first=5, refused=5))
    fake.fault("stream", "body", body={"endpoint": endpoint, "ticket": "t"})
    await bench.channel.start()
    await bench.until(lambda: bool(bench.pulse.last_error))
    assert bench.resolver.asked == []
    assert fake.gateway.opened == 0
    await bench.close()


async def test_a_defect_of_ours_does_not_leave_the_bot_deaf(
    bench: StreamBench, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(data: str) -> None:
        raise KeyError("a typo")

    assert bench.channel._line is not None
    hear = bench.line._hear.__self__  # type: ignore[attr-defined]
    good, hear.on_card = hear.on_card, broken
    await bench.gateway.push(CARD, {})
    await bench.until(lambda: bench.pulse.last_error == "line.defect")
    hear.on_card = good
    await bench.connected(2)
    await bench.gateway.acked(await bench.gateway.push(BOT, bench.fake.message()))
    assert "a typo" in caplog.text


async def test_stopping_ends_the_connection(bench: StreamBench) -> None:
    await bench.channel.stop()
    await bench.gateway.until(lambda: bench.gateway.sockets == [])
    assert bench.pulse.connection == "off"
    assert isinstance(bench.egress, EgressClient)
    assert isinstance(bench.pulse, Pulse)
