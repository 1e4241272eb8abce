"""What the egress client reaches and what it refuses, against loopback servers and the test's own names."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from security.egress import ADMIN, PAGE, VENDOR, Policy
from storage.errors import Invalid, Unavailable
from tests.fakes.raw_server import answers, client, ok, serving

HOSTILE_HOSTS = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "0",
    "0.0.0.0",
    "localhost",
    "LOCALHOST.",
    "a.localtest.example",
    "[::1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fe80::1%25lo]",
    "[::1%25lo]",
    "user@127.0.0.1",
    "user:pass@example.com",
    "example.com@127.0.0.1",
    "127.0.0.1%2f.example.com",
    "127.0.0.1%00.example.com",
    "127.0.0.1#.example.com",
    "127.0.0.1\\.example.com",
    " 127.0.0.1",
    "127.0.0.1\t",
    "127。0。0。1",
    "①②⑦.0.0.1",
    "169.254.169.254",
    "[fd00:ec2::254]",
    "metadata.example",
    "10.0.0.1",
    "192.168.0.1",
    "172.16.0.1",
    "100.64.0.1",
    "198.18.0.1",
    "[fc00::1]",
    "[ff02::1]",
    "224.0.0.1",
    "255.255.255.255",
]


@pytest.mark.parametrize("policy", [PAGE, VENDOR], ids=["page", "vendor"])
async def test_no_hostile_address_is_reached(policy: Policy) -> None:
    """Own resolver: every name points to the canary on loopback."""
    async with serving(ok) as canary, client(resolver=answers("127.0.0.1")) as egress:
        for scheme in ("http", "https"):
            for host in HOSTILE_HOSTS:
                with pytest.raises(Invalid) as caught:
                    await egress.request("GET", f"{scheme}://{host}:{canary.port}/", policy=policy)
                assert caught.value.code in ("egress.url", "egress.private", "egress.plain"), host
        assert canary.connections == 0
        # positive control: the same canary answers where the policy is open
        answer = await egress.request("GET", f"http://any.example:{canary.port}/", policy=ADMIN)
        assert (answer.status_code, answer.text, canary.connections) == (200, "ok", 1)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://example.com/",
        "file:///etc/passwd",
        "//example.com",
        "http://",
        "http:///x",
        "javascript:alert(1)",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://exa mple.com/",
        "http://[::1",
        "http://a\r\nb/",
    ],
)
async def test_what_is_no_web_address_is_refused(url: str) -> None:
    async with client(resolver=answers("127.0.0.1")) as egress:
        with pytest.raises(Invalid, match=r"egress\.url"):
            await egress.request("GET", url, policy=PAGE)


async def test_one_closed_address_among_open_ones_refuses_the_name() -> None:
    async with serving(ok) as canary, client(resolver=answers("93.184.216.34", "127.0.0.1")) as egress:
        with pytest.raises(Invalid, match=r"egress\.private"):
            await egress.request("GET", f"http://mixed.example:{canary.port}/", policy=PAGE)
        assert canary.connections == 0


async def test_a_name_is_resolved_once_and_that_answer_is_connected_to() -> None:
    """Rebinding: a second look-up would give another address; there is none."""
    asked = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.9"]

    async with serving(ok) as server, client(resolver=rebinding) as egress:
        await egress.request("GET", f"http://model.corp:{server.port}/v1", policy=ADMIN)
        assert asked == ["model.corp"]
        assert f"host: model.corp:{server.port}".encode() in server.heads[0].lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_checked_again(status: int) -> None:
    async with serving(ok) as canary:

        async def bounce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
            place = f"location: http://127.0.0.1:{canary.port}/\r\n"
            writer.write(f"HTTP/1.1 {status} X\r\n{place}content-length: 0\r\n\r\n".encode())

        async with serving(bounce) as door, client(resolver=answers("127.0.0.1")) as egress:
            egress.open_ranges(["198.18.0.0/15"])
            policy = replace(PAGE, private=True, hosts=("door.example",))
            with pytest.raises(Invalid, match=r"egress\.host"):
                await egress.request("GET", f"http://door.example:{door.port}/", policy=policy)
            assert canary.connections == 0
            followed = await egress.request(
                "GET", f"http://door.example:{door.port}/", policy=replace(ADMIN, redirects=1)
            )
            assert followed.text == "ok"
            assert canary.connections == 1
            kept = await egress.request("GET", f"http://door.example:{door.port}/", policy=ADMIN)
            assert kept.status_code == status


async def test_secrets_do_not_follow_a_redirect_elsewhere() -> None:
    async with serving(ok) as other:

        async def bounce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
            await reader.readexactly(len(b'{"a":1}'))
            place = f"location: http://other.example:{other.port}/\r\n"
            writer.write(f"HTTP/1.1 307 X\r\n{place}content-length: 0\r\n\r\n".encode())

        async with serving(bounce) as door, client(resolver=answers("127.0.0.1")) as egress:
            await egress.request(
                "POST",
                f"http://door.example:{door.port}/",
                policy=replace(ADMIN, redirects=2),
                headers={"Authorization": "Bearer canary", "X-Api-Key": "canary", "Cookie": "a=canary"},
                json={"a": 1},
            )
        assert b"canary" in door.heads[0]
        assert b"canary" not in other.heads[0]
        assert b"content-length: 0" in other.heads[0].lower()


async def test_endless_redirects_end() -> None:
    async def loop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(b"HTTP/1.1 302 X\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n")

    async with serving(loop) as server, client() as egress:
        with pytest.raises(Invalid, match=r"egress\.redirects"):
            await egress.request("GET", f"http://127.0.0.1:{server.port}/", policy=replace(ADMIN, redirects=3))
        assert len(server.heads) == 4


async def test_only_listed_hosts() -> None:
    async with serving(ok) as server, client(resolver=answers("127.0.0.1")) as egress:
        policy = replace(ADMIN, hosts=("api.example", ".corp"))
        for host, reached in {
            "api.example": True,
            "a.corp": True,
            "corp": False,
            "api.example.evil": False,
            "xapi.example": False,
        }.items():
            if reached:
                await egress.request("GET", f"http://{host}:{server.port}/", policy=policy)
            else:
                with pytest.raises(Invalid, match=r"egress\.host"):
                    await egress.request("GET", f"http://{host}:{server.port}/", policy=policy)


async def test_vendor_on_loopback_only_with_the_switch_for_tests() -> None:
    async with serving(ok) as server:
        async with client(resolver=answers("127.0.0.1")) as egress:
            with pytest.raises(Invalid, match=r"egress\.plain"):
                await egress.request("GET", f"http://127.0.0.1:{server.port}/", policy=VENDOR)
        async with client(allow_local_vendors=True, resolver=answers("10.0.0.1")) as egress:
            answer = await egress.request("GET", f"http://127.0.0.1:{server.port}/", policy=VENDOR)
            assert answer.text == "ok"
            with pytest.raises(Invalid, match=r"egress\.plain"):  # plain http elsewhere stays closed
                await egress.request("GET", f"http://vendor.example:{server.port}/", policy=VENDOR)
            with pytest.raises(Invalid, match=r"egress\.private"):  # and so does loopback for pages
                await egress.request("GET", f"http://127.0.0.1:{server.port}/", policy=PAGE)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    ca = trustme.CA()
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, path


async def test_certificate_is_verified_for_the_name_not_the_address(authority: tuple[trustme.CA, Path]) -> None:
    ca, path = authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("vendor.example").configure_cert(context)
    async with serving(ok, context) as server:
        options = {"allow_local_vendors": True, "resolver": answers("127.0.0.1")}
        async with client(**options, ca_file=path) as egress:
            answer = await egress.request("GET", f"https://vendor.example:{server.port}/", policy=VENDOR)
            assert answer.text == "ok"
            with pytest.raises(Unavailable, match=r"egress\.tls"):
                await egress.request("GET", f"https://other.example:{server.port}/", policy=VENDOR)
        async with client(**options) as egress:
            with pytest.raises(Unavailable, match=r"egress\.tls"):
                await egress.request("GET", f"https://vendor.example:{server.port}/", policy=VENDOR)
