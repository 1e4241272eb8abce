"""The live test of a DingTalk bot's credentials, step by step. Order of protocols.md 4."""

from __future__ import annotations

from channels.base import BotConfig, ProbeResult
from channels.dingtalk.client import DingTalkClient
from channels.dingtalk.settings import settings_of
from security.egress import Egress
from storage.clock import Clock
from storage.errors import AppError

SKEW_WARN_MS = 60_000
SKEW_FAIL_MS = 3_600_000


async def probe(config: BotConfig, egress: Egress, clock: Clock, *, local: bool) -> list[ProbeResult]:
    """Configuration, token, the robot's connection ticket (left unused), clock. Stops at the first failure."""
    try:
        client = DingTalkClient(settings_of(config, local=local), egress, clock)
    except AppError as error:
        return [_failed("config", error, 0)]
    made = [ProbeResult(name="config", status="pass")]
    for name, step in (("token", _token), ("connection", _ticket)):
        began = clock.monotonic()
        try:
            await step(client)
        except AppError as error:
            return [*made, _failed(name, error, _ms(clock, began)), *_clock(client)]
        made.append(ProbeResult(name=name, status="pass", ms=_ms(clock, began)))
    return [*made, *_clock(client)]


async def _token(client: DingTalkClient) -> None:
    await client.token.get()


async def _ticket(client: DingTalkClient) -> None:
    body = {
        "clientId": client.settings.client_id,
        "clientSecret": client.settings.client_secret,
        "subscriptions": [{"type": "CALLBACK", "topic": "/v1.0/im/bot/messages/get"}],
        "ua": "zhixing",
    }
    await client.open_call("/v1.0/gateway/connections/open", body)


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
