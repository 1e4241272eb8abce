"""Network: what listens, who may come, whose word about addresses counts, what our own client refuses."""

from __future__ import annotations

import asyncio
from typing import Any

from security.checklist import Check, Finding, fail, ok, unknown, warn
from security.egress import PAGE
from security.exposure import is_wide
from security.probes.facts import Facts
from security.ranges import is_loopback
from storage.errors import AppError, Invalid

STRANGER = "203.0.113.77"
ALIAS = "127.0.0.9"
FORGED: tuple[tuple[bytes, bytes], ...] = (
    (b"x-forwarded-for", b"127.0.0.1"),
    (b"x-forwarded-for", b"198.51.100.1, 127.0.0.1"),
    (b"x-forwarded-for", b"::1"),
    (b"x-forwarded-proto", b"https"),
    (b"x-real-ip", b"127.0.0.1"),
    (b"forwarded", b"for=127.0.0.1;proto=https"),
    (b"true-client-ip", b"127.0.0.1"),
    (b"cf-connecting-ip", b"127.0.0.1"),
    (b"x-client-ip", b"127.0.0.1"),
    (b"x-forwarded-host", b"localhost"),
)


def listening() -> list[tuple[str, int]]:
    """Address and port of every socket on which this process listens."""
    import psutil

    connections = psutil.Process().net_connections(kind="inet")
    return [(str(c.laddr.ip), int(c.laddr.port)) for c in connections if c.status == psutil.CONN_LISTEN]


async def bind(facts: Facts) -> Finding:
    """The listener's own sockets, as the system sees them, against the settings."""
    found = await asyncio.to_thread(listening)
    mine = [ip for ip, port in found if port == facts.door.port]
    if not mine:
        return unknown("elsewhere", port=facts.door.port)
    wide = sorted({ip for ip in mine if is_wide(ip)})
    if not wide:
        return ok("loopback", port=facts.door.port)
    if facts.exposure.how in ("tls", "proxy"):
        return ok("protected", address=", ".join(wide), how=facts.exposure.how)
    if facts.exposure.how == "accepted":
        return warn("accepted", address=", ".join(wide))
    return fail("open", address=", ".join(wide))


async def sockets(facts: Facts) -> Finding:
    """No other socket of ours can be reached from elsewhere, metrics included."""
    found = await asyncio.to_thread(listening)
    if not found:
        return unknown("elsewhere")
    others = sorted(f"{ip}:{port}" for ip, port in found if port != facts.door.port and is_wide(ip))
    return fail("open", addresses=", ".join(others)) if others else ok("none", count=len(found))


async def sources(facts: Facts) -> Finding:
    """Who is not on the panel's list is refused: tried from an address that is not."""
    lists = facts.addresses.lists.sources
    if not lists.get("panel"):
        return warn("everyone") if facts.exposure.wide else ok("loopback")
    if facts.addresses.allowed("panel", STRANGER):
        return warn("everyone")
    if facts.addresses.allowed("panel", ALIAS) or not is_loopback(facts.door.name):
        return unknown("no_alias", entries=len(lists["panel"]))
    reply = await facts.door.ask("GET", "/login", local=ALIAS)
    if reply.status == 403:
        return ok("refused", address=ALIAS, entries=len(lists["panel"]))
    return fail("let_in", address=ALIAS, status=reply.status)


async def proxies(facts: Facts) -> Finding:
    """A forged forwarding header from a stranger changes nothing, and not everyone is a proxy."""
    for net in facts.addresses.proxies:
        if net.prefixlen < (8 if net.version == 4 else 16):
            return fail("everyone", entry=str(net))
    believed = []
    for name, value in FORGED:
        scope: dict[str, Any] = {"client": (STRANGER, 1), "scheme": "http", "headers": [(name, value)]}
        peer = facts.addresses.peer(scope)
        if peer.ip != STRANGER or peer.secure or peer.proxied:
            believed.append(f"{name.decode()}: {value.decode()}")
    if believed:
        return fail("believed", headers="; ".join(believed))
    return ok("ignored", tried=len(FORGED), proxies=len(facts.addresses.proxies))


async def egress(facts: Facts) -> Finding:
    """Our own client refuses to fetch a page from this machine: a canary listens and hears nothing."""
    heard = 0

    async def canary(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += 1
        writer.close()

    server = await asyncio.start_server(canary, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    hosts = ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "[64:ff9b::7f00:1]", "2130706433")  # noqa: S104 - a target
    refused = 0
    async with server:
        for host in hosts:
            try:
                await facts.egress.request("GET", f"http://{host}:{port}/", policy=PAGE)
            except Invalid:
                refused += 1
            except AppError:
                continue  # it went there, and the canary hung up
    if heard or refused < len(hosts):
        return fail("reached", heard=heard, tried=len(hosts))
    return ok("refused", tried=len(hosts))


async def limits(facts: Facts) -> Finding:
    """A body that is too large is refused before it is read, also one that is only announced."""
    form = (("Content-Type", "application/x-www-form-urlencoded"), ("Origin", _origin(facts)))
    try:
        announced = (await facts.door.ask("POST", "/login", headers=form, length=50_000_000)).status
    except TimeoutError:
        announced = 100  # it waits for all of it
    sent = (await facts.door.ask("POST", "/login", headers=form, body=b"a=" + b"x" * 300_000)).status
    headers = (await facts.door.ask("GET", "/login", headers=[("X-Fill", "y" * 200_000)])).status
    wrong = [
        name
        for name, status in (("announced", announced), ("sent", sent), ("headers", headers))
        if status not in (0, 400, 413, 431)
    ]
    return fail("taken", what=", ".join(wrong)) if wrong else ok("refused")


def _origin(facts: Facts) -> str:
    return ("https://" if facts.door.tls else "http://") + facts.door.authority


async def floods(facts: Facts) -> Finding:
    """A distributed flood is beyond any program on this machine: say so."""
    return unknown("declared") if facts.attested("network.floods") else unknown("not_ours")


CHECKS: tuple[Check[Facts], ...] = (
    Check(id="network.bind", probe=bind, critical=True),
    Check(id="network.sockets", probe=sockets),
    Check(id="network.sources", probe=sources),
    Check(id="network.proxies", probe=proxies, critical=True),
    Check(id="network.egress", probe=egress, critical=True),
    Check(id="network.limits", probe=limits),
    Check(id="network.floods", probe=floods, attest=180),
)
