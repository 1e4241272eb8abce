"""The machine and the process: port, readiness, metrics port, load, disk, clock, files of the configuration, log."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime

import orjson

from security.egress import Policy
from security.health.echo import PARAM
from security.health.row import Found, HealthTest, bad, good, off, unknown, warn
from security.health.site import Site
from security.probes.network import listening
from storage.errors import AppError
from storage.logs import tail
from storage.preflight import LEAST_FREE_MB, holder_of
from storage.principal import Principal

LOOK = Policy(private=True, seconds=6.0, most_bytes=200_000)
LOW_MB, LOW_SHARE = 1024, 0.05
LAG_SECONDS = 0.5
LAG_WARN = 0.2
SKEW_WARN, SKEW_FAIL = 5, 30
HOUR = 3600.0


def machine_tests(site: Site) -> list[HealthTest]:
    """Tests of group `server`."""

    async def reopen(_who: Principal, _subject: str) -> None:
        await site.reopen()

    return [
        HealthTest(id="server.port", look=lambda: _port(site)),
        HealthTest(id="server.ready", look=lambda: _ready(site)),
        HealthTest(id="server.metrics", look=lambda: _metrics(site), fix=reopen),
        HealthTest(id="server.load", look=_load, inside=True),
        HealthTest(id="server.disk", look=lambda: _disk(site)),
        HealthTest(id="server.clock", look=lambda: _clock(site), seconds=25.0, asks=True),
        HealthTest(id="server.files", look=lambda: _files(site), inside=True),
        HealthTest(id="server.log", look=lambda: _log(site)),
    ]


async def _port(site: Site) -> Sequence[Found]:
    """Who answers at our port: knocked at over the network like anybody, and known by our own ticket."""
    door = site.facts.door
    try:
        reply = await door.ask("GET", f"/healthz?{PARAM}={site.echo.ticket()}")
    except (OSError, TimeoutError) as error:
        if not site.serving:
            return [unknown("stopped", port=door.port)]
        return [bad("silent", port=door.port, why=type(error).__name__)]
    if not told_of(reply.body):
        return [bad("other", port=door.port, holder=await asyncio.to_thread(holder_of, door.port) or "?")]
    if not site.serving:
        return [good("answers", port=door.port)]
    own = await asyncio.to_thread(listening)
    return [good("listens", addresses=", ".join(sorted(f"{ip}:{p}" for ip, p in own if p == door.port)))]


def told_of(body: bytes) -> dict[str, object]:
    """What our echo told; empty if somebody else answered."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) and "instance" in told else {}


async def _ready(site: Site) -> Sequence[Found]:
    try:
        reply = await site.facts.door.ask("GET", "/readyz")
    except OSError:
        return [unknown("stopped")]
    if reply.status == 200:
        return [good("ready")]
    try:
        reasons = [str(code) for code in orjson.loads(reply.body).get("reasons", [])]
    except (orjson.JSONDecodeError, AttributeError):
        return [bad("odd", status=reply.status)]
    return [Found(status="fail", code=code) for code in reasons] or [bad("odd", status=reply.status)]


async def _metrics(site: Site) -> Sequence[Found]:
    """Ours by what it says: Prometheus itself likes the same port."""
    port = site.ports().metrics
    if not port:
        return [off("off")]
    try:
        answer = await site.facts.egress.request("GET", f"http://127.0.0.1:{port}/metrics", policy=LOOK)
        ours = b"zhixing_build_info" in answer.content
    except AppError:
        if not site.serving:
            return [unknown("stopped", port=port)]
        return [Found(status="warn", say="closed", params={"port": port}, fixable=True)]
    if ours:
        return [good("serves", port=port)]
    holder = await asyncio.to_thread(holder_of, port) or "?"
    return [Found(status="warn", say="taken", params={"port": port, "holder": holder}, fixable=site.serving)]


async def _load() -> Sequence[Found]:
    """How late the event loop is, and how busy the machine."""
    import psutil

    loop = asyncio.get_running_loop()
    before = loop.time()
    await asyncio.sleep(LAG_SECONDS)
    lag = max(0.0, loop.time() - before - LAG_SECONDS)
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0]
    memory = await asyncio.to_thread(psutil.virtual_memory)
    resident = await asyncio.to_thread(lambda: psutil.Process().memory_info().rss)
    seen = {
        "lag": round(lag * 1000),
        "load": f"{load:.1f}",
        "cores": cores,
        "free": memory.available // 1_048_576,
        "own": resident // 1_048_576,
    }
    if memory.available < 0.05 * memory.total:
        return [warn("memory", **seen)]
    if lag > LAG_WARN:
        return [warn("lag", **seen)]
    return [warn("busy", **seen)] if load > 2 * cores else [good("calm", **seen)]


async def _disk(site: Site) -> Sequence[Found]:
    folder = site.facts.settings.data
    usage = await asyncio.to_thread(shutil.disk_usage, folder)
    nodes = await asyncio.to_thread(os.statvfs, folder)
    free = usage.free // 1_048_576
    seen = {"folder": str(folder), "free": free, "share": f"{usage.free / usage.total:.0%}"}
    if nodes.f_files and nodes.f_favail < 1000:
        return [bad("nodes", **seen)]
    if free < LEAST_FREE_MB:
        return [bad("full", need=LEAST_FREE_MB, **seen)]
    if free < LOW_MB or usage.free < LOW_SHARE * usage.total:
        return [warn("low", **seen)]
    return [good("room", **seen)]


async def _clock(site: Site) -> Sequence[Found]:
    """Ours against the clocks of those we talk with."""
    clock, skews = site.facts.clock, []
    known = site.facts.egress.clock_skew()
    if known is None:
        for remote in list(await site.remotes())[:4]:
            try:
                answer = await site.facts.egress.request("HEAD", remote.url, policy=LOOK)
                skews.append(clock.ms() / 1000 - _date(answer.headers["date"]).timestamp())
            except (AppError, KeyError, ValueError):
                continue
        if not skews:
            return [unknown("no_answers")]
        known = sorted(skews)[len(skews) // 2]
    seconds = round(known)
    if abs(seconds) >= SKEW_FAIL:
        return [bad("wrong", seconds=seconds)]
    return [warn("wrong", seconds=seconds)] if abs(seconds) >= SKEW_WARN else [good("right", seconds=seconds)]


def _date(text: str) -> datetime:
    return parsedate_to_datetime(text)


async def _files(site: Site) -> Sequence[Found]:
    """Files under `config/`: a refused one changes nothing, so that nobody notices."""
    states = site.files()
    refused = [
        Found(
            status="fail",
            code=state.error.code,
            params={**state.error.params, **({"line": state.line} if state.line else {})},
            subject=name,
        )
        for name, state in states.items()
        if state.error is not None
    ]
    count = sum(state.entries for state in states.values())
    return refused or [good("taken", count=count) if count else off("none")]


async def _log(site: Site) -> Sequence[Found]:
    """Errors of the last hour."""
    entries = await asyncio.to_thread(tail, site.facts.settings.logs_dir, 200, level="error")
    now = site.facts.clock.now()
    recent = []
    for entry in entries:
        try:
            at = datetime.fromisoformat(str(entry.get("at")))
        except ValueError:
            continue
        if (now - at).total_seconds() <= HOUR:
            recent.append(entry)
    if not recent:
        return [good("quiet")]
    last = str(recent[0].get("message", ""))[:200]
    return [warn("errors", "/logs?level=error", count=len(recent), last=last)]
