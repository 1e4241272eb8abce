"""Health test of a Feishu bot: address, credentials, identity, clock. Nothing is sent to anybody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from channels.base import ProbeResult
from channels.feishu.client import FeishuClient
from storage.clock import Clock
from storage.errors import AppError

MOST_SKEW = 60


async def probe(client: FeishuClient, clock: Clock) -> list[ProbeResult]:
    """Test step by step; after a failed step the rest is unknown."""
    results: list[ProbeResult] = []
    params: dict[str, str] = {}

    async def step(name: str, fn: Callable[[], Awaitable[str]]) -> bool:
        began = clock.monotonic()
        try:
            code = await fn()
        except AppError as error:
            found = {k: str(v)[:500] for k, v in error.params.items()}
            status, code = "fail", error.code
        else:
            found, status = dict(params), "warn" if code else "pass"
        ms = int((clock.monotonic() - began) * 1000)
        results.append(ProbeResult(name=name, status=status, code=code, params=found, ms=ms))
        return status != "fail"

    async def token() -> str:
        await client.token(fresh=True)
        return ""

    async def identity() -> str:
        found = await client.identity()
        params["identity"] = found.name
        return "" if found.active else "feishu.inactive"

    async def skew() -> str:
        params["seconds"] = str(abs(client.skew or 0))
        return "feishu.skew" if client.skew is not None and abs(client.skew) > MOST_SKEW else ""

    for name, fn in (("token", token), ("identity", identity), ("clock", skew)):
        if not await step(name, fn):
            break
    names = [result.name for result in results]
    results += [ProbeResult(name=n, status="unknown") for n in ("token", "identity", "clock") if n not in names]
    return results
