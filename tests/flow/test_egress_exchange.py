"""One exchange of the egress client: reuse, bounds, and what it says when the connection breaks."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
import uvloop

from security.egress import ADMIN, PAGE, VENDOR
from security.egress_client import EgressClient
from storage.errors import Invalid, OutcomeUnknown, TooLarge, Unavailable
from tests.fakes.raw_server import OK, answers, client, ok, serving


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


@pytest.mark.parametrize(
    "scenario",
    [
        test_connections_are_used_again,
        test_many_streams_side_by_side,
        test_written_is_told_after_the_body_and_before_the_answer,
        test_broken_before_the_body_left_is_unavailable,
        test_an_answer_without_length_ends_with_the_connection,
        test_size_is_capped_also_for_compressed_bodies,
        test_time_is_capped_before_and_within_the_answer,
    ],
    ids=lambda fn: fn.__name__,
)
def test_the_same_on_uvloop(scenario: Callable[[], Awaitable[None]]) -> None:
    """The server runs on uvloop, whose transports differ in detail."""
    uvloop.run(scenario())  # type: ignore[arg-type]
