"""Injected causes of the three symptoms, each on the real way, and the cause that is named first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agent.symptoms.case import Long
from agent.tools.base import Args, Tool, Toolbox, ToolResult
from storage.errors import AppError, Invalid
from storage.principal import principal
from tests.fakes.feishu_server import FeishuServer
from tests.fakes.model_server import Call, ModelServer, Reply
from tests.operations_house import OWNER, Operating, operating
from tests.serving import free_port

# a fortieth of the real times, so that the test need not wait for what a person would
QUICK = Long(task=500, first=400, model=400, own=200, outbox=100, per_second=40.0)


@dataclass
class Stand:
    """A house with a fake model and a fake Feishu."""

    site: Operating
    model: ModelServer
    feishu: FeishuServer

    async def named(self, symptom: str) -> str:
        """The first cause, as `name subject`."""
        found = await self.site.house.eyes.symptoms.diagnose(OWNER, symptom)
        return found.verdicts[0].name if found.verdicts else "-"

    async def ask(self, *replies: Reply, n: int = 1, text: str = "hello", **provider: Any) -> None:
        """A model that says this, and questions to it."""
        self.model.enqueue(*replies)
        await self.site.provider(self.model.url, **provider)
        for count in range(n):
            await self.site.ask(f"{text} {count}")
        await self.site.settled(n)

    async def robot(self, token: str = "hook-token", secret: str = "robot-secret", **more: str) -> None:
        """A message by a group robot."""
        await self.site.robot(f"{self.feishu.base}/open-apis/bot/v2/hook/{token}", secret=secret, **more)
        await self.site.house.bot_actions.send_test(OWNER, "alerts")
        await self.tried()

    async def push(self, target: str = "ou_alice", **settings: str) -> None:
        """A message by an app bot."""
        await self.site.feishu(self.feishu.base, **settings)
        await self.site.house.bot_actions.send_test(OWNER, "hr-bot", target)
        await self.tried()

    async def tried(self) -> None:
        """Until the delivery has ended, or has failed once."""

        async def over() -> bool:
            rows = await self.site.deliveries()
            return bool(rows) and all(row.status not in ("pending", "sending") or row.error for row in rows)

        await self.site.until(over)


Inject = Callable[[Stand], Awaitable[None]]


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with ModelServer() as model, operating(tmp_path) as site:
        feishu = await FeishuServer().start()
        object.__setattr__(site.house.eyes.symptoms, "long", QUICK)
        try:
            yield Stand(site, model, feishu)
        finally:
            await feishu.stop()


# --- no answer in time


async def unknown_name(s: Stand) -> None:
    await s.site.provider("http://no-such-model.invalid")
    await s.site.ask()
    await s.site.settled()


async def closed_port(s: Stand) -> None:
    await s.site.provider(f"http://127.0.0.1:{free_port()}")
    await s.site.ask()
    await s.site.settled()


async def queued(s: Stand) -> None:
    s.model.default = Reply(first=0.4)
    await s.ask(n=4)


async def slow_tool(s: Stand) -> None:
    async def run(ctx: Any, args: Any) -> ToolResult:
        await asyncio.sleep(0.8)
        return ToolResult(text="at last")

    tool = Tool(name="stock", description="Looks a stock up.", args=Args, run=run)
    s.site.house.loop.toolbox = Toolbox([tool])
    await s.ask(Reply(text="", calls=(Call(name="stock"),)), Reply(text="done"))


async def endless_steps(s: Stand) -> None:
    zones = ("Asia/Tokyo", "Europe/Paris", "UTC", "Asia/Shanghai")
    again = [
        Reply(text="", calls=(Call(name="time", arguments=json.dumps({"zone": zones[n % 4]})),)) for n in range(20)
    ]
    await s.ask(*again)


async def never_called(s: Stand) -> None:
    await s.site.feishu(s.feishu.base)


async def long_connection_refused(s: Stand) -> None:
    s.feishu.fail("code", path="/callback/ws/endpoint", count=1000, code=514)
    await s.site.feishu(s.feishu.base, mode="websocket")
    await s.site.until(lambda: _lost(s))


async def _lost(s: Stand) -> bool:
    pulse = s.site.house.bots.pulse("main", "hr-bot")
    return pulse is not None and pulse.connection == "lost"


async def wrong_encrypt_key(s: Stand) -> None:
    await s.site.feishu(s.feishu.base)
    wrong = replace(s.site.events, encrypt_key="another key")
    posted = wrong.message("hi")
    with pytest.raises(AppError):
        await s.site.call(posted.body, posted.headers)


async def wrong_clock(s: Stand) -> None:
    await s.site.feishu(s.feishu.base)
    posted = s.site.events.message("hi", at_ms=s.site.events.ms() - 10 * 3_600_000)
    with pytest.raises(AppError):
        await s.site.call(posted.body, posted.headers)


# --- slow model


async def late_first_token(s: Stand) -> None:
    await s.ask(Reply(first=0.6))


async def long_prompt(s: Stand) -> None:
    await s.ask(Reply(first=0.6, tokens_in=60_000))


async def dripping(s: Stand) -> None:
    await s.ask(Reply(chunks=("a",) * 12, pause=0.06, tokens_out=12))


async def long_answer(s: Stand) -> None:
    await s.ask(Reply(chunks=("word " * 200,) * 10, pause=0.06, tokens_out=4_000))


async def falling_back(s: Stand) -> None:
    async with ModelServer(Reply(status=503, body={"error": {"message": "overloaded"}})) as other:
        await s.site.provider(other.url, name="first")
        await s.ask(name="second")


async def throttled(s: Stand) -> None:
    s.model.default = Reply(status=429, body={"error": {"message": "slow down"}}, headers={"retry-after": "600"})
    await s.ask()


async def wrong_model_key(s: Stand) -> None:
    s.model.default = Reply(status=401, body={"error": {"message": "invalid api key"}})
    await s.ask()


async def many_turns(s: Stand) -> None:
    zones = ("Asia/Tokyo", "Europe/Paris", "UTC", "Asia/Shanghai", "Asia/Seoul")
    calls = [Reply(text="", first=0.12, calls=(Call(name="time", arguments=json.dumps({"zone": z})),)) for z in zones]
    await s.ask(*calls, Reply(text="done", first=0.12))


async def stalling(s: Stand) -> None:
    s.model.default = Reply(text="abcdefghijklmnop", stall_at=2)
    await s.ask(timeout=1.0)


# --- failed push


async def robot_address(s: Stand) -> None:
    await s.robot(token="removed")


async def robot_secret(s: Stand) -> None:
    await s.robot(secret="wrong-secret")


async def robot_keyword(s: Stand) -> None:
    s.feishu.robot_keywords = ("报警-only",)
    await s.robot()


async def no_permission(s: Stand) -> None:
    s.feishu.fail("code", code=99991672, count=50)
    await s.push()


async def not_in_chat(s: Stand) -> None:
    await s.push("oc_not_member")


async def bad_form(s: Stand) -> None:
    s.feishu.fail("code", code=230025, count=50)
    await s.push()


async def wrong_secret(s: Stand) -> None:
    await s.push(app_secret="not the secret")


async def too_fast(s: Stand) -> None:
    s.feishu.fail("rate", count=500, seconds=30.0)
    await s.push()


async def vendor_down(s: Stand) -> None:
    s.feishu.fail("error", count=500)
    await s.push()


async def vendor_unreachable(s: Stand) -> None:
    await s.site.feishu(f"http://127.0.0.1:{free_port()}")
    await s.site.house.bot_actions.send_test(OWNER, "hr-bot", "ou_alice")
    await s.tried()


async def switched_off(s: Stand) -> None:
    s.feishu.fail("code", code=99991662, count=50)
    await s.push()


CAUSES: list[tuple[str, str, Inject]] = [
    ("timeout", "dns", unknown_name),
    ("timeout", "connect", closed_port),
    ("timeout", "queue", queued),
    ("timeout", "tool", slow_tool),
    ("timeout", "steps", endless_steps),
    ("timeout", "callback", never_called),
    ("timeout", "line", long_connection_refused),
    ("timeout", "refused", wrong_encrypt_key),
    ("timeout", "clock", wrong_clock),
    ("slow", "first", late_first_token),
    ("slow", "prompt", long_prompt),
    ("slow", "drips", dripping),
    ("slow", "long", long_answer),
    ("slow", "fallback", falling_back),
    ("slow", "busy", throttled),
    ("slow", "denied", wrong_model_key),
    ("slow", "turns", many_turns),
    ("slow", "silent", stalling),
    ("push", "address", robot_address),
    ("push", "signature", robot_secret),
    ("push", "keyword", robot_keyword),
    ("push", "rights", no_permission),
    ("push", "member", not_in_chat),
    ("push", "form", bad_form),
    ("push", "credentials", wrong_secret),
    ("push", "rate", too_fast),
    ("push", "vendor", vendor_down),
    ("push", "network", vendor_unreachable),
    ("push", "disabled", switched_off),
]


@pytest.mark.parametrize(("symptom", "cause", "inject"), CAUSES, ids=[item[2].__name__ for item in CAUSES])
async def test_injected_cause_is_named_first(stand: Stand, symptom: str, cause: str, inject: Inject) -> None:
    await inject(stand)
    assert await stand.named(symptom) == cause


async def test_cut_off_by_a_restart_is_named(tmp_path: Path) -> None:
    async with ModelServer(Reply(first=30)) as model:
        async with operating(tmp_path) as site:
            await site.provider(model.url)
            await site.ask()
            async with asyncio.timeout(10):
                await model.arrived.wait()
            await site.house.background.stop(2)  # as if killed: it does not wait for the answer
        model.default = Reply()
        async with operating(tmp_path) as site:
            object.__setattr__(site.house.eyes.symptoms, "long", replace(QUICK, task=1))
            await site.settled()
            found = await site.house.eyes.symptoms.diagnose(OWNER, "timeout")
    assert [verdict.name for verdict in found.verdicts] == ["restart"]


async def test_nothing_wrong_is_nothing_named(stand: Stand) -> None:
    await stand.ask(Reply(text="hi"))
    for symptom in ("timeout", "slow", "push"):
        found = await stand.site.house.eyes.symptoms.diagnose(OWNER, symptom)
        assert found.verdicts == ()
        assert found.cases == 0
    assert (await stand.site.house.eyes.symptoms.diagnose(OWNER, "slow")).looked == 1
    with pytest.raises(Invalid):
        await stand.site.house.eyes.symptoms.diagnose(OWNER, "hiccups")
    with pytest.raises(AppError):
        await stand.site.house.eyes.symptoms.diagnose(principal(id="user:9", name="m", role="member"), "slow")
