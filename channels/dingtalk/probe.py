"""The live test of a DingTalk bot's credentials, step by step. Order of protocols.md 4."""

from __future__ import annotations

import secrets

from channels.base import BotConfig, ProbeResult
from channels.dingtalk.card import CardCalls, CardPace
from channels.dingtalk.client import DingTalkClient
from channels.dingtalk.settings import settings_of
from channels.hooks import Pulse
from security.egress import Egress
from storage.clock import Clock
from storage.errors import AppError, Rejected

SKEW_WARN_MS = 60_000
SKEW_FAIL_MS = 3_600_000
# of a call with a made-up file code: these say that the robot may not do it, any other refusal that it may
CANNOT = frozenset({"dingtalk.scope", "dingtalk.ip", "dingtalk.robot_code", "dingtalk.token", "dingtalk.credentials"})


async def probe(config: BotConfig, egress: Egress, clock: Clock, pulse: Pulse, *, local: bool) -> list[ProbeResult]:
    """Settings, token, way in, permission to send, clock. Nothing is sent to anybody. Stops at the first failure."""
    try:
        client = DingTalkClient(settings_of(config, local=local), egress, clock)
    except AppError as error:
        return [_failed("config", error, 0)]
    made = [ProbeResult(name="config", status="pass")]
    steps = [("token", _token), ("scopes", _scopes)]
    if config.mode == "stream":
        steps.insert(1, ("connection", _ticket))
    if client.settings.card_template_id:
        steps.append(("card", _card))
    for name, step in steps:
        began = clock.monotonic()
        try:
            await step(client)
        except AppError as error:
            return [*made, _failed(name, error, _ms(clock, began)), *_clock(client)]
        made.append(ProbeResult(name=name, status="pass", ms=_ms(clock, began)))
    return [*made, _inbound(pulse), *_clock(client)]


async def _token(client: DingTalkClient) -> None:
    await client.token.get()


async def _ticket(client: DingTalkClient) -> None:
    body = {
        "clientId": client.settings.client_id,
        "clientSecret": client.settings.client_secret,
        "subscriptions": [{"type": "CALLBACK", "topic": "/v1.0/im/bot/messages/get"}],
        "ua": "zhixing",
    }
    await client.open_call("/v1.0/gateway/connections/open", body)  # the ticket is left unused


async def _scopes(client: DingTalkClient) -> None:
    """Sending and fetching files need the same permission; asking for a file that is none sends nothing."""
    body = {"downloadCode": "zhixing-probe", "robotCode": client.settings.robot_code}
    try:
        await client.call("POST", "/v1.0/robot/messageFiles/download", body)
    except Rejected as error:
        if error.code in CANNOT:
            raise


async def _card(client: DingTalkClient) -> None:
    await CardCalls(client, CardPace(apart=0.0)).check(f"zhixing-probe-{secrets.token_hex(8)}")


def _inbound(pulse: Pulse) -> ProbeResult:
    """Only a message that came proves that the way in is open."""
    if pulse.last_in is not None:
        return ProbeResult(name="inbound", status="pass")
    return ProbeResult(name="inbound", status="unknown", code="dingtalk.nothing_came")


def _clock(client: DingTalkClient) -> list[ProbeResult]:
    if client.skew_ms is None:
        return [ProbeResult(name="clock", status="unknown")]
    off = abs(client.skew_ms)
    if off < SKEW_WARN_MS:
        return [ProbeResult(name="clock", status="pass")]
    status = "fail" if off > SKEW_FAIL_MS else "warn"
    return [ProbeResult(name="clock", status=status, code="dingtalk.clock", params={"seconds": str(off // 1000)})]


def _failed(name: str, error: AppError, ms: int) -> ProbeResult:
    params = {key: str(value) for key, value in error.params.items()}
    return ProbeResult(name=name, status="fail", code=error.code, params=params, ms=ms)


def _ms(clock: Clock, began: float) -> int:
    return int((clock.monotonic() - began) * 1000)
