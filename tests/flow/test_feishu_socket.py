"""Feishu's long connection: messages, parts, clicks, and a connection that does not go deaf."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channels.base import BotConfig, RawRequest
from channels.feishu.runtime import FeishuChannel
from channels.feishu.settings import settings_of
from channels.hooks import Click, Hooks, Pulse
from channels.line import Timing
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import Clock, ManualClock
from storage.envelope import Inbound
from storage.errors import Conflict, Unavailable
from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_gateway import pack
from tests.fakes.feishu_server import FeishuServer

QUICK = {"first": 0.01, "most": 0.05, "refused": 0.01}


class Bench:
    """A bot with a long connection."""

    def __init__(self, server: FeishuServer, **timing: Any) -> None:
        self.server, self.gateway = server, server.gateway
        self.clock, self.background = Clock(), Background()
        self.pulse = Pulse(clock=self.clock)
        self.egress = EgressClient(allow_local_vendors=True)
        self.events = FeishuEvents(verification_token="")
        self.accepted: list[Inbound] = []
        self.clicks: list[Click] = []
        self.error: Unavailable | None = None
        self.answer = ""
        config = BotConfig(
            id=1,
            tenant="main",
            name="hr-bot",
            type="feishu",
            mode="websocket",
            settings={"app_id": "cli_test", "api_base": server.base},
            secrets={"app_secret": "app-secret"},
        )
        hooks = Hooks(background=self.background, pulse=self.pulse, local=True, clicked=self.clicked)
        settings = settings_of(config, local=True)
        times = Timing(**(QUICK | timing))
        self.channel = FeishuChannel(config, settings, self.egress, self.clock, self.accept, hooks, times)

    async def accept(self, inbound: Inbound) -> bool:
        if self.error is not None:
            raise self.error
        self.accepted.append(inbound)
        return True

    async def clicked(self, click: Click) -> str:
        self.clicks.append(click)
        return self.answer

    async def until(self, true: Callable[[], bool], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.001)

    async def connected(self, times: int = 1) -> None:
        await self.server.until(lambda: self.gateway.opened >= times, 5.0)
        await self.until(lambda: self.pulse.connection == "online")

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
    await made.channel.start()
    await made.connected()
    yield made
    await made.close()


# ---- frames


async def test_a_message_is_accepted_then_acknowledged(bench: Bench) -> None:
    envelope = bench.events.raw_message("你好")
    number = await bench.gateway.push(envelope)
    assert await bench.gateway.acked(number) == {"code": 200}
    headers = bench.gateway.ack_headers[number]
    assert (headers["message_id"], headers["type"], headers["biz_rt"].isdigit()) == (number, "event", True)
    (got,) = bench.accepted
    assert (got.text, got.sender, got.keys[0]) == ("你好", "ou_alice", envelope["header"]["event_id"])
    assert bench.pulse.last_in is not None


async def test_a_message_that_the_ledger_could_not_take_comes_again(bench: Bench) -> None:
    bench.error = Unavailable("db.full")
    envelope = bench.events.raw_message()
    assert (await bench.gateway.acked(await bench.gateway.push(envelope)))["code"] == 500
    bench.error = None
    assert (await bench.gateway.acked(await bench.gateway.push(envelope)))["code"] == 200
    assert len(bench.accepted) == 1


async def test_parts_are_put_together_in_their_order(bench: Bench) -> None:
    number = await bench.gateway.push(bench.events.raw_message("长" * 5000), parts=4, order=[2, 0, 3, 1])
    assert (await bench.gateway.acked(number))["code"] == 200
    assert bench.accepted[0].text == "长" * 5000


async def test_other_events_are_acknowledged_and_ignored(bench: Bench) -> None:
    for envelope in (
        bench.events.envelope("im.chat.updated_v1", {"chat_id": "oc_1"}),
        bench.events.raw_message(app_id="cli_other"),
        bench.events.raw_message(create_time="1000"),
        bench.events.raw_message(sender_type="app"),
        {"nonsense": True},
    ):
        assert (await bench.gateway.acked(await bench.gateway.push(envelope)))["code"] == 200
    assert bench.accepted == []


async def test_garbage_does_not_break_the_connection(bench: Bench) -> None:
    socket = bench.gateway.sockets[-1]
    frames: list[bytes | str] = [
        b"",
        b"\xff\x00",
        b"\x08\x01",  # required fields are missing
        "text",
        pack(method=1, headers={}, payload=b"{}"),
        pack(method=1, headers={"type": "event", "sum": "999999", "seq": "1"}, payload=b"{}"),
        pack(method=1, headers={"type": "event", "sum": "2", "seq": "5", "message_id": "m"}, payload=b"{}"),
        pack(method=0, headers={"type": "pong"}, payload=b"["),
        pack(method=0, headers={"type": "pong"}, payload=b'{"PingInterval": "soon"}'),
    ]
    for frame in frames:
        await socket.send(frame)
    await bench.gateway.acked(await bench.gateway.push(bench.events.raw_message()))
    assert (len(bench.accepted), bench.gateway.opened) == (1, 1)


async def test_a_button_tells_who_pressed_it_once(bench: Bench) -> None:
    bench.answer = "已批准"
    body = {
        "operator": {"open_id": "ou_alice"},
        "token": "c-1",
        "action": {"tag": "button", "value": {"v": "approve:7"}},
        "context": {"open_message_id": "om_1", "open_chat_id": "oc_1"},
    }
    envelope = bench.events.envelope("card.action.trigger", body)
    ack = await bench.gateway.acked(await bench.gateway.push(envelope))
    assert ack == {"code": 200, "data": {"toast": {"type": "info", "content": "已批准"}}}
    assert await bench.gateway.acked(await bench.gateway.push(envelope)) == {"code": 200}
    (click,) = bench.clicks
    assert (click.person, click.value, click.message, click.conversation) == ("ou_alice", "approve:7", "om_1", "oc_1")
    foreign = bench.events.envelope("card.action.trigger", body | {"action": {"tag": "button", "value": {"x": 1}}})
    assert await bench.gateway.acked(await bench.gateway.push(foreign)) == {"code": 200}
    assert len(bench.clicks) == 1


async def test_a_callback_is_refused_in_this_mode(bench: Bench) -> None:
    posted = bench.events.message()
    request = RawRequest(method="POST", path="/", query={}, headers=posted.headers, body=posted.body, ip="127.0.0.1")
    with pytest.raises(Conflict, match="not_callback"):
        await bench.channel.receive(request)


# ---- life


async def test_a_cut_connection_is_replaced_with_a_new_address(bench: Bench) -> None:
    bench.gateway.sockets[-1].transport.abort()
    await bench.connected(2)
    assert (bench.pulse.reconnects, bench.pulse.last_error) == (1, "line.cut")
    await bench.gateway.acked(await bench.gateway.push(bench.events.raw_message()))


async def test_a_half_open_connection_is_replaced(server: FeishuServer) -> None:
    bench = Bench(server, ping=0.02, silence=0.1)
    await bench.channel.start()
    await bench.connected()
    bench.gateway.sockets[-1].transport.pause_reading()
    await bench.connected(2)
    assert bench.pulse.last_error == "line.silent"
    await bench.close()


async def test_an_idle_connection_is_kept_and_pinged_as_the_vendor_asks(server: FeishuServer) -> None:
    beats = 0

    async def sleep(seconds: float) -> None:
        nonlocal beats
        beats += 1
        await asyncio.sleep(0.001)

    bench = Bench(server, sleep=sleep, silence=5.0)
    await bench.channel.start()
    await bench.connected()
    await bench.until(lambda: beats >= 20)
    assert (server.gateway.pings, server.gateway.opened, bench.pulse.reconnects) == (0, 1, 0)
    await bench.close()


async def test_a_half_open_connection_is_noticed_within_a_minute(server: FeishuServer, clock: ManualClock) -> None:
    """With the product's own pace: time is simulated, the sockets are real, and the other end says nothing more."""
    lost: list[float] = []

    async def sleep(seconds: float) -> None:
        if bench.pulse.last_error and not lost:
            lost.append(clock.monotonic())
        clock.advance(seconds)
        await asyncio.sleep(0.002)

    bench = Bench(server, **{name: getattr(Timing(), name) for name in ("ping", "silence", "first", "most")})
    bench.channel.timing = Timing(sleep=sleep, monotonic=clock.monotonic)
    await bench.channel.start()
    await bench.connected()
    bench.gateway.sockets[-1].transport.pause_reading()
    heard = clock.monotonic()
    await bench.until(lambda: bool(lost) or bench.pulse.reconnects > 0)
    assert (lost or [clock.monotonic()])[0] - heard <= 60
    assert bench.pulse.last_error == "line.silent"
    await bench.close()


async def test_the_vendors_ping_has_its_service_and_its_answer_sets_the_pace(bench: Bench) -> None:
    from channels.feishu.socket import FeishuSocket

    later: list[Any] = []
    bench.gateway.pong_config = {"PingInterval": 33}
    socket = FeishuSocket(bench.channel.client, bench.clock, bench.channel.handle, later.append)
    live = await socket.open()
    socket.ping_every = 0.0
    await socket.beat(live)
    await socket.hear(live, await asyncio.wait_for(live.recv(), 5.0))
    assert (bench.gateway.pings, socket.ping_every) == (1, 33.0)
    live.transport.abort()


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("secret", "feishu.10014"),
        ("switched off", "feishu.1000040344"),
        ("too many", "feishu.1000040350"),
        ("handshake", "feishu.514"),
    ],
)
async def test_a_refusal_is_named_and_tried_again(server: FeishuServer, how: str, code: str) -> None:
    gateway = server.gateway
    if how == "secret":
        server.apps["cli_test"] = "other"
    elif how == "switched off":
        gateway.enabled = False
    else:
        gateway.refuse = {"Handshake-Status": "514", "Handshake-Msg": "no"}
        if how == "too many":
            gateway.refuse["Handshake-Autherrcode"] = "1000040350"
    bench = Bench(server)
    await bench.channel.start()
    await bench.until(lambda: bench.pulse.reconnects >= 2 and bench.pulse.last_error == code)
    assert bench.pulse.connection != "online"
    server.apps["cli_test"], gateway.enabled, gateway.refuse = "app-secret", True, {}
    await bench.connected()
    await bench.close()


async def test_the_probe_shows_whether_the_long_connection_is_switched_on(server: FeishuServer) -> None:
    bench = Bench(server)
    assert ("connection", "pass") in [(p.name, p.status) for p in await bench.channel.probe()]
    server.gateway.enabled = False
    found = {p.name: (p.status, p.code) for p in await bench.channel.probe()}
    assert found["connection"] == ("fail", "feishu.1000040344")
    await bench.close()
