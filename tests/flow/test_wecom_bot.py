"""A WeCom AI bot on its long connection: replies under the message's own request, and a connection that lives."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from channels.base import BotConfig, RawRequest
from channels.hooks import Click, Hooks, Pulse
from channels.line import Timing
from channels.wecom.bot import WeComBot
from channels.wecom.reply import ReplyPace
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import ManualClock
from storage.envelope import Inbound, Outgoing, Part
from storage.errors import AppError, Conflict, OutcomeUnknown, Rejected, Throttled, Unavailable
from tests.fakes.wecom_bot import AiBot
from tests.fakes.wecom_server import FakeWeCom

QUICK = Timing(first=0.01, most=0.05, refused=0.01)
PACE = ReplyPace(between=0.002, throttled=0.002)


class Bench:
    """A bot, its vendor, and what was accepted."""

    def __init__(self, fake: FakeWeCom, clock: ManualClock, timing: Timing = QUICK) -> None:
        self.fake, self.clock = fake, clock
        self.accepted: list[Inbound] = []
        self.clicks: list[Click] = []
        self.background = Background()
        self.egress = EgressClient(allow_local_vendors=True)
        self.pulse = Pulse(clock=clock)
        self.text = ""
        config = BotConfig(
            id=1,
            tenant="main",
            name="wx",
            type="wecom",
            mode="bot",
            settings={"bot_id": fake.bot.bot_id, "socket": fake.url.replace("http", "ws", 1)},
            secrets={"bot_secret": "bot-secret"},
        )
        hooks = Hooks(background=self.background, pulse=self.pulse, local=True, clicked=self.clicked)
        self.channel = WeComBot(config, self.egress, clock, self.accept, hooks, timing, PACE)

    @property
    def bot(self) -> AiBot:
        return self.fake.bot

    async def accept(self, inbound: Inbound) -> bool:
        self.accepted.append(inbound)
        return True

    async def clicked(self, click: Click) -> str:
        self.clicks.append(click)
        return ""

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not true():
                await asyncio.sleep(0.001)

    async def connected(self, times: int = 1) -> None:
        await self.bot.until(lambda: self.bot.logins >= times)
        await self.until(lambda: self.pulse.connection == "online")

    async def hear(self, words: str = "hello", /, **fields: Any) -> Inbound:
        count = len(self.accepted)
        await self.bot.say(words, **fields)
        await self.until(lambda: len(self.accepted) > count)
        return self.accepted[-1]

    async def send(self, text: str, address: str, key: str = "7-0") -> str:
        out = Outgoing(kind="answer", text=text)
        return (await self.channel.send(out, address, key, lambda: None)).vendor_id

    async def close(self) -> None:
        await self.channel.stop()
        await self.background.stop()
        await self.egress.close()


@pytest.fixture
async def fake(clock: ManualClock) -> AsyncIterator[FakeWeCom]:
    async with FakeWeCom(now=clock.ms) as server:
        yield server


@pytest.fixture
async def bench(fake: FakeWeCom, clock: ManualClock) -> AsyncIterator[Bench]:
    made = Bench(fake, clock)
    await made.channel.start()
    await made.connected()
    yield made
    await made.close()


async def test_a_message_is_answered_under_its_own_request(bench: Bench) -> None:
    message = await bench.hear("几点了")
    assert message.text == "几点了"
    proof = await bench.send("三点", message.address)
    stream = bench.bot.streams[proof]
    assert (stream["content"], stream["finish"]) == ("三点", True)
    assert bench.fake.messages == []
    assert bench.pulse.last_out is not None


async def test_an_answer_grows_while_it_is_written(bench: Bench) -> None:
    message = await bench.hear()
    bench.channel.begin(7, message.address, lambda: bench.text)
    bench.text = "三"
    await bench.until(lambda: bool(bench.bot.streams))
    request = next(iter(bench.bot.streams))
    bench.text = "三点"
    await bench.until(lambda: bench.bot.streams[request]["content"] == "三点")
    assert await bench.send("三点**整**", message.address) == request
    stream = bench.bot.streams[request]
    assert (stream["frames"][0], stream["content"], stream["finish"]) == ("三", "三点**整**", True)
    assert len({f["body"]["stream"]["id"] for f in bench.bot.frames if f["cmd"] == "aibot_respond_msg"}) == 1


async def test_what_was_begun_and_will_not_be_said_is_ended(bench: Bench) -> None:
    message = await bench.hear()
    bench.channel.begin(7, message.address, lambda: "half")
    await bench.until(lambda: bool(bench.bot.streams))
    await bench.channel.abandon(7)
    assert next(iter(bench.bot.streams.values()))["finish"]


async def test_pushes_and_further_messages_go_to_the_chat(bench: Bench) -> None:
    message = await bench.hear(chattype="group", chatid="wrG")
    await bench.send("one", message.address, "7-0")
    await bench.send("two", message.address, "7-1")
    await bench.send("push", bench.channel.address("user:lisi"), "push-1")
    assert [(m.to, m.text) for m in bench.fake.messages] == [("wrG", "two"), ("lisi", "push")]


async def test_after_a_reconnection_the_answer_goes_to_the_chat(bench: Bench) -> None:
    message = await bench.hear()
    bench.channel.begin(7, message.address, lambda: "half")
    await bench.bot.drop()
    await bench.connected(2)
    await bench.send("whole", message.address)
    assert [(m.to, m.text) for m in bench.fake.messages] == [("zhangsan", "whole")]


async def test_a_refused_reply_goes_to_the_chat(bench: Bench) -> None:
    message = await bench.hear()
    bench.bot.faults.append(40008)
    await bench.send("whole", message.address)
    assert [m.text for m in bench.fake.messages] == ["whole"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(6000, Throttled), (45009, Throttled), (-1, Unavailable), (93006, Rejected)],
)
async def test_refusals_are_typed(bench: Bench, fault: int, kind: type[AppError]) -> None:
    address = bench.channel.address("user:lisi")
    bench.bot.faults.append(fault)
    with pytest.raises(kind):
        await bench.send("x", address, "p")
    assert await bench.send("x", address, "p")


async def test_a_lost_answer_is_unknown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channels.wecom.socket.ANSWER_SECONDS", 0.2)
    for fault in ("silent", "cut"):
        bench.bot.faults.append(fault)
        with pytest.raises(OutcomeUnknown):
            await bench.send("x", bench.channel.address("user:lisi"), "p")
        await bench.connected()
    assert len(bench.fake.messages) == 2


async def test_without_a_connection_nothing_is_sent(fake: FakeWeCom, clock: ManualClock) -> None:
    bench = Bench(fake, clock)
    with pytest.raises(Unavailable):
        await bench.send("x", bench.channel.address("user:lisi"), "p")
    with pytest.raises(Conflict):
        await bench.channel.receive(RawRequest(method="POST", path="/", query={}, headers={}, body=b"", ip=""))
    await bench.egress.close()


async def test_a_bot_that_does_not_run_logs_in_for_its_test(fake: FakeWeCom, clock: ManualClock) -> None:
    bench = Bench(fake, clock)
    assert [(r.name, r.status) for r in await bench.channel.probe()][1] == ("connection", "pass")
    fake.bot.secret = "another"
    failed = (await bench.channel.probe())[1]
    assert (failed.status, failed.code) == ("fail", "wecom.bot_credentials")
    await bench.channel.stop()
    await bench.egress.close()


async def test_a_running_bots_test_leaves_its_connection_alone(bench: Bench) -> None:
    assert [(r.name, r.status) for r in await bench.channel.probe()][1] == ("connection", "pass")
    assert bench.bot.logins == 1


async def test_a_newer_connection_takes_over_and_is_not_fought(bench: Bench, clock: ManualClock) -> None:
    other = Bench(bench.fake, clock)
    await other.channel.start()
    await other.connected(2)
    await bench.until(lambda: bench.pulse.last_error == "line.taken_over")
    assert bench.pulse.connection == "lost"
    await other.hear("to the newer one")
    assert bench.accepted == []
    assert bench.bot.logins == 2
    await other.close()


async def test_wrong_credentials_are_shown_and_mended(fake: FakeWeCom, clock: ManualClock) -> None:
    bench = Bench(fake, clock)
    fake.bot.secret = "another"
    await bench.channel.start()
    await bench.until(lambda: bench.pulse.last_error == "wecom.bot_credentials")
    fake.bot.secret = "bot-secret"
    await bench.connected()
    assert [(r.name, r.status) for r in await bench.channel.probe()][1] == ("connection", "pass")
    await bench.close()


async def test_a_half_open_connection_is_replaced_within_a_minute(fake: FakeWeCom, clock: ManualClock) -> None:
    """After the login the other end is silent without closing. Time is simulated, the sockets are real."""
    bench: Bench
    lost_at: list[float] = []

    async def sleep(seconds: float) -> None:
        if bench.pulse.reconnects:
            fake.bot.deaf = False
            lost_at.append(clock.monotonic())
            await asyncio.Event().wait()
        fake.bot.deaf = True
        clock.advance(seconds)
        await asyncio.sleep(0)

    bench = Bench(fake, clock, Timing(sleep=sleep, monotonic=clock.monotonic))
    await bench.channel.start()
    await bench.until(lambda: bool(lost_at))
    assert bench.pulse.last_error == "line.silent"
    assert lost_at[0] <= 60
    await bench.close()


async def test_garbage_and_clicks(bench: Bench) -> None:
    socket = bench.bot.sockets[-1]
    for garbage in ("", "{", "[]", "null", '{"cmd": 3}', '{"cmd":"aibot_msg_callback","body":{}}', '{"errcode":0}'):
        await socket.send_str(garbage)
    event = {"eventtype": "template_card_event", "template_card_event": {"event_key": "approve:3", "task_id": "t1"}}
    await bench.bot.event(event, **{"from": {"userid": "zhangsan"}, "chatid": "wrG"})
    await bench.until(lambda: bool(bench.clicks))
    click = bench.clicks[0]
    assert (click.person, click.value, click.message, click.conversation) == ("zhangsan", "approve:3", "t1", "wrG")
    await bench.hear("still here")
    assert bench.bot.logins == 1


async def test_a_file_is_fetched_and_decrypted(bench: Bench) -> None:
    key = bytes(range(32))
    plain = b"picture" + bytes([25]) * 25
    cipher = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    sealed = cipher.update(plain) + cipher.finalize()

    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=sealed)

    app = web.Application()
    app.router.add_get("/file", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    secret = base64.b64encode(key).decode()
    message = await bench.hear(msgtype="image", text=..., image={"url": f"{url}/file", "aeskey": secret})
    assert await bench.channel.fetch(message.parts[0]) == b"picture"
    for wrong in (f"{secret} {url}/gone", f"x {url}/file", f"{secret} http://10.0.0.1/", f"{secret} "):
        with pytest.raises(Rejected):
            await bench.channel.fetch(Part(kind="image", key=wrong))
    await runner.cleanup()
