"""A Feishu group's robot, as a bot of type `webhook`, against a fake that checks signature, size and keyword."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from channels.base import BotConfig
from channels.feishu.robot import sign
from channels.hooks import Hooks, Pulse
from channels.webhook.runtime import WebhookChannel
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import Clock
from storage.envelope import Button, Outgoing
from storage.errors import Rejected, Throttled, Unavailable
from tests.fakes.feishu_server import FeishuServer


@pytest.fixture
async def server() -> AsyncIterator[FeishuServer]:
    made = await FeishuServer().start()
    yield made
    await made.stop()


@pytest.fixture
async def egress() -> AsyncIterator[EgressClient]:
    made = EgressClient(allow_local_vendors=True)
    yield made
    await made.close()


def bot(egress: EgressClient, server: FeishuServer, *, token: str = "hook-token", **more: str) -> WebhookChannel:
    config = BotConfig(
        id=1,
        tenant="main",
        name="alerts",
        type="webhook",
        mode="push",
        settings={"endpoint": f"{server.base}/open-apis/bot/v2/hook/{token}", "keyword": more.pop("keyword", "")},
        secrets={"secret": "robot-secret"} | more,
    )
    clock = Clock()
    return WebhookChannel(config, egress, clock, Hooks(background=Background(), pulse=Pulse(clock=clock), local=True))


async def push(channel: WebhookChannel, out: Outgoing) -> str:
    return (await channel.send(out, "{}", "key", lambda: None)).vendor_id


def test_the_signature_is_the_vendors() -> None:
    # openssl: printf '' | openssl dgst -sha256 -hmac $'1599360473\nSECRET' -binary | base64
    assert sign("SECRET", "1599360473") == "dkDGhTZacsd3yXW3YtXxmQjKIazeY68phrEMdV1uoMo="


async def test_text_and_layout_arrive_signed(egress: EgressClient, server: FeishuServer) -> None:
    channel = bot(egress, server)
    await channel.start()
    assert await push(channel, Outgoing(kind="push", text="完成")) == "code=0"
    buttons = (Button(label="看", url="https://example.com/t"), Button(label="批准", value="v"))
    await push(channel, Outgoing(kind="push", text="**好**", title="任务", buttons=buttons))
    assert [(m.how, m.kind) for m in server.messages] == [("hook", "text"), ("hook", "interactive")]
    elements = server.messages[1].content["body"]["elements"]
    assert [e["tag"] for e in elements] == ["markdown", "button"]  # a callback reaches nobody from a group robot


async def test_what_the_vendor_refuses_is_named(egress: EgressClient, server: FeishuServer) -> None:
    for channel, code in (
        (bot(egress, server, token="gone"), "feishu.19001"),
        (bot(egress, server, secret="wrong"), "feishu.19021"),
    ):
        with pytest.raises(Rejected) as refused:
            await push(channel, Outgoing(kind="push", text="x"))
        assert refused.value.code == code
    server.robot_keywords = ("告警",)
    with pytest.raises(Rejected, match=r"feishu\.19024"):
        await push(bot(egress, server), Outgoing(kind="push", text="x"))
    await push(bot(egress, server, keyword="告警"), Outgoing(kind="push", text="x"))
    assert [m.text for m in server.messages] == ["x\n\n告警"]
    server.fail("rate", path="/hook/", code=11232, seconds=3)
    with pytest.raises(Throttled) as slow:
        await push(bot(egress, server), Outgoing(kind="push", text="告警"))
    assert slow.value.retry_after == 3.0
    server.fail("html", path="/hook/")
    with pytest.raises(Unavailable):
        await push(bot(egress, server), Outgoing(kind="push", text="告警"))


async def test_long_text_goes_in_pieces_below_the_limit(egress: EgressClient, server: FeishuServer) -> None:
    channel = bot(egress, server)
    for piece in channel.split(Outgoing(kind="push", text="很长的一段话。\n\n" * 3000, files=("a.txt",))):
        await push(channel, piece)
    assert len(server.messages) > 1
    assert server.refused == []
    assert sum(m.text.count("很长的一段话") for m in server.messages) == 3000
