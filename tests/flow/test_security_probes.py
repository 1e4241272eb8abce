"""Every probe of the checklist is green in a good state, and has a fixture that turns it red."""

from __future__ import annotations

import ssl
from collections import namedtuple
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from security import markdown
from security.addresses import Addresses, Lists
from security.checklist import Finding
from security.egress_client import EgressClient
from security.exposure import Exposure
from security.guessing import Guessing
from security.probes import application, network, transport
from security.probes.facts import Door, Facts
from security.probes.layers import CHECKS
from security.tls import server_context
from storage.clock import Clock, ManualClock
from storage.database import SqliteDatabase
from storage.principal import TENANT, principal
from storage.tables.people import ApiKey
from tests.fakes.login_house import front
from tests.fakes.probe_house import ACCEPTED, TLS, carelessly, good, good_facts, listening
from tests.security_house import House

ADMIN = principal(id="user:1", name="anna", role="owner")
DAY = 86_400_000
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
async def facts(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Facts]:
    async with good(House(db, clock), tmp_path) as facts:
        yield facts


def says(found: Finding) -> str:
    return f"{found.status} {found.say}"


async def nowhere(host: str, port: int) -> list[str]:
    raise OSError(host)


# --- the good state

QUIET = {  # not green on a fresh loopback start, each for its reason
    "network.floods": "unknown not_ours",
    "application.totp": "warn without",
    "data.disk": "unknown unseen",
    "data.backup": "unknown not_here",
    "operations.clock": "unknown no_answers",
    "operations.patches": "warn due",
    "operations.drill": "warn due",
}
OF_THE_MACHINE = {"operations.rights", "operations.dependencies", "data.space", "network.sockets", "data.disk"}


async def test_green_in_a_good_state(facts: Facts) -> None:
    for check in CHECKS:
        found = await check.probe(facts)
        if check.id in OF_THE_MACHINE:
            assert found.status in ("pass", "warn", "unknown"), check.id
        else:
            assert says(found) == QUIET.get(check.id, f"pass {found.say}"), check.id


def test_ids_are_unique_and_every_layer_has_some() -> None:
    ids = [check.id for check in CHECKS]
    assert len(set(ids)) == len(ids)
    assert {check.layer for check in CHECKS} == {"network", "transport", "application", "data", "operations"}


# --- network


async def test_red_bind(facts: Facts) -> None:
    async with listening(front_of(facts), host="0.0.0.0") as door:
        wide = replace(facts, door=door)
        assert says(await network.bind(wide)) == "fail open"
        assert says(await network.bind(replace(wide, exposure=ACCEPTED))) == "warn accepted"
        assert says(await network.bind(replace(wide, exposure=TLS))) == "pass protected"
        assert says(await network.sockets(facts)) == "fail open"
    assert says(await network.bind(replace(facts, door=Door(host="127.0.0.1", port=1)))) == "unknown elsewhere"


def front_of(facts: Facts) -> object:
    return lambda scope, receive, send: None


async def test_red_sources(facts: Facts, db: SqliteDatabase, clock: ManualClock) -> None:
    assert says(await network.sources(replace(facts, exposure=ACCEPTED))) == "warn everyone"
    lists = Lists(sources={"panel": ("10.0.0.0/8", "127.0.0.1")})
    async with carelessly(facts) as open_door:
        await facts.addresses.save(ADMIN, lists, from_ip="127.0.0.1")
        assert says(await network.sources(open_door)) == "fail let_in"
    assert says(await network.sources(facts)) == "pass refused"
    await facts.addresses.save(ADMIN, Lists(sources={"panel": ("0.0.0.0/0",)}), from_ip="127.0.0.1")
    assert says(await network.sources(facts)) == "warn everyone"
    await facts.addresses.save(ADMIN, Lists(sources={"panel": ("127.0.0.0/8",)}), from_ip="127.0.0.1")
    assert says(await network.sources(facts)) == "unknown no_alias"


async def test_red_proxies(facts: Facts) -> None:
    def trusting(*proxies: str) -> Facts:
        addresses = Addresses(facts.db, facts.clock, facts.audit, proxies=proxies)
        return replace(facts, addresses=addresses)

    assert says(await network.proxies(trusting("0.0.0.0/0"))) == "fail everyone"
    assert says(await network.proxies(trusting("203.0.113.0/24"))) == "fail believed"
    assert says(await network.proxies(trusting("127.0.0.1"))) == "pass ignored"


async def test_red_egress(facts: Facts) -> None:
    facts.egress.open_ranges(["127.0.0.0/8"])
    assert says(await network.egress(facts)) == "fail reached"


async def test_red_limits(facts: Facts) -> None:
    async with carelessly(facts) as open_door:
        assert says(await network.limits(open_door)) == "fail taken"


async def test_floods_are_never_green(facts: Facts) -> None:
    assert says(await network.floods(replace(facts, attested=lambda _: True))) == "unknown declared"


# --- transport


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., ssl.SSLContext]:
    """A context that serves a certificate of a test's authority."""
    ca = trustme.CA()

    def make(*names: str, weak: bool = False, **options: object) -> ssl.SSLContext:
        issued = ca.issue_cert(*(names or ("localhost", "127.0.0.1")), **options)  # type: ignore[arg-type]
        cert, key = tmp_path / "c.pem", tmp_path / "c.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        if not weak:
            return server_context(cert, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.load_cert_chain(cert, key)
        return context

    return make


async def test_tls_served_by_us(facts: Facts, pair: Callable[..., ssl.SSLContext], house: House) -> None:
    async with listening(front(house), tls=pair()) as door:
        served = replace(facts, door=door, exposure=TLS, clock=Clock())
        assert says(await transport.https(served)) == "pass served"
        assert says(await transport.versions(served)) == "pass refused"
        assert says(await transport.certificate(served)) in ("pass good", "warn self_signed")
        assert says(await transport.cookies(served)) == "pass set"
        assert says(await transport.headers(served)) == "pass set"
        assert says(await transport.remembered(served)) == "unknown no_name"
        await facts.addresses.save(ADMIN, Lists(hosts=("bot.example.com",)), from_ip="")
        assert says(await transport.remembered(served)) == "pass set"
        assert says(await transport.certificate(served)) == "fail other_name"


@pytest.fixture
def house(db: SqliteDatabase, clock: ManualClock) -> House:
    return House(db, clock)


async def test_red_versions(facts: Facts, pair: Callable[..., ssl.SSLContext]) -> None:
    async with carelessly(facts, tls=pair(weak=True)) as weak:
        found = await transport.versions(replace(weak, exposure=TLS))
        assert says(found) == "fail weak"
        assert "TLSv1" in str(found.params["names"])


async def test_red_certificate(facts: Facts, pair: Callable[..., ssl.SSLContext]) -> None:
    for days, expected in ((-2, "fail over"), (1, "fail ends"), (10, "warn ends"), (90, "pass good")):
        context = pair(not_after=datetime.now(UTC) + timedelta(days=days, hours=1))
        async with carelessly(facts, tls=context) as served:
            assert says(await transport.certificate(replace(served, exposure=TLS, clock=Clock()))) == expected
    assert says(await transport.certificate(replace(facts, exposure=ACCEPTED))) == "fail none"


async def test_red_https(facts: Facts) -> None:
    assert says(await transport.https(replace(facts, exposure=ACCEPTED))) == "fail plain"
    assert says(await transport.versions(replace(facts, exposure=ACCEPTED))) == "fail none"
    proxied = replace(facts, exposure=Exposure(wide=True, how="proxy"))
    assert says(await transport.https(proxied)) == "unknown no_name"


async def test_https_by_a_proxy(facts: Facts, pair: Callable[..., ssl.SSLContext]) -> None:
    """The proxy's public name leads nowhere that answers: unknown, never green."""

    egress = EgressClient(resolver=nowhere)
    await facts.addresses.save(ADMIN, Lists(hosts=("bot.example.com",)), from_ip="")
    assert says(await transport.https(replace(facts, egress=egress))) == "unknown unreachable"
    await egress.close()


async def test_red_headers_and_cookies(facts: Facts, pair: Callable[..., ssl.SSLContext]) -> None:
    async with carelessly(facts) as open_door:
        assert says(await transport.headers(open_door)) == "fail missing"
        assert says(await transport.cookies(open_door)) == "fail missing"
    async with carelessly(facts, tls=pair()) as open_door:
        await facts.addresses.save(ADMIN, Lists(hosts=("bot.example.com",)), from_ip="")
        assert says(await transport.remembered(replace(open_door, exposure=TLS))) == "fail missing"
    await facts.addresses.save(ADMIN, Lists(), from_ip="")
    assert says(await transport.remembered(replace(facts, exposure=ACCEPTED))) == "fail plain"


async def test_red_outgoing(facts: Facts) -> None:
    class Trusting(EgressClient):
        async def _context(self) -> ssl.SSLContext:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context

    egress = Trusting()
    assert says(await transport.outgoing(replace(facts, egress=egress))) == "fail taken"
    await egress.close()


# --- application


async def test_red_gate_and_anonymous(facts: Facts) -> None:
    async with carelessly(facts) as open_door:
        assert says(await application.gate(open_door)) == "fail through"
        assert says(await application.anonymous(open_door)) == "fail answered"
        assert says(await application.setup(open_door)) == "fail answers"


async def test_red_guessing(facts: Facts) -> None:
    class Patient(Guessing):
        def attempt(self, *_: object) -> None:
            pass

    assert says(await application.guessing(replace(facts, guessing=Patient(facts.clock)))) == "fail endless"
    await application.guessing(facts)
    assert says(await application.guessing(facts)) == "pass locked"  # the first run left nothing behind


async def test_red_passwords(facts: Facts) -> None:
    weak = await facts.passwords.hash("password1234")
    await facts.db.write(lambda c: c.exec_driver_sql("UPDATE user SET password_hash = ?", (weak,)))
    assert says(await application.passwords(facts)) == "fail weak"
    await facts.db.write(lambda c: c.exec_driver_sql("UPDATE user SET role = 'member'"))
    assert says(await application.passwords(facts)) == "unknown nobody"


async def test_red_totp(facts: Facts) -> None:
    assert says(await application.totp(replace(facts, exposure=TLS))) == "fail without"
    await facts.db.write(lambda c: c.exec_driver_sql("UPDATE user SET totp_secret = 'vault'"))
    assert says(await application.totp(facts)) == "pass all"


async def test_red_setup(tmp_path: Path, clock: ManualClock, db: SqliteDatabase) -> None:
    house = House(db, clock)
    async with listening(front(house)) as door:
        facts = await good_facts(house, door, tmp_path)
        assert says(await application.setup(facts)) == "warn open"
        assert says(await application.setup(replace(facts, exposure=ACCEPTED))) == "fail open"
        await house.owner()
        fixed = replace(facts, settings=replace(facts.settings, setup_code="x" * 12))
        assert says(await application.setup(fixed)) == "warn fixed"
        await facts.egress.close()


async def test_red_rendering(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "render", lambda text, **_: text)
    assert says(await application.rendering(facts)) == "fail active"


async def test_red_keys(facts: Facts) -> None:
    def add(**values: object) -> None:
        row = {"tenant": TENANT, "name": "ci", "hash": str(values), "created_at": facts.clock.ms(), **values}
        table = ApiKey.__table__  # type: ignore[attr-defined]
        writes.append(lambda c: c.execute(table.insert().values(tail="", scopes="[]", **row)))

    writes: list[Callable[..., object]] = []
    add(expires_at=facts.clock.ms() + DAY)
    await facts.db.write(writes[-1])
    assert says(await application.keys(facts)) == "pass good"
    facts.clock.advance(91 * 86_400)  # type: ignore[attr-defined]
    assert says(await application.keys(facts)) == "warn idle"
    add()
    await facts.db.write(writes[-1])
    assert says(await application.keys(facts)) == "warn endless"


async def test_red_switches(facts: Facts) -> None:
    for options in ({"allow_local_vendors": True}, {"crash_at": "delivered"}):
        assert (
            says(await application.switches(replace(facts, settings=replace(facts.settings, **options)))) == "fail on"
        )
