"""The Feishu client against a fake that checks tokens, bodies and ids as the vendor would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from channels.base import BotConfig, Channel
from channels.feishu.runtime import FeishuChannel, build
from channels.hooks import Hooks, Pulse
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import Clock
from storage.envelope import Inbound, Outgoing
from storage.errors import OutcomeUnknown, Rejected, Throttled, Unavailable
from tests.fakes.feishu_server import FeishuServer

ADDRESS = '{"message": "om_in_1", "to": "oc_1"}'


def nothing() -> None:
    return None


async def accept(inbound: Inbound) -> bool:
    return True


@pytest.fixture
async def server() -> AsyncIterator[FeishuServer]:
    made = await FeishuServer().start()
    yield made
    await made.stop()


@pytest.fixture
async def channel(server: FeishuServer) -> AsyncIterator[FeishuChannel]:
    clock, background = Clock(), Background()
    egress = EgressClient(allow_local_vendors=True)
    config = BotConfig(
        id=1,
        tenant="main",
        name="hr-bot",
        type="feishu",
        mode="webhook",
        settings={"app_id": "cli_test", "api_base": server.base},
        secrets={"app_secret": "app-secret", "encrypt_key": "k", "verification_token": "v"},
    )
    made = build(config, egress, clock, accept, Hooks(background=background, pulse=Pulse(clock), local=True))
    checked: Channel = made  # the whole protocol is there
    yield made
    await checked.stop()
    await background.stop()
    await egress.close()


def out(text: str = "好") -> Outgoing:
    return Outgoing(kind="answer", text=text)


async def test_a_reply_has_the_vendors_id(channel: FeishuChannel, server: FeishuServer) -> None:
    times: list[str] = []
    receipt = await channel.send(out(), ADDRESS, "7-0-abc", lambda: times.append("written"))
    (sent,) = server.messages
    assert (receipt.vendor_id, sent.how, sent.to, sent.content) == (sent.id, "reply", "om_in_1", {"text": "好"})
    assert 0 < len(sent.uuid) <= 50
    assert times == ["written"]


async def test_the_same_key_is_said_once(channel: FeishuChannel, server: FeishuServer) -> None:
    key = "a-very-long-key-of-a-push:" + "x" * 100
    receipts = [await channel.send(out(), '{"to": "ou_1"}', key, nothing) for _ in range(3)]
    assert len({r.vendor_id for r in receipts}) == 1
    assert len(server.messages) == 1
    assert server.messages[0].how == "send"


async def test_the_same_key_to_another_message_is_another_message(channel: FeishuChannel, server: FeishuServer) -> None:
    for message in ("om_1", "om_2"):  # as after a new installation, whose numbers begin again
        await channel.send(out(), f'{{"message": "{message}"}}', "1-0", nothing)
    assert [m.to for m in server.messages] == ["om_1", "om_2"]


async def test_many_who_wait_share_one_token(channel: FeishuChannel, server: FeishuServer) -> None:
    await asyncio.gather(*(channel.send(out(), ADDRESS, f"k{n}", nothing) for n in range(20)))
    assert server.token_calls == 1
    server.forget_tokens()
    await asyncio.gather(*(channel.send(out(), ADDRESS, f"m{n}", nothing) for n in range(20)))
    assert server.token_calls == 2
    assert len(server.messages) == 40


async def test_a_token_that_stays_refused_is_the_bots_fault(channel: FeishuChannel, server: FeishuServer) -> None:
    server.fail("code", code=99991663, count=2)
    with pytest.raises(Unavailable, match="99991663"):
        await channel.send(out(), ADDRESS, "k", nothing)


async def test_a_wrong_secret_waits_for_the_admin(channel: FeishuChannel, server: FeishuServer) -> None:
    server.apps["cli_test"] = "changed"
    with pytest.raises(Unavailable, match=r"feishu\.10014"):
        await channel.send(out(), ADDRESS, "k", nothing)
    assert server.messages == []
    server.apps["cli_test"] = "app-secret"
    await channel.send(out(), ADDRESS, "k", nothing)


async def test_rate_limits_say_how_long(channel: FeishuChannel, server: FeishuServer) -> None:
    server.fail("rate", seconds=7)
    with pytest.raises(Throttled) as slow:
        await channel.send(out(), ADDRESS, "k", nothing)
    assert (slow.value.code, slow.value.retry_after, slow.value.params["scope"]) == ("feishu.99991400", 7.0, "bot")
    server.fail("rate", code=230020, seconds=2)
    with pytest.raises(Throttled) as slow:
        await channel.send(out(), ADDRESS, "k", nothing)
    assert (slow.value.code, slow.value.params["scope"]) == ("feishu.230020", "lane")


@pytest.mark.parametrize("kind", ["error", "html", "refuse"])
async def test_a_vendor_that_is_down_is_tried_again(kind: str, channel: FeishuChannel, server: FeishuServer) -> None:
    await channel.client.token()
    server.fail(kind)
    with pytest.raises((Unavailable, OutcomeUnknown)):
        await channel.send(out(), ADDRESS, "k", nothing)
    await channel.send(out(), ADDRESS, "k", nothing)
    assert len(server.messages) == 1


async def test_a_lost_answer_is_an_unknown_outcome(channel: FeishuChannel, server: FeishuServer) -> None:
    await channel.client.token()
    server.fail("drop")
    with pytest.raises(OutcomeUnknown):
        await channel.send(out(), ADDRESS, "k", nothing)
    first = server.messages[0].id
    assert (await channel.send(out(), ADDRESS, "k", nothing)).vendor_id == first
    assert len(server.messages) == 1


async def test_a_lost_answer_to_a_token_call_has_said_nothing(channel: FeishuChannel, server: FeishuServer) -> None:
    server.fail("drop", path="tenant_access_token")
    with pytest.raises(Unavailable):
        await channel.send(out(), ADDRESS, "k", nothing)


async def test_refusals_are_for_good_and_named(channel: FeishuChannel, server: FeishuServer) -> None:
    with pytest.raises(Rejected) as refused:
        await channel.send(out(), '{"to": "oc_not_member"}', "k", nothing)
    assert refused.value.code == "feishu.230002"
    assert "out of the chat" in refused.value.reason
    assert refused.value.params["log_id"]


async def test_a_withdrawn_question_is_answered_in_the_chat(channel: FeishuChannel, server: FeishuServer) -> None:
    server.gone.add("om_in_1")
    await channel.send(out(), ADDRESS, "k", nothing)
    assert [(m.how, m.to) for m in server.messages] == [("send", "oc_1")]


async def test_a_refused_card_is_said_as_text(channel: FeishuChannel, server: FeishuServer) -> None:
    await channel.client.token()
    server.fail("code", code=230099)
    await channel.send(out("# 标题\n**正文**"), ADDRESS, "k", nothing)
    assert [(m.kind, m.text) for m in server.messages] == [("text", "# 标题\n**正文**")]


async def test_the_probe_names_what_is_wrong(channel: FeishuChannel, server: FeishuServer) -> None:
    good = [(name, "pass", "") for name in ("token", "identity", "scopes", "clock")]
    unheard = ("inbound", "unknown", "feishu.nothing_came")

    async def found() -> list[tuple[str, str, str]]:
        return [(p.name, p.status, p.code) for p in await channel.probe()]

    assert await found() == [*good, unheard]
    assert server.messages == []
    server.fail("code", path="/reply", code=99991672)
    assert (await found())[2:4] == [("scopes", "fail", "feishu.99991672"), ("clock", "unknown", "")]
    server.fail("code", path="bot/v3/info", code=99991401)
    assert (await found())[:3] == [
        ("token", "pass", ""),
        ("identity", "fail", "feishu.99991401"),
        ("scopes", "unknown", ""),
    ]
    server.apps["cli_test"] = "changed"
    assert (await found())[:2] == [("token", "fail", "feishu.10014"), ("identity", "unknown", "")]
    channel.hooks.pulse.came_in()
    assert (await found())[-1] == ("inbound", "pass", "")
