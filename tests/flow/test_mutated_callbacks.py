"""Thirty mutations of a genuine callback for each vendor, made by the same hand: none is taken, the genuine one is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from channels.base import BotConfig, RawRequest
from channels.hooks import Hooks, Pulse
from channels.manifests import build
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import ManualClock
from storage.envelope import Inbound
from storage.errors import AppError
from tests.fakes.dingtalk_server import FakeDingTalk
from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer
from tests.fakes.wecom_server import FakeWeCom

LEAST = 30


class Door:
    """A bot that takes callbacks, and what it let in."""

    def __init__(self, clock: ManualClock, config: BotConfig) -> None:
        self.taken: list[Inbound] = []
        self.egress, self.background = EgressClient(allow_local_vendors=True), Background()
        self.pulse = Pulse(clock=clock)
        hooks = Hooks(background=self.background, pulse=self.pulse, local=True)
        self.channel = build(config, self.egress, clock, self.accept, hooks)

    async def accept(self, inbound: Inbound) -> bool:
        self.taken.append(inbound)
        return True

    async def knock(self, request: RawRequest) -> str:
        """What became of a request: the error's code, or nothing."""
        try:
            await self.channel.receive(request)
        except AppError as error:
            return error.code if 400 <= error.status < 500 else ""
        return ""

    async def close(self) -> None:
        await self.channel.stop()
        await self.background.stop()
        await self.egress.close()


def raw(headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> RawRequest:
    lower = {name.lower(): value for name, value in headers.items()}
    return RawRequest(method="POST", path="/", query=query, headers=lower, body=body, ip="203.0.113.7")


def odd(text: str) -> Iterator[str]:
    """Forms of a value that are not the value."""
    yield ""
    yield " " + text
    yield text + " "
    yield text[:-1]
    yield text + text[-1]
    yield text.swapcase() if text.swapcase() != text else text[::-1]
    yield text[::-1] if text[::-1] != text else text + "0"
    yield "0" * len(text)
    yield "A" * 100_000
    yield "签名"
    yield text + "\x00"


def changed(values: Mapping[str, str], name: str) -> Iterator[dict[str, str]]:
    """The same with one value gone, or in another form."""
    yield {key: value for key, value in values.items() if key != name}
    for form in odd(values[name]):
        if form != values[name]:
            yield {**values, name: form}


def bodies(body: bytes) -> Iterator[bytes]:
    """Bodies that the signature does not cover."""
    yield b""
    yield body[:-1]
    yield body + b" "
    yield b" " + body
    yield body.replace(b"a", b"b", 1)
    yield bytes(reversed(body))
    yield b"{}"
    yield b"\xff\xfe" + body
    yield b"[" * 2_000_000


def feishu_requests(events: FeishuEvents, clock: ManualClock) -> tuple[RawRequest, list[RawRequest]]:
    good = events.message("hello")
    signature, timestamp, nonce = "X-Lark-Signature", "X-Lark-Request-Timestamp", "X-Lark-Request-Nonce"
    made = [
        raw(headers, {}, good.body)
        for name in (signature, timestamp, nonce)
        for headers in changed(good.headers, name)
        if name != nonce or headers.get(nonce) is not None
    ]
    made += [raw(good.headers, {}, body) for body in bodies(good.body)]
    strangers = (
        FeishuEvents(now=clock.ms, encrypt_key="another"),
        FeishuEvents(now=clock.ms, verification_token="another"),
        FeishuEvents(now=clock.ms, app_id="cli_other"),
    )
    for other in strangers:
        posted = other.message("hello")
        made.append(raw(posted.headers, {}, posted.body))
    for shift in (-9 * 3_600_000, 3_600_000, 86_400_000 * 365):
        made.append(raw(events.sign(good.body, at_ms=clock.ms() + shift), {}, good.body))
    return raw(good.headers, {}, good.body), made


def dingtalk_requests(fake: FakeDingTalk, clock: ManualClock) -> tuple[RawRequest, list[RawRequest]]:
    headers, body = fake.callback("hello")
    made = [raw(given, {}, body) for name in ("sign", "timestamp") for given in changed(headers, name)]
    # DingTalk's signature covers the time only: of bodies, those that are no message of this robot are refused
    made += [raw(headers, {}, one) for one in (b"", body[:-1], b"{}", b"null", b"\xff" + body, b"[" * 2_000_000)]
    made.append(raw(headers, {}, body.replace(b'"robotCode": "dingtest"', b'"robotCode": "other"')))
    for shift in (-3_600_001, 3_600_001, -clock.ms()):
        made.append(raw(fake.callback(timestamp=clock.ms() + shift)[0], {}, body))
    made.append(raw(fake.callback(secret="wrong")[0], {}, body))
    return raw(headers, {}, body), made


def wecom_requests(fake: FakeWeCom, clock: ManualClock) -> tuple[RawRequest, list[RawRequest]]:
    query, body = fake.callback(Content="hello")
    made = [raw({}, given, body) for name in ("msg_signature", "timestamp", "nonce") for given in changed(query, name)]
    made += [raw({}, query, one) for one in (b"", b"{}", b"<xml></xml>", body.replace(b"Encrypt>", b"encrypt>"))]
    made += [raw({}, query, body + body), raw({}, query, b"<" * 2_000_000)]
    made.append(raw({}, query, fake.callback(Content="another")[1]))
    for shift in (-301, 301, 86_400):
        old, sealed = fake.callback(timestamp=clock.ms() // 1000 + shift)
        made.append(raw({}, old, sealed))
    stranger = fake.sealed(b"<xml><ToUserName>x</ToUserName></xml>", receiver="another")
    made.append(raw({}, fake.query(stranger), f"<xml><Encrypt>{stranger}</Encrypt></xml>".encode()))
    for wrong in ({"AgentID": "7"}, {"ToUserName": "wwother"}):
        made.append(raw({}, *fake.callback(wrong)))
    return raw({}, query, body), made


async def hold(door: Door, good: RawRequest, mutated: list[RawRequest]) -> None:
    assert len(mutated) >= LEAST
    for n, request in enumerate(mutated):
        code = await door.knock(request)
        assert code, f"mutation {n} was answered as if it were genuine: {request.headers} {request.query}"
        assert door.taken == [], f"mutation {n} was taken"
    assert door.pulse.last_in is None
    assert await door.knock(good) == ""
    assert [message.text for message in door.taken] == ["hello"]


@pytest.fixture
async def doors() -> AsyncIterator[list[Door]]:
    made: list[Door] = []
    yield made
    for door in made:
        await door.close()


def config(type: str, mode: str, settings: dict[str, Any], secrets: dict[str, str]) -> BotConfig:
    return BotConfig(id=1, tenant="main", name="bot", type=type, mode=mode, settings=settings, secrets=secrets)


async def test_feishu(clock: ManualClock, doors: list[Door]) -> None:
    events, server = FeishuEvents(now=clock.ms), await FeishuServer().start()
    try:
        keys = {"encrypt_key": events.encrypt_key, "verification_token": events.verification_token}
        secrets = {"app_secret": "app-secret", **keys}
        settings = {"app_id": events.app_id, "api_base": server.base, "stream": "off"}
        doors.append(Door(clock, config("feishu", "webhook", settings, secrets)))
        await hold(doors[0], *feishu_requests(events, clock))
    finally:
        await server.stop()


async def test_dingtalk(clock: ManualClock, doors: list[Door]) -> None:
    async with FakeDingTalk(now=clock.ms) as fake:
        settings = {"client_id": fake.client_id, "api_base": fake.url, "oapi_base": fake.url}
        doors.append(Door(clock, config("dingtalk", "http", settings, {"client_secret": fake.client_secret})))
        await hold(doors[0], *dingtalk_requests(fake, clock))


async def test_wecom(clock: ManualClock, doors: list[Door]) -> None:
    async with FakeWeCom(now=clock.ms) as fake:
        settings = {"corp_id": fake.corp_id, "agent_id": fake.agent_id, "api_base": fake.url}
        secrets = {"corp_secret": fake.corp_secret, "token": fake.callback_token, "aes_key": fake.aes_key}
        doors.append(Door(clock, config("wecom", "app", settings, secrets)))
        await hold(doors[0], *wecom_requests(fake, clock))
