"""The network: names, services outside, and the way in by the public name, as far as it can be seen from inside."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Sequence
from urllib.parse import urlsplit

from security.egress import Policy
from security.health.echo import PARAM
from security.health.machine import told_of
from security.health.row import Found, HealthTest, bad, good, off, unknown, warn
from security.health.site import Site
from security.probes import transport
from storage.errors import AppError, Unavailable

REACH = Policy(private=True, seconds=8.0, most_bytes=2_000_000)
SLOW_MS = 2_000
MOST_REMOTES = 40
BEYOND = frozenset({"egress.connect", "egress.timeout"})


def network_tests(site: Site) -> list[HealthTest]:
    """Tests of group `network`."""
    return [
        HealthTest(id="network.outside", look=lambda: _outside(site), seconds=40.0, asks=True),
        HealthTest(id="network.public", look=lambda: _public(site), seconds=20.0),
        HealthTest(id="network.tls", look=lambda: _tls(site), seconds=20.0),
        HealthTest(id="network.proxy", look=lambda: _proxy(site), seconds=20.0),
        HealthTest(id="network.upgrade", look=lambda: _upgrade(site), seconds=20.0),
    ]


async def _outside(site: Site) -> Sequence[Found]:
    """Every service that a bot or model is set to: name, connection, encryption. Any HTTP answer is good."""
    remotes = list(await site.remotes())[:MOST_REMOTES]
    if not remotes:
        return [off("none")]
    places = asyncio.Semaphore(6)

    async def one(url: str, users: str) -> Found:
        loop, host = asyncio.get_running_loop(), urlsplit(url).hostname or url[:80]
        began = loop.time()
        async with places:
            try:
                await site.facts.egress.request("HEAD", url, policy=REACH)
            except AppError as error:
                if error.code not in ("egress.cut", "egress.size"):  # those did reach it
                    params = {**error.params, "host": host}
                    return Found(status="fail", code=error.code, params=params, subject=f"{host} ({users})")
        ms = round((loop.time() - began) * 1000)
        seen = {"host": host, "ms": ms}
        say = "slow" if ms > SLOW_MS else "reached"
        return Found(
            status="warn" if say == "slow" else "pass", say=say, params=seen, subject=f"{host} ({users})", ms=ms
        )

    by_origin: dict[str, list[str]] = {}
    for remote in remotes:
        parts = urlsplit(remote.url)
        by_origin.setdefault(f"{parts.scheme}://{parts.netloc}/", []).append(remote.used_by)
    return await asyncio.gather(*(one(url, ", ".join(dict.fromkeys(users))) for url, users in by_origin.items()))


async def _asked(site: Site) -> dict[str, object] | Found:
    """How our own request arrives that goes out by the public name; or why none did."""
    host = site.public
    url = f"https://{host}/healthz?{PARAM}={site.echo.ticket()}"
    try:
        answer = await site.facts.egress.request("GET", url, policy=REACH)
    except Unavailable as error:
        if error.code == "egress.dns":
            return bad("no_name", "/server", host=host)
        if error.code in BEYOND:
            return unknown("unreachable", host=host)
        return Found(status="fail", code=error.code, params={**error.params, "host": host})
    told = told_of(answer.content)
    if told:
        return told
    server = answer.headers.get("server", "?")[:60]
    if answer.status_code in (502, 503, 504):
        return bad("gateway", host=host, status=answer.status_code, server=server)
    return bad("other", host=host, status=answer.status_code, server=server)


async def _public(site: Site) -> Sequence[Found]:
    """Does the public name lead to this very process?"""
    called = list(await site.called())
    if not site.public:
        if called:
            return [warn("needed", "/server", bots=", ".join(called)[:200])]
        return [off("none")]
    told = await _asked(site)
    if isinstance(told, Found):
        return [told]
    mine = not site.serving or told["instance"] == site.echo.instance
    return [good("ours", host=site.public) if mine else warn("twin", host=site.public)]


async def _tls(site: Site) -> Sequence[Found]:
    """The certificate that is really served under the public name."""
    if not site.public and not site.facts.door.tls:
        return [off("none")]
    name = "check.transport.certificate"
    try:
        found = await transport.certificate(site.facts)
    except AppError as error:
        if error.code in BEYOND:
            return [unknown("unreachable", host=site.public)]
        return [Found(status="fail", code=error.code, params={**error.params, "host": site.public})]
    return [Found(status=found.status, text=f"{name}.{found.say}", remedy=f"{name}.remedy", params=found.params)]


async def _proxy(site: Site) -> Sequence[Found]:
    """What a reverse proxy in front hands on: the client's address, the encryption, the name."""
    if not site.public:
        return [off("none")]
    if site.facts.door.tls:
        return [off("direct")]
    told = await _asked(site)
    if isinstance(told, Found):
        return [unknown("unreachable", host=site.public)]
    name = str(told.get("host", "")).partition(":")[0].lower()
    if not told.get("proxied"):
        return [bad("not_believed", proxy=told.get("ip", "?"))]
    if not told.get("secure"):
        return [bad("no_proto")]
    if name != site.public.partition(":")[0].lower():
        return [bad("name", name=name, host=site.public)]
    return [good("handed_on", ip=told.get("ip", "?"))]


async def _upgrade(site: Site) -> Sequence[Found]:
    """A WebSocket, as the panel's live connection is one: to our own door, and by the public name."""
    ticket = f"/healthz?{PARAM}={site.echo.ticket()}"
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    headers = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key)]
    try:
        own = await site.facts.door.ask("GET", ticket, headers=headers)
    except OSError:
        return [unknown("stopped")]
    if own.status != 101:
        return [bad("own", status=own.status)]
    if not site.public:
        return [good("local")]
    try:
        status = await _handshake(site, ticket, headers)
    except AppError as error:
        return [unknown("unreachable", host=site.public, why=error.code)]
    return [good("through", host=site.public) if status == 101 else bad("lost", host=site.public, status=status)]


async def _handshake(site: Site, path: str, headers: Sequence[tuple[str, str]]) -> int:
    """The status that a WebSocket handshake by the public name is answered with; 0 for none."""
    sock, tls, host = await site.facts.egress.connect(f"wss://{site.public}/", policy=REACH)
    reader, writer = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=host if tls else None)
    try:
        lines = [f"GET {path} HTTP/1.1", f"Host: {site.public}", "Connection: Upgrade"]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        await writer.drain()
        async with asyncio.timeout(5):
            first = (await reader.readline()).split(b" ")
        return int(first[1]) if len(first) > 1 and first[1].isdigit() else 0
    except (ConnectionError, TimeoutError):
        return 0
    finally:
        writer.close()
