"""Pushes: the document's group robot, WeCom's, and any other system, against vendors that check everything."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from channels.base import BotConfig, RawRequest
from channels.hooks import Hooks, Pulse
from channels.webhook.manifest import MANIFEST
from channels.webhook.runtime import WebhookChannel
from channels.webhook.signing import signature
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import ManualClock
from storage.envelope import Button, Outgoing
from storage.errors import AppError, Conflict, Invalid, OutcomeUnknown, Rejected, Throttled, Unavailable
from tests.fakes import dingtalk_server, wecom_server
from tests.fakes.dingtalk_server import FakeDingTalk
from tests.fakes.wecom_server import FakeWeCom


class Listener:
    """Any other system: notes what came and answers as told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status, self.headers = 200, dict[str, str]()
        self.drop = False
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/in", self._in)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}/in"

    async def _in(self, request: web.Request) -> web.StreamResponse:
        self.got.append(({k.lower(): v for k, v in request.headers.items()}, await request.read()))
        if self.drop and request.transport is not None:
            request.transport.abort()
        return web.Response(status=self.status, headers=self.headers, text="no\x00pe")


@pytest.fixture
async def ding(clock: ManualClock) -> AsyncIterator[FakeDingTalk]:
    async with FakeDingTalk(now=clock.ms) as fake:
        yield fake


@pytest.fixture
async def wecom(clock: ManualClock) -> AsyncIterator[FakeWeCom]:
    async with FakeWeCom(now=clock.ms) as fake:
        yield fake


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    await made.start()
    yield made
    await made.runner.cleanup()


@pytest.fixture
async def egress() -> AsyncIterator[EgressClient]:
    made = EgressClient(allow_local_vendors=True)
    yield made
    await made.close()


def bot(
    egress: EgressClient, clock: ManualClock, endpoint: str, *, local: bool = True, **secrets: str
) -> WebhookChannel:
    keyword = secrets.pop("keyword", "")
    config = BotConfig(
        id=1,
        tenant="main",
        name="dingtalk",
        type="webhook",
        mode="push",
        settings={"endpoint": endpoint, "keyword": keyword},
        secrets=secrets,
        events=("task.completed", "error.alert"),
    )
    return WebhookChannel(config, egress, clock, Hooks(background=Background(), pulse=Pulse(clock=clock), local=local))


async def push(channel: WebhookChannel, text: str = "**done**", **more: Any) -> str:
    out = Outgoing(kind="push", text=text, **more)
    return (await channel.send(out, "{}", "delivery-1", lambda: None)).vendor_id


# ---- the document's entry


async def test_the_documents_endpoint_is_accepted_and_says_what_is_missing(
    egress: EgressClient, clock: ManualClock
) -> None:
    channel = bot(egress, clock, "https://oapi.dingtalk.com/robot/send", local=False, secret="your-robot-secret")
    with pytest.raises(Invalid) as error:
        await channel.start()
    assert (error.value.code, error.value.field) == ("webhook.token_dingtalk", "token")
    assert [(r.name, r.status, r.code) for r in await channel.probe()] == [("config", "fail", "webhook.token_dingtalk")]
    whole = bot(egress, clock, "https://oapi.dingtalk.com/robot/send", local=False, secret="s", token="t")
    await whole.start()
    assert whole.hooks.pulse.connection == "waiting"
    assert [(r.name, r.status) for r in await whole.probe()] == [("config", "pass"), ("message", "unknown")]


def test_a_webhook_bot_hears_nothing() -> None:
    assert not MANIFEST.receives


async def test_a_webhook_bot_takes_no_callbacks(egress: EgressClient, clock: ManualClock) -> None:
    channel = bot(egress, clock, "https://x.example/")
    with pytest.raises(Conflict):
        await channel.receive(RawRequest(method="POST", path="/", query={}, headers={}, body=b"", ip=""))


# ---- DingTalk


async def test_a_signed_push_reaches_the_group(egress: EgressClient, clock: ManualClock, ding: FakeDingTalk) -> None:
    ding.robots["tok en"] = dingtalk_server.Robot(secret="SECabc")
    channel = bot(egress, clock, f"{ding.url}/robot/send?access_token=tok%20en", secret="SECabc")
    await channel.start()
    assert await push(channel, title="日报", mentions=("all",)) == "errcode=0"
    sent = ding.messages[0]
    assert (sent.to, sent.key, sent.param["title"]) == ("tok en", "markdown", "日报")
    assert sent.param["at"]["isAtAll"] is True
    assert channel.hooks.pulse.last_out == clock.ms()
    buttons = (Button(label="打开", url="https://x.example/1"),)
    await push(channel, buttons=buttons)
    assert ding.messages[1].key == "actionCard"


@pytest.mark.parametrize(
    ("robot", "secrets", "skew", "code"),
    [
        (dingtalk_server.Robot(secret="SEC1"), {"secret": "SEC2"}, 0, "dingtalk.robot_sign"),
        (dingtalk_server.Robot(secret="SEC1"), {}, 0, "dingtalk.clock"),
        (dingtalk_server.Robot(secret="SEC1"), {"secret": "SEC1"}, 3601, "dingtalk.clock"),
        (dingtalk_server.Robot(keywords=("告警",)), {}, 0, "dingtalk.keyword"),
        (dingtalk_server.Robot(allowed_ip=False), {}, 0, "dingtalk.robot_ip"),
        (None, {}, 0, "dingtalk.session_expired"),
    ],
)
async def test_each_protection_of_a_group_robot_is_explained(
    egress: EgressClient,
    clock: ManualClock,
    ding: FakeDingTalk,
    robot: dingtalk_server.Robot | None,
    secrets: dict[str, str],
    skew: int,
    code: str,
) -> None:
    if robot is not None:
        ding.robots["t"] = robot
    channel = bot(egress, clock, f"{ding.url}/robot/send", token="t", **secrets)
    ding.now = lambda: clock.ms() + skew * 1000
    with pytest.raises(Rejected) as error:
        await push(channel)
    assert error.value.code == code
    assert ding.messages == []


async def test_a_set_keyword_is_added_where_it_lacks(
    egress: EgressClient, clock: ManualClock, ding: FakeDingTalk
) -> None:
    ding.robots["t"] = dingtalk_server.Robot(keywords=("知行",))
    channel = bot(egress, clock, f"{ding.url}/robot/send", token="t", keyword="知行")
    await push(channel, "done")
    await push(channel, "知行：done")
    assert [m.text for m in ding.messages] == ["done\n\n知行", "知行：done"]


async def test_twenty_a_minute(egress: EgressClient, clock: ManualClock, ding: FakeDingTalk) -> None:
    ding.robots["t"] = dingtalk_server.Robot()
    channel = bot(egress, clock, f"{ding.url}/robot/send", token="t")
    await channel.start()
    assert (channel.pace.count, channel.pace.seconds >= 60) == (20, True)
    for _ in range(20):
        await push(channel)
    with pytest.raises(Throttled) as error:
        await push(channel)
    assert error.value.retry_after >= 600
    ding.fault("robot", "body", body={"status": 1111, "wait": 5, "punish": "deny"})
    with pytest.raises(Throttled):
        await push(channel)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "status", "status": 502}, Unavailable),
        ({"kind": "html"}, Unavailable),
        ({"kind": "body", "body": {}}, Unavailable),
        ({"kind": "errcode", "errcode": -1}, Unavailable),
        ({"kind": "drop"}, OutcomeUnknown),
        ({"kind": "errcode", "errcode": 300005}, Rejected),
    ],
)
async def test_a_group_robots_failures_are_typed(
    egress: EgressClient, clock: ManualClock, ding: FakeDingTalk, fault: dict[str, Any], kind: type[AppError]
) -> None:
    ding.robots["t"] = dingtalk_server.Robot()
    channel = bot(egress, clock, f"{ding.url}/robot/send", token="t")
    ding.fault("robot", **fault)
    with pytest.raises(kind) as error:
        await push(channel)
    assert "access_token" not in str(error.value)


async def test_a_long_push_is_split_below_the_limit(
    egress: EgressClient, clock: ManualClock, ding: FakeDingTalk
) -> None:
    ding.robots["t"] = dingtalk_server.Robot()
    channel = bot(egress, clock, f"{ding.url}/robot/send", token="t")
    pieces = channel.split(Outgoing(kind="push", text="很长的一段。\n\n" * 2000))
    for piece in pieces[:5]:
        await channel.send(piece, "{}", "k", lambda: None)
    assert len(ding.messages) == 5


# ---- WeCom


async def test_a_push_reaches_a_wecom_group(egress: EgressClient, clock: ManualClock, wecom: FakeWeCom) -> None:
    wecom.robots["k-1"] = wecom_server.Robot()
    channel = bot(egress, clock, f"{wecom.url}/cgi-bin/webhook/send?key=k-1")
    await channel.start()
    out = Outgoing(kind="push", text="字" * 5000, title="标题", mentions=("u1",))
    for piece in channel.split(out):
        await channel.send(piece, "{}", "k", lambda: None)
    assert len(wecom.messages) > 3
    assert "<@u1>" in wecom.messages[0].text
    assert sum(m.text.count("字") for m in wecom.messages) == 5000


async def test_wecom_failures_are_typed(egress: EgressClient, clock: ManualClock, wecom: FakeWeCom) -> None:
    channel = bot(egress, clock, f"{wecom.url}/cgi-bin/webhook/send?key=k")
    with pytest.raises(Rejected) as error:
        await push(channel)
    assert error.value.code == "wecom.robot_key"
    wecom.robots["k"] = wecom_server.Robot()
    for fault, kind in (
        ({"status": 503}, Unavailable),
        ({"html": True}, Unavailable),
        ({"errcode": 45009}, Throttled),
        ({"errcode": 40058}, Rejected),
        ({"drop": True}, OutcomeUnknown),
    ):
        wecom.fault("robot", **fault)
        with pytest.raises(kind):
            await push(channel)
    with pytest.raises(Invalid) as missing:
        await bot(egress, clock, f"{wecom.url}/cgi-bin/webhook/send").start()
    assert missing.value.code == "webhook.token_wecom"


# ---- any other system


async def test_a_push_to_another_system_is_signed(egress: EgressClient, clock: ManualClock, listener: Listener) -> None:
    channel = bot(egress, clock, listener.url, secret="shared-secret")
    await channel.start()
    assert channel.idempotent
    address = json.dumps({"event": "task.completed", "data": {"job": 7}})
    receipt = await channel.send(Outgoing(kind="push", text="完成"), address, "delivery-9", lambda: None)
    assert receipt.vendor_id == "http=200"
    headers, body = listener.got[0]
    assert headers["x-zhixing-delivery"] == "delivery-9"
    assert headers["x-zhixing-signature"] == signature("shared-secret", headers["x-zhixing-timestamp"], body)
    assert json.loads(body) == {
        "id": "delivery-9",
        "at": clock.ms(),
        "event": "task.completed",
        "data": {"job": 7},
        "kind": "push",
        "text": "完成",
    }
    listener.headers = {"x-request-id": "abc"}
    assert await push(channel) == "abc"


@pytest.mark.parametrize(
    ("status", "headers", "kind", "wait"),
    [
        (429, {"retry-after": "7"}, Throttled, 7),
        (429, {}, Throttled, 60),
        (429, {"retry-after": "nonsense"}, Throttled, 60),
        (429, {"retry-after": "99999999"}, Throttled, 3600),
        (500, {}, Unavailable, None),
        (408, {}, Unavailable, None),
        (400, {}, Rejected, None),
        (404, {}, Rejected, None),
        (302, {"location": "http://127.0.0.1:9/"}, Rejected, None),
    ],
)
async def test_another_systems_refusals_are_typed(
    egress: EgressClient,
    clock: ManualClock,
    listener: Listener,
    status: int,
    headers: dict[str, str],
    kind: type[AppError],
    wait: int | None,
) -> None:
    listener.status, listener.headers = status, headers
    channel = bot(egress, clock, listener.url)
    with pytest.raises(kind) as error:
        await push(channel)
    assert getattr(error.value, "retry_after", None) == wait
    assert len(listener.got) == 1


async def test_retry_after_as_a_date(egress: EgressClient, clock: ManualClock, listener: Listener) -> None:
    listener.status = 429
    clock_then = ManualClock(clock.ms() + 30_000)
    listener.headers = {"retry-after": format_datetime(clock_then.now(), usegmt=True)}
    with pytest.raises(Throttled) as error:
        await push(bot(egress, clock, listener.url))
    assert error.value.retry_after == 30


async def test_a_cut_answer_is_unknown_and_a_dead_system_unavailable(
    egress: EgressClient, clock: ManualClock, listener: Listener
) -> None:
    listener.drop = True
    with pytest.raises(OutcomeUnknown):
        await push(bot(egress, clock, listener.url))
    with pytest.raises(Unavailable):
        await push(bot(egress, clock, "http://127.0.0.1:9/in"))
