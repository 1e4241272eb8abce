"""Where requests come from and which names the panel answers to: trusted proxies, source lists, host names."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from security.ranges import Network, is_loopback, parse, unwrap
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.errors import Invalid
from storage.principal import TENANT, Principal
from storage.tables.system import Setting

setting_t = Setting.__table__  # type: ignore[attr-defined]
SETTING = "server.addresses"
LISTS = ("panel", "api", "webhooks", "metrics")
# Names that nobody on the internet can point at this machine, so that DNS rebinding cannot use them.
LOCAL_ENDINGS = (".localhost", ".local", ".lan", ".internal", ".intranet", ".home.arpa", ".test")
MOST_ENTRIES = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """Who sent a request, as far as we may believe it.

    Attributes:
        ip: of the client; that of the right-most hop that is no trusted proxy.
        secure: the client's connection was encrypted, to us or to a trusted proxy.
        proxied: it came through a trusted proxy.
        bad: a trusted proxy sent forwarding headers that cannot be read; refuse the request.
    """

    ip: str
    secure: bool
    proxied: bool = False
    bad: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Lists:
    """What an admin set. An empty source list means: from everywhere.

    Attributes:
        hosts: names that the panel answers to, beside addresses and local names.
        proxies: ranges whose forwarding headers are believed.
        sources: ranges per kind (`panel`, `api`, `webhooks`, `metrics`).
    """

    hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_ranges(entries: Sequence[object], name: str) -> tuple[Network, ...]:
    """Ranges from their texts; one address counts as the range of itself.

    Raises:
        Invalid: `addresses.range` with the entry that is none; `field` is the list's name.
    """
    nets: list[Network] = []
    if len(entries) > MOST_ENTRIES:
        raise Invalid("addresses.many", name, most=MOST_ENTRIES)
    for entry in entries:
        try:
            net = ip_network(str(entry).strip(), strict=False)
        except ValueError as error:
            raise Invalid("addresses.range", name, entry=str(entry)[:60]) from error
        if net.version == 6 and net.prefixlen >= 96 and (inner := unwrap(net.network_address)).version == 4:
            net = ip_network(f"{inner}/{net.prefixlen - 96}", strict=False)
        nets.append(net)
    return tuple(nets)


def host_of(header: str) -> tuple[str, str]:
    """Name and port of a Host header or an origin's authority; the name is empty if it cannot be read."""
    text = header.strip().lower()
    if text.startswith("["):
        name, bracket, rest = text.partition("]")
        name, port = name + bracket, rest.removeprefix(":")
        good = bracket and parse(name.strip("[]")) is not None and (not rest or rest.startswith(":"))
    else:
        name, _, port = text.partition(":")
        good = bool(name) and all(ch.isalnum() or ch in ".-_" for ch in name) and name.isascii()
        name = name.rstrip(".")
    if not good or not name or (port and not port.isdigit()) or len(name) > 253:
        return "", ""
    return name, port


class Addresses:
    """Answers, without a database read, where a request comes from and whether it may come at all."""

    def __init__(
        self, db: Database, clock: Clock, audit: Audit, *, hosts: Sequence[str] = (), proxies: Sequence[str] = ()
    ) -> None:
        self.db, self.clock, self.audit = db, clock, audit
        self._given, self._given_proxies = tuple(hosts), tuple(proxies)
        self._own = {socket.gethostname().lower()}
        self.lists = Lists()
        self._hosts: frozenset[str] = frozenset()
        self._proxies: tuple[Network, ...] = ()
        self._sources: dict[str, tuple[Network, ...]] = {}
        self._use(self.lists)

    @property
    def proxies(self) -> tuple[Network, ...]:
        """All trusted proxies, from the settings and the panel."""
        return self._proxies

    async def load(self) -> None:
        """Read what an admin set. What cannot be read any more counts as: nobody but loopback."""
        text = await self.db.read(_stored)
        if text is None:
            return
        try:
            raw = json.loads(text)
            self._use(_from_json(raw))
        except (ValueError, TypeError, AttributeError, Invalid):
            self._use(Lists(sources=dict.fromkeys(LISTS, ("127.0.0.0/8", "::1/128"))))

    def _use(self, lists: Lists) -> None:
        self._proxies = read_ranges((*self._given_proxies, *lists.proxies), "proxies")
        self._sources = {name: read_ranges(lists.sources.get(name, ()), name) for name in LISTS}
        self._hosts = frozenset(host_of(name)[0] for name in (*lists.hosts, *self._given)) - {""}
        self.lists = lists

    # --- a request

    def peer(self, scope: Mapping[str, Any]) -> Peer:
        """Who sent the request. Forwarding headers count only from a trusted proxy, and only the right-most hops."""
        client = scope.get("client")
        ip = str(client[0]) if client else ""
        secure = scope.get("scheme") in ("https", "wss")
        if not self._proxies or not self.trusted(ip):
            return Peer(ip=_plain(ip), secure=secure)
        hops, protos = [], []
        for name, value in scope.get("headers", ()):
            if name == b"x-forwarded-for":
                hops += [hop.strip() for hop in value.decode("latin-1").split(",")]
            elif name == b"x-forwarded-proto":
                protos += [proto.strip().lower() for proto in value.decode("latin-1").split(",")]
        found = ip
        for hop in reversed(hops[-20:]):
            if parse(hop) is None:
                return Peer(ip=_plain(ip), secure=secure, proxied=True, bad=True)
            found = hop
            if not self.trusted(hop):
                break
        if protos and protos[-1] not in ("http", "https", "ws", "wss"):
            return Peer(ip=_plain(ip), secure=secure, proxied=True, bad=True)
        encrypted = protos[-1] in ("https", "wss") if protos else secure
        return Peer(ip=_plain(found), secure=encrypted, proxied=True)

    def trusted(self, ip: str) -> bool:
        """True for a trusted proxy."""
        return _within(ip, self._proxies)

    def allowed(self, kind: str, ip: str) -> bool:
        """True if requests of a kind (`panel`, `api`, `webhooks`, `metrics`) may come from there."""
        nets = self._sources.get(kind, ())
        return not nets or _within(ip, nets)

    def known_host(self, header: str) -> bool:
        """True if the panel answers to this Host header: an address, a local name, or a listed name.

        Any other name may belong to a stranger whose page was pointed at this machine (DNS rebinding).
        """
        name, _ = host_of(header)
        if not name:
            return False
        return (
            parse(name.strip("[]")) is not None
            or "." not in name
            or name in self._hosts
            or name in self._own
            or name.endswith(LOCAL_ENDINGS)
        )

    # --- what an admin sets

    async def save(self, who: Principal, lists: Lists, *, from_ip: str) -> None:
        """Set host names, trusted proxies and source lists.

        Right: server.manage. Safe to repeat.
        Raises: Denied; Invalid (`addresses.range`, `addresses.many`, `addresses.host`; `addresses.lockout` if the
        caller's own address would no longer reach the panel).
        """
        who.require("server.manage")
        before = self.lists
        panel = read_ranges(lists.sources.get("panel", ()), "panel")
        read_ranges(lists.proxies, "proxies")
        for name in LISTS:
            read_ranges(lists.sources.get(name, ()), name)
        for host in lists.hosts:
            if not host_of(host)[0] or len(lists.hosts) > MOST_ENTRIES:
                raise Invalid("addresses.host", "hosts", entry=host[:60])
        if panel and from_ip and not _within(from_ip, panel):
            raise Invalid("addresses.lockout", "panel", ip=from_ip)

        def run(c: Connection) -> None:
            _store(c, _to_json(lists), self.clock.ms())
            self.audit.record(c, who, "server.addresses", "server", before=_to_json(before), after=_to_json(lists))

        await self.db.write(run)
        self._use(lists)

    async def learn_host(self, header: str) -> None:
        """Remember the name under which the one-time code was entered: whoever knows the code owns the machine."""
        name, _ = host_of(header)
        if name and not self.known_host(name):
            lists = replace(self.lists, hosts=(*self.lists.hosts, name))
            await self.db.write(lambda c: _store(c, _to_json(lists), self.clock.ms()))
            self._use(lists)


def _plain(ip: str) -> str:
    address = parse(ip)
    return ip if address is None else str(unwrap(address))


def _within(ip: str, nets: tuple[Network, ...]) -> bool:
    address = parse(ip)
    if address is None:
        return False
    address = unwrap(address)
    return any(address in net for net in nets if net.version == address.version)


def _stored(c: Connection) -> str | None:
    query = select(setting_t.c.value).where(setting_t.c.tenant == TENANT, setting_t.c.key == SETTING)
    row = c.execute(query).first()
    return None if row is None else str(row.value)


def _store(c: Connection, value: dict[str, object], now: int) -> None:
    c.execute(delete(setting_t).where(setting_t.c.tenant == TENANT, setting_t.c.key == SETTING))
    text = json.dumps(value, ensure_ascii=False)
    c.execute(insert(setting_t).values(tenant=TENANT, key=SETTING, value=text, updated_at=now))


def _to_json(lists: Lists) -> dict[str, object]:
    sources = {name: list(entries) for name, entries in lists.sources.items()}
    return {"hosts": list(lists.hosts), "proxies": list(lists.proxies), "sources": sources}


def _from_json(raw: Any) -> Lists:
    return Lists(
        hosts=tuple(map(str, raw.get("hosts", ()))),
        proxies=tuple(map(str, raw.get("proxies", ()))),
        sources={str(k): tuple(map(str, v)) for k, v in raw.get("sources", {}).items()},
    )


__all__ = ["Addresses", "Lists", "Peer", "host_of", "is_loopback", "read_ranges"]
