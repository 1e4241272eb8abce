"""A load generator that costs little: raw HTTP/1.1 over kept connections, because it shares the processors."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Self

LONGEST = 60.0


def post(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole request, made before it is needed."""
    more = "".join(f"{k}: {v}\r\n" for k, v in (headers or {"content-type": "application/json"}).items())
    return f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body


class _Peer(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.waiting: asyncio.Future[int] | None = None
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(exc or ConnectionResetError("closed by the server"))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"content-length:")
        if at >= 0:
            size = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self.buffer) < size:
                return
        elif not self.buffer.endswith(b"0\r\n\r\n"):
            return
        self.buffer = b""
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(int(head[9:12]))


class Client:
    """Kept connections to one server. `async with Client(port) as client: status, ms = await client.send(raw)`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: deque[_Peer] = deque()
        self._all: list[_Peer] = []

    async def open(self, connections: int) -> None:
        """Have so many connections before the clock runs."""
        self._idle = deque(peer for peer in self._idle if not peer.transport.is_closing())
        while len(self._idle) < connections:
            self._idle.append(await self._new())

    async def _new(self) -> _Peer:
        _, peer = await asyncio.get_running_loop().create_connection(_Peer, "127.0.0.1", self.port)
        self._all.append(peer)
        return peer

    async def send(self, raw: bytes) -> tuple[int, float]:
        """Status, and the milliseconds from before the request was written until its answer was whole."""
        begun = time.perf_counter()
        while True:
            while self._idle and self._idle[-1].transport.is_closing():  # the server ends what has rested for long
                self._idle.pop()
            kept = bool(self._idle)
            peer = self._idle.pop() if kept else await self._new()
            peer.waiting = asyncio.get_running_loop().create_future()
            peer.transport.write(raw)
            try:
                async with asyncio.timeout(LONGEST):
                    status = await peer.waiting
            except ConnectionError:
                if kept:
                    continue  # it was just being ended: again, as every vendor does
                raise
            took = (time.perf_counter() - begun) * 1000
            self._idle.append(peer)
            return status, took

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in self._all:
            peer.transport.close()


def quantile(values: list[float], q: float) -> float:
    """The value below which a share `q` lies; 0 where there is none."""
    some = sorted(values)
    return some[min(len(some) - 1, int(q * len(some)))] if some else 0.0


async def at_rate(client: Client, requests: list[bytes], per_second: float) -> list[float]:
    """Send at a fixed rate, whatever the answers do. Milliseconds of each until it was taken."""
    loop, tasks = asyncio.get_running_loop(), []
    begun = loop.time()
    for n, raw in enumerate(requests):
        wait = begun + n / per_second - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(_insisting(client, raw)))
    return list(await asyncio.gather(*tasks))


async def _insisting(client: Client, raw: bytes) -> float:
    """Send, and again after a second where the server cannot now, as vendors do; all of it counts."""
    begun = time.perf_counter()
    for _ in range(20):
        try:
            status, _ = await client.send(raw)
        except ConnectionError:  # it bounds the connections of one address
            status = 503
        if status != 503:
            return _good(status, (time.perf_counter() - begun) * 1000)
        await asyncio.sleep(1.0)
    raise RuntimeError("not taken in 20 attempts")


async def side_by_side(client: Client, raw: bytes, *, lanes: int, count: int) -> tuple[float, list[float]]:
    """The same request by `lanes` callers, `count` in all: requests a second, milliseconds of each."""
    left, times = iter(range(count)), list[float]()

    async def lane() -> None:
        for _ in left:
            times.append(_good(*await client.send(raw)))

    begun = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(lanes)))
    return count / (time.perf_counter() - begun), times


def _good(status: int, took: float) -> float:
    if status != 200:
        raise RuntimeError(f"answered {status}")
    return took
