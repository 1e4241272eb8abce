"""A WeCom app on the wire: encrypted callbacks in, messages out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from channels.base import BotConfig, RawRequest
from channels.hooks import Hooks, Pulse
from channels.wecom.app import WeComApp
from channels.wecom.runtime import build
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import ManualClock
from storage.envelope import Inbound, Outgoing
from storage.errors import AppError, Denied, Invalid, OutcomeUnknown, Rejected, Throttled, Unauthenticated, Unavailable
from tests.fakes.wecom_server import FakeWeCom


class Bench:
    """An app, its vendor, and what was accepted."""

    def __init__(self, fake: FakeWeCom, clock: ManualClock) -> None:
        self.fake, self.clock = fake, clock
        self.accepted: list[Inbound] = []
        self.error: AppError | None = None
        self.egress = EgressClient(allow_local_vendors=True)
        self.pulse = Pulse(clock=clock)
        config = BotConfig(
            id=1,
            tenant="main",
            name="wx",
            type="wecom",
            mode="app",
            settings={"corp_id": fake.corp_id, "agent_id": fake.agent_id, "api_base": fake.url},
            secrets={"corp_secret": fake.corp_secret, "token": fake.callback_token, "aes_key": fake.aes_key},
        )
        hooks = Hooks(background=Background(), pulse=self.pulse, local=True)
        made = build(config, self.egress, clock, self.accept, hooks)
        assert isinstance(made, WeComApp)
        self.channel = made

    async def accept(self, inbound: Inbound) -> bool:
        if self.error:
            raise self.error
        self.accepted.append(inbound)
        return True

    async def post(self, query: dict[str, str], body: bytes, method: str = "POST") -> tuple[int, bytes]:
        request = RawRequest(method=method, path="/", query=query, headers={}, body=body, ip="")
        answer = await self.channel.receive(request)
        return answer.status, answer.body

    async def send(self, text: str = "hi", address: str = "") -> str:
        out = Outgoing(kind="answer", text=text)
        to = address or self.channel.address("user:zhangsan")
        return (await self.channel.send(out, to, "k", lambda: None)).vendor_id


@pytest.fixture
async def bench(clock: ManualClock) -> AsyncIterator[Bench]:
    async with FakeWeCom(now=clock.ms) as fake:
        made = Bench(fake, clock)
        await made.channel.start()
        yield made
        await made.channel.stop()
        await made.egress.close()


async def test_a_message_is_accepted_and_answered(bench: Bench) -> None:
    assert await bench.post(*bench.fake.callback(Content="你好")) == (200, b"")
    message = bench.accepted[0]
    assert message.text == "你好"
    assert await bench.send("**好**", message.address) == "wemsg1"
    sent = bench.fake.messages[0]
    assert (sent.to, sent.kind, sent.text) == ("zhangsan", "markdown", "**好**")
    bench.error = Unavailable("db.full")
    with pytest.raises(Unavailable):
        await bench.post(*bench.fake.callback())


async def test_the_callback_address_is_confirmed(bench: Bench) -> None:
    echo = bench.fake.sealed(b"42")
    assert await bench.post(bench.fake.query(echo) | {"echostr": echo}, b"", "GET") == (200, b"42")
    assert bench.accepted == []


async def test_wrong_callbacks_store_nothing(bench: Bench) -> None:
    query, body = bench.fake.callback()
    with pytest.raises(Unauthenticated):
        await bench.post({**query, "msg_signature": "0" * 40}, body)
    with pytest.raises(Denied):
        await bench.post(*bench.fake.callback(AgentID="7"))
    assert await bench.post(*bench.fake.callback(MsgType="event", Event="subscribe")) == (200, b"")
    assert bench.accepted == []


async def test_a_token_is_shared_and_renewed(bench: Bench) -> None:
    await asyncio.wait_for(asyncio.gather(*(bench.send() for _ in range(20))), 10)
    assert bench.fake.token_calls == 1
    bench.fake.tokens = dict.fromkeys(bench.fake.tokens, False)
    await asyncio.wait_for(asyncio.gather(*(bench.send() for _ in range(20))), 10)
    assert bench.fake.token_calls == 2
    bench.clock.advance(7000)
    await bench.send()
    assert bench.fake.token_calls == 3
    assert len(bench.fake.messages) == 41


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ({"errcode": 45009}, Throttled, "wecom.too_fast"),
        ({"errcode": 60020}, Rejected, "wecom.ip"),
        ({"errcode": 81013}, Rejected, "wecom.person"),
        ({"errcode": 99999}, Rejected, "wecom.refused"),
        ({"errcode": -1}, Unavailable, "wecom.busy"),
        ({"status": 503}, Unavailable, "wecom.busy"),
        ({"status": 504}, OutcomeUnknown, "wecom.no_answer"),
        ({"html": True}, Unavailable, "wecom.busy"),
        ({"drop": True}, OutcomeUnknown, "egress.cut"),
    ],
)
async def test_every_refusal_is_typed(bench: Bench, fault: dict[str, Any], kind: type[AppError], code: str) -> None:
    bench.fake.fault("app", **fault)
    with pytest.raises(kind) as error:
        await bench.send()
    assert error.value.code == code
    assert await bench.send("and then it works")


async def test_wrong_credentials_are_explained(bench: Bench) -> None:
    bench.fake.corp_secret = "another"
    found = await bench.channel.probe()
    assert [(r.name, r.status, r.code) for r in found][1:] == [("token", "fail", "wecom.credentials")]
    bench.fake.corp_secret = "wecom-secret"
    assert [(r.name, r.status) for r in await bench.channel.probe()][1:] == [("token", "pass"), ("inbound", "unknown")]


async def test_long_answers_are_split_below_the_limit(bench: Bench) -> None:
    pieces = bench.channel.split(Outgoing(kind="answer", text="一段话。\n\n" * 500))
    for piece in pieces:
        await bench.channel.send(piece, bench.channel.address("user:zhangsan"), "k", lambda: None)
    assert len(bench.fake.messages) == len(pieces) > 2


async def test_an_app_has_no_groups(bench: Bench) -> None:
    with pytest.raises(Rejected):
        await bench.send("x", bench.channel.address("group:wr1"))
    with pytest.raises(Invalid):
        await bench.send("x", "{}")
