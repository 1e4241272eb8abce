"""Where requests come from: forged forwarding headers change nothing; names that a stranger could point at us."""

from __future__ import annotations

import pytest

from security.addresses import Addresses, Lists, host_of, read_ranges
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Denied, Invalid
from storage.principal import principal
from tests.security_house import House

OWNER = principal(id="user:1", name="anna", role="owner")


@pytest.fixture
def addresses(db: SqliteDatabase, clock: ManualClock) -> Addresses:
    return House(db, clock).addresses


def _scope(ip: str, scheme: str = "http", **headers: str) -> dict[str, object]:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"client": (ip, 1234), "scheme": scheme, "headers": raw}


FORGED = [
    {"x_forwarded_for": "127.0.0.1"},
    {"x_forwarded_for": "10.0.0.1, 127.0.0.1"},
    {"x_forwarded_for": "::1"},
    {"x_real_ip": "127.0.0.1"},
    {"forwarded": "for=127.0.0.1;proto=https"},
    {"x_forwarded_proto": "https"},
    {"x_forwarded_host": "localhost"},
    {"x_forwarded_for": "junk"},
    {"true_client_ip": "127.0.0.1"},
    {"cf_connecting_ip": "127.0.0.1"},
    {"x_client_ip": "127.0.0.1"},
    {"x_forwarded_for": ""},
]


@pytest.mark.parametrize("headers", FORGED)
async def test_a_forged_header_from_an_untrusted_peer_changes_nothing(
    addresses: Addresses, headers: dict[str, str]
) -> None:
    for proxies in ((), ("10.9.9.9",)):
        await addresses.save(OWNER, Lists(proxies=proxies), from_ip="")
        peer = addresses.peer(_scope("198.51.100.7", **headers))
        assert (peer.ip, peer.secure, peer.proxied, peer.bad) == ("198.51.100.7", False, False, False)


@pytest.mark.parametrize(
    ("headers", "ip", "secure", "bad"),
    [
        ({"x_forwarded_for": "203.0.113.5", "x_forwarded_proto": "https"}, "203.0.113.5", True, False),
        ({"x_forwarded_for": "127.0.0.1, 203.0.113.5"}, "203.0.113.5", False, False),
        ({"x_forwarded_for": "203.0.113.5, 10.0.0.2"}, "203.0.113.5", False, False),
        ({"x_forwarded_for": "1.1.1.1, 203.0.113.5, 10.0.0.2"}, "203.0.113.5", False, False),
        ({"x_forwarded_proto": "http, https"}, "10.0.0.1", True, False),
        ({"x_forwarded_proto": "https, http"}, "10.0.0.1", False, False),
        ({"x_forwarded_for": "::ffff:203.0.113.5"}, "203.0.113.5", False, False),
        ({"x_forwarded_for": "unknown"}, "10.0.0.1", False, True),
        ({"x_forwarded_proto": "gopher"}, "10.0.0.1", False, True),
        ({}, "10.0.0.1", False, False),
    ],
)
async def test_the_right_most_untrusted_hop_counts(
    addresses: Addresses, headers: dict[str, str], ip: str, secure: bool, bad: bool
) -> None:
    await addresses.save(OWNER, Lists(proxies=("10.0.0.0/8",)), from_ip="")
    peer = addresses.peer(_scope("10.0.0.1", **headers))
    assert (peer.ip, peer.secure, peer.bad) == (ip, secure, bad)


async def test_source_lists_in_all_forms(addresses: Addresses) -> None:
    lists = Lists(sources={"panel": ("10.0.0.0/8", "2001:db8::/32"), "webhooks": ("::ffff:203.0.113.0/120",)})
    await addresses.save(OWNER, lists, from_ip="10.1.1.1")
    assert addresses.allowed("panel", "10.2.3.4")
    assert addresses.allowed("panel", "::ffff:10.2.3.4")
    assert addresses.allowed("panel", "2001:db8::5")
    assert not addresses.allowed("panel", "127.0.0.1")
    assert not addresses.allowed("panel", "not-an-ip")
    assert addresses.allowed("webhooks", "203.0.113.9")
    assert not addresses.allowed("webhooks", "203.0.114.9")
    assert addresses.allowed("metrics", "8.8.8.8")


async def test_lists_are_kept_and_checked(addresses: Addresses, db: SqliteDatabase, clock: ManualClock) -> None:
    lists = Lists(hosts=("bot.example.com",), proxies=("127.0.0.1",), sources={"panel": ("10.0.0.0/8",)})
    await addresses.save(OWNER, lists, from_ip="10.1.1.1")
    again = House(db, clock).addresses
    await again.load()
    assert again.lists == addresses.lists
    for bad, code in (
        (Lists(proxies=("300.1.1.1",)), "addresses.range"),
        (Lists(sources={"panel": ("x",)}), "addresses.range"),
        (Lists(hosts=("a b",)), "addresses.host"),
        (Lists(sources={"panel": ("192.168.0.0/16",)}), "addresses.lockout"),
    ):
        with pytest.raises(Invalid) as caught:
            await addresses.save(OWNER, bad, from_ip="10.1.1.1")
        assert caught.value.code == code
    with pytest.raises(Denied):
        await addresses.save(principal(id="user:2", name="m", role="member"), lists, from_ip="")


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ("127.0.0.1:18789", True),
        ("localhost:18789", True),
        ("[::1]:18789", True),
        ("192.168.1.5", True),
        ("203.0.113.5:80", True),
        ("nas", True),
        ("nas.local:18789", True),
        ("bot.example.com", True),
        ("BOT.example.com.:443", True),
        ("evil.example", False),
        ("bot.example.com.evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("a b", False),
        ("localhost:80:80", False),
        ("localhost:x", False),
        ("[::1", False),
        ("user@localhost", False),
        ("localhost/path", False),
    ],
)
async def test_names_that_the_panel_answers_to(addresses: Addresses, header: str, known: bool) -> None:
    await addresses.save(OWNER, Lists(hosts=("bot.example.com",)), from_ip="")
    assert addresses.known_host(header) == known


async def test_the_name_under_which_the_code_was_entered_is_learned(
    addresses: Addresses, db: SqliteDatabase, clock: ManualClock
) -> None:
    assert not addresses.known_host("bot.example.com")
    await addresses.learn_host("bot.example.com:443")
    again = House(db, clock).addresses
    await again.load()
    assert again.known_host("bot.example.com")


def test_ports_and_ranges_are_read() -> None:
    assert host_of("LocalHost:80") == ("localhost", "80")
    assert host_of("[::1]:80") == ("[::1]", "80")
    assert [str(net) for net in read_ranges(["10.1.2.3", "::ffff:10.0.0.0/104"], "x")] == ["10.1.2.3/32", "10.0.0.0/8"]
