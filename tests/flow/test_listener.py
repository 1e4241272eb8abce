"""Bounds of the listener and of the front: endless and slow headers, many connections, many requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from routes import listener
from routes.listener import bounded
from security.throttle import Rate, Throttle
from storage.clock import ManualClock


async def answer(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(most: int = 400, exempt: bool = False) -> AsyncIterator[int]:
    config = uvicorn.Config(
        answer, port=0, log_level="critical", lifespan="off", http=bounded(lambda _: exempt, most=most)
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def ask(port: int, head: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head)
        async with asyncio.timeout(5):
            return await reader.read(200)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_large_headers_are_refused_and_usual_ones_are_not() -> None:
    async with serving() as port:
        usual = b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 30_000 + b"\r\n\r\n"
        assert b"200" in await ask(port, usual)
        endless = b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: yyyyyyyyyyyyyyyyyyyy\r\n" * 4000
        assert b"431" in await ask(port, endless)
        body = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n" + b"z" * 300_000
        assert b"200" in await ask(port, body)


async def test_slow_headers_are_cut_on_the_first_and_a_later_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEAD_SECONDS", 0.2)
    async with serving() as port:
        assert await ask(port, b"GET / HTTP/1.1\r\nhost:") == b""
        assert await ask(port, b"") == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(5):
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await reader.readuntil(b"ok")).endswith(b"ok")
            writer.write(b"GET / HTTP/1.1\r\nho")
            assert await reader.read(100) == b""
        writer.close()


async def test_connections_of_one_address_are_bounded_and_given_back() -> None:
    async with serving(most=3) as port:
        for _ in range(2):
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            await asyncio.sleep(0)
            assert await ask(port, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n") == b""
            for reader, writer in held:
                writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                async with asyncio.timeout(5):
                    assert b"200" in await reader.read()
                writer.close()
        assert b"200" in await ask(port, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    async with serving(most=1, exempt=True) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        assert b"200" in await ask(port, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        for _, writer in held:
            writer.close()


def test_buckets(clock: ManualClock) -> None:
    throttle = Throttle(clock, {"panel": Rate(per_second=10, at_once=5)})
    assert [throttle.wait("panel", "198.51.100.1") for _ in range(5)] == [0] * 5
    assert throttle.wait("panel", "198.51.100.1") == pytest.approx(0.1)
    assert throttle.wait("panel", "::ffff:198.51.100.1") == pytest.approx(0.1)
    assert throttle.wait("panel", "198.51.100.2") == 0
    assert throttle.wait("other", "198.51.100.1") == 0
    clock.advance(0.1)
    assert throttle.wait("panel", "198.51.100.1") == 0
    assert throttle.wait("panel", "198.51.100.1") > 0
    assert [throttle.wait("panel", f"2001:db8::{n:x}") for n in range(6)][-1] > 0


def test_buckets_are_bounded(clock: ManualClock) -> None:
    throttle = Throttle(clock)
    for n in range(30_000):
        throttle.wait("panel", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(throttle._buckets) <= 10_000
    assert len(throttle._names) <= 10_000
