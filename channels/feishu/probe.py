"""Health test of a Feishu bot: credentials, identity, permission, clock, ways in. Nothing is said to anybody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from channels.base import ProbeResult
from channels.feishu.client import FeishuClient
from channels.hooks import Pulse
from storage.clock import Clock
from storage.errors import AppError, OutcomeUnknown, Rejected, Unavailable

MOST_SKEW = 60
NOBODY = "/open-apis/im/v1/messages/om_zhixing_probe/reply"
# of an answer to a made-up message: these say that the bot may not answer at all, any other refusal that it may
CANNOT = frozenset({"feishu.99991672", "feishu.99991676", "feishu.99991679", "feishu.230006"})

Found = tuple[str, dict[str, str]]  # a warning's code or nothing, and values for its text


async def probe(client: FeishuClient, clock: Clock, mode: str, pulse: Pulse) -> list[ProbeResult]:
    """Test step by step; after a failed step the rest is unknown.

    Args:
        pulse: of the running bot, for what only a real message proves.
    """
    steps: list[tuple[str, Callable[[FeishuClient], Awaitable[Found]]]] = [
        ("token", _token),
        ("identity", _identity),
        ("scopes", _scopes),
        ("clock", _skew),
    ]
    if mode == "websocket" and pulse.connection != "online":
        steps.append(("connection", _line))
    results: list[ProbeResult] = []
    failed = False
    for name, fn in steps:
        result = ProbeResult(name=name, status="unknown") if failed else await _step(name, fn, client, clock)
        failed = failed or result.status == "fail"
        results.append(result)
    if mode == "websocket" and pulse.connection == "online":
        results.append(ProbeResult(name="connection", status="pass"))
    heard = pulse.last_in is not None
    status, code = ("pass", "") if heard else ("unknown", "feishu.nothing_came")
    return [*results, ProbeResult(name="inbound", status=status, code=code)]


async def _step(
    name: str, fn: Callable[[FeishuClient], Awaitable[Found]], client: FeishuClient, clock: Clock
) -> ProbeResult:
    began = clock.monotonic()
    try:
        code, params = await fn(client)
        status = "warn" if code else "pass"
    except AppError as error:
        status, code, params = "fail", error.code, {key: str(value)[:500] for key, value in error.params.items()}
    ms = int((clock.monotonic() - began) * 1000)
    return ProbeResult(name=name, status=status, code=code, params=params, ms=ms)


async def _token(client: FeishuClient) -> Found:
    await client.token(fresh=True)
    return "", {}


async def _identity(client: FeishuClient) -> Found:
    found = await client.identity()
    return "" if found.active else "feishu.inactive", {"identity": found.name}


async def _scopes(client: FeishuClient) -> Found:
    """Answering a message that does not exist says nothing; the refusal tells whether the bot might."""
    body = {"msg_type": "text", "content": '{"text":"-"}', "uuid": "zhixing-probe"}
    try:
        await client.call("POST", NOBODY, body)
    except Rejected as error:
        if error.code in CANNOT:
            raise
    except OutcomeUnknown as error:
        raise Unavailable("feishu.no_answer", cause=error.code) from error
    return "", {}


async def _skew(client: FeishuClient) -> Found:
    off = abs(client.skew or 0)
    return "feishu.skew" if off > MOST_SKEW else "", {"seconds": str(off)}


async def _line(client: FeishuClient) -> Found:
    """The address is left unused: that there is one shows that the long connection is switched on."""
    await client.line_address()
    return "", {}
