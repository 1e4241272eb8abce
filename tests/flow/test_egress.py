"""The egress client against loopback servers: what it reaches, refuses, and says about a broken exchange."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
import uvloop

from security.egress import ADMIN, PAGE, VENDOR, Policy
from security.egress_client import EgressClient
from storage.errors import Invalid, OutcomeUnknown, TooLarge, Unavailable


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The server runs on uvloop, whose transports differ in detail."""
    return request.param()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """A raw loopback server that counts connections and keeps what it read."""

    def __init__(self, handler: Handler) -> None:
        self.handler, self.connections, self.heads = handler, 0, list[bytes]()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                await self.handler(reader, writer, head)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(handler)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


async def ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
    writer.write(OK)
    await writer.drain()


def answers(*addresses: str) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


@asynccontextmanager
async def client(**options: object) -> AsyncIterator[EgressClient]:
    egress = EgressClient(**options)  # type: ignore[arg-type]
    try:
        yield egress
    finally:
        await egress.close()


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


async def test_connections_are_used_again() -> None:
    async with serving(ok) as server, client() as egress:
        for _ in range(20):
            await egress.request("POST", f"http://127.0.0.1:{server.port}/", policy=ADMIN, json={"n": 1})
        assert server.connections == 1
        await asyncio.gather(
            *(egress.request("GET", f"http://127.0.0.1:{server.port}/", policy=ADMIN) for _ in range(30))
        )
        before = server.connections
        await asyncio.gather(
            *(egress.request("GET", f"http://127.0.0.1:{server.port}/", policy=ADMIN) for _ in range(30))
        )
        assert server.connections == before


async def test_a_kept_connection_of_an_open_policy_is_no_way_around_a_closed_one() -> None:
    async with serving(ok) as server, client() as egress:
        url = f"http://127.0.0.1:{server.port}/"
        await egress.request("GET", url, policy=ADMIN)
        with pytest.raises(Invalid, match=r"egress\.private"):
            await egress.request("GET", url, policy=PAGE)


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        await ok(reader, writer, head)
        writer.close()

    async with serving(once) as server, client() as egress:
        for _ in range(3):
            answer = await egress.request("GET", f"http://127.0.0.1:{server.port}/", policy=ADMIN)
            assert answer.text == "ok"


async def test_many_streams_side_by_side() -> None:
    gate = asyncio.Event()

    async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await gate.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    arrived = asyncio.Semaphore(0)

    async def one(egress: EgressClient, url: str) -> bytes:
        async with egress.stream("POST", url, policy=ADMIN, json={}) as answer:
            body = b""
            async for piece in answer.aiter_bytes():
                if not body:
                    arrived.release()
                body += piece
            return body

    async with serving(held) as server, client() as egress:
        tasks = [asyncio.create_task(one(egress, f"http://127.0.0.1:{server.port}/")) for _ in range(300)]
        async with asyncio.timeout(20):
            for _ in tasks:
                await arrived.acquire()
            gate.set()
            assert set(await asyncio.gather(*tasks)) == {b"onetwo"}


async def test_written_is_told_after_the_body_and_before_the_answer() -> None:
    told = asyncio.Event()
    body = b"x" * 30_000_000  # more than the kernel takes unread

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        assert not told.is_set()
        await reader.readexactly(len(body))
        async with asyncio.timeout(5):
            await told.wait()
        writer.write(OK)

    async with serving(slow) as server, client() as egress:
        answer = await egress.request(
            "POST", f"http://127.0.0.1:{server.port}/", policy=ADMIN, content=body, written=told.set
        )
        assert answer.text == "ok"


async def test_broken_before_the_body_left_is_unavailable() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.transport.abort()

    told = []
    async with serving(reset) as server, client() as egress:
        with pytest.raises(Unavailable, match=r"egress\.connect"):
            await egress.request(
                "POST",
                f"http://127.0.0.1:{server.port}/",
                policy=ADMIN,
                content=b"x" * 40_000_000,
                written=lambda: told.append(1),
            )
        assert not told
    with pytest.raises(Unavailable, match=r"egress\.connect"):
        async with client() as egress:
            await egress.request("POST", f"http://127.0.0.1:{server.port}/", policy=ADMIN, content=b"x")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", b"SSH-2.0-x\r\n"])
async def test_broken_after_the_body_left_is_an_unknown_outcome(answer: bytes) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        await reader.readexactly(4)
        writer.write(answer)
        writer.close()

    async with serving(cut) as server, client() as egress:
        with pytest.raises(OutcomeUnknown, match=r"egress\.cut"):
            await egress.request("POST", f"http://127.0.0.1:{server.port}/", policy=ADMIN, content=b"body")


async def test_time_is_capped_before_and_within_the_answer() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        if b"/within" in head:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await asyncio.sleep(30)

    policy = replace(ADMIN, seconds=0.2)
    async with serving(silent) as server, client() as egress:
        for path in ("/before", "/within"):
            with pytest.raises(OutcomeUnknown, match=r"egress\.timeout"):
                await egress.request("POST", f"http://127.0.0.1:{server.port}{path}", policy=policy, content=b"")
            with pytest.raises(Unavailable, match=r"egress\.timeout"):
                await egress.request("GET", f"http://127.0.0.1:{server.port}{path}", policy=policy)


async def test_size_is_capped_also_for_compressed_bodies() -> None:
    bomb = gzip.compress(b"0" * 30_000_000)
    assert len(bomb) < 50_000

    async def big(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        if b"/bomb" in head:
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(bomb)}\r\n\r\n".encode())
            writer.write(bomb)
        elif b"/small" in head:
            body = gzip.compress("你好".encode())
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(body)}\r\n\r\n".encode())
            writer.write(body)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            for _ in range(200):
                writer.write(b"x" * 10_000)
                await writer.drain()
            writer.close()

    policy = replace(ADMIN, most_bytes=100_000)
    async with serving(big) as server, client() as egress:
        for path in ("/bomb", "/endless"):
            with pytest.raises(TooLarge, match=r"egress\.size"):
                await egress.request("GET", f"http://127.0.0.1:{server.port}{path}", policy=policy)
        assert (await egress.request("GET", f"http://127.0.0.1:{server.port}/small", policy=policy)).text == "你好"


async def test_an_answer_without_length_ends_with_the_connection() -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        writer.close()

    async with serving(old) as server, client() as egress:
        assert (await egress.request("GET", f"http://127.0.0.1:{server.port}/", policy=ADMIN)).text == "all of it"


async def test_endless_headers_end() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for n in range(20_000):
            writer.write(f"x-{n}: {'y' * 100}\r\n".encode())
            await writer.drain()

    async with serving(endless) as server, client() as egress:
        with pytest.raises(OutcomeUnknown, match=r"egress\.cut"):
            await egress.request("POST", f"http://127.0.0.1:{server.port}/", policy=ADMIN, content=b"")


async def test_a_header_cannot_add_a_line() -> None:
    async with serving(ok) as server, client() as egress:
        for name, value in (("x-a", "1\r\nx-b: 2"), ("x-a\r\nx-b", "1")):
            with pytest.raises(Invalid, match=r"egress\.header"):
                await egress.request("GET", f"http://127.0.0.1:{server.port}/", policy=ADMIN, headers={name: value})
        assert server.connections == 0


async def test_an_unknown_name_is_unavailable() -> None:
    async def nothing(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async with client(resolver=nothing) as egress:
        with pytest.raises(Unavailable, match=r"egress\.dns"):
            await egress.request("GET", "https://nowhere.example/", policy=VENDOR)


async def test_forms_and_files_are_sent_as_given() -> None:
    bodies = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        size = next(int(li.split(b":")[1]) for li in head.lower().split(b"\r\n") if li.startswith(b"content-length"))
        bodies.append(await reader.readexactly(size))
        writer.write(OK)

    async with serving(keep) as server, client() as egress:
        url = f"http://127.0.0.1:{server.port}/"
        await egress.request("POST", url, policy=ADMIN, data={"a": "1 2"})
        await egress.request("POST", url, policy=ADMIN, data={"k": "v"}, files={"f": ("n.txt", b"bytes")})
        assert bodies[0] == b"a=1+2"
        assert b"bytes" in bodies[1]
        assert b'name="k"' in bodies[1]


async def test_a_socket_for_other_protocols_goes_to_a_checked_address() -> None:
    async with serving(ok) as server, client(resolver=answers("127.0.0.1")) as egress:
        with pytest.raises(Invalid, match=r"egress\.private"):
            await egress.connect(f"wss://hub.example:{server.port}/", policy=PAGE)
        sock, tls, host = await egress.connect(f"ws://hub.example:{server.port}/", policy=ADMIN)
        assert (tls, host, sock.getpeername()[0]) == (None, "hub.example", "127.0.0.1")
        sock.close()
