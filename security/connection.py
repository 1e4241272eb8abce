"""One HTTP/1.1 connection of the egress client: writes a request, reads its answer, knows what has left.

Parsing is httptools' (llhttp, strict). httpcore is not used because the sender must know whether a request's
body had left when a connection broke, and because its pool looks at every connection for each request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

MOST_HEADERS = 64 * 1024
HIGH_WATER = 256 * 1024


class Broken(Exception):
    """The connection ended or the answer could not be read.

    Attributes:
        left: the request's body had left, so the other side may have acted on it.
        fresh: no byte of an answer had come.
    """

    def __init__(self, why: str, *, left: bool, fresh: bool) -> None:
        super().__init__(why)
        self.left, self.fresh = left, fresh


class Connection(asyncio.Protocol):
    """Serves one exchange at a time. `address` is the checked address it is connected to."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.used = 0
        self.left = False
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._header_bytes = 0
        self._headers_done = self._complete = self._paused = self._held = False
        self._keep = False
        self._head_only = False
        self._error: str | None = None
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._transport.set_write_buffer_limits(high=0)  # so that "written" means: handed to the kernel

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._complete:
            self._fail("unasked data")
            return
        if not self._headers_done:
            self._header_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"not HTTP: {type(error).__name__}")
            return
        if not self._headers_done and self._header_bytes > MOST_HEADERS:
            self._fail("headers too large")
        if self._buffered > HIGH_WATER and not self._held and self._transport is not None:
            self._held = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self.connection_lost(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        ended_by_close = exc is None and self._headers_done and not self._framed()
        if self._parser is not None and not self._complete:
            if ended_by_close:
                self._complete = True
            elif self._error is None:
                self._error = "connection closed" if exc is None else type(exc).__name__
        if self._transport is not None:
            self._transport.close()
        self._wake()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    # --- httptools' side

    def on_message_begin(self) -> None:
        self.headers, self.reason, self.status = [], b"", 0

    def on_status(self, status: bytes) -> None:
        self.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headers_done:  # trailers are not wanted
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None  # noqa: S101 - the parser calls
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._headers_done = True
            self._keep = self._parser.should_keep_alive()
            if self._head_only:
                self._complete, self._keep = True, False

    def on_body(self, body: bytes) -> None:
        if not self._complete:
            self._chunks.append(body)
            self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self._headers_done:
            self._complete = True

    # --- our side

    @property
    def usable(self) -> bool:
        """True if another exchange may begin."""
        return not self._closed and self._error is None

    async def send(self, method: str, head: bytes, body: bytes, written: Callable[[], None] | None = None) -> None:
        """Write one request and wait for the answer's headers (`status`, `headers`).

        Raises:
            Broken: see its `left` and `fresh`.
        """
        self._begin(method)
        transport = self._transport
        if transport is None or not self.usable:
            raise Broken("closed before use", left=False, fresh=True)
        if len(body) <= HIGH_WATER:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        # an early answer (413, 401) ends the wait: the rest of the body is not wanted
        while self._paused and not self._closed and not self._headers_done and self._error is None:
            await self._wait()
        if not self._paused and not self._closed:
            self.left = True
            if written is not None:
                written()
        while not self._headers_done and self._error is None and not self._closed:
            await self._wait()
        if not self._headers_done:
            raise Broken(self._error or "connection closed", left=self.left, fresh=self._header_bytes == 0)
        if not self.left:
            self._keep = False

    async def chunk(self) -> bytes | None:
        """The next piece of the answer's body, or None at its end.

        Raises:
            Broken: the answer was cut off or cannot be read.
        """
        while not self._chunks:
            if self._error is not None:
                raise Broken(self._error, left=True, fresh=False)
            if self._complete:
                return None
            await self._wait()
        piece = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._held and self._transport is not None and not self._closed:
            self._held = False
            self._transport.resume_reading()
        return piece

    def done(self) -> bool:
        """End the exchange. True if the connection can serve another one; else it is closed."""
        good = self._complete and self._keep and not self._chunks and self._error is None and not self._closed
        self._parser = None
        if not good:
            self.close()
        return good

    def rest(self, loop: asyncio.AbstractEventLoop, seconds: float, expired: Callable[[Connection], None]) -> None:
        """Wait idle in the pool, at most `seconds`."""
        self._expiry = loop.call_later(seconds, expired, self)

    def close(self) -> None:
        """Close at once."""
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _begin(self, method: str) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self.used += 1
        self._parser = httptools.HttpResponseParser(self)
        self._chunks.clear()
        self._buffered = self._header_bytes = 0
        self.left = self._headers_done = self._complete = self._keep = False
        self._head_only = method == "HEAD"

    def _framed(self) -> bool:
        """True if the answer says where it ends, so that a close before that is a cut."""
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    def _fail(self, why: str) -> None:
        if self._error is None:
            self._error = why
        self._closed = True
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


async def dial(address: str, port: int, *, tls: ssl.SSLContext | None = None, host: str | None = None) -> Connection:
    """Connect to one checked address; with `tls`, verify the certificate for `host`.

    Raises:
        OSError, ssl.SSLError: as the platform says.
    """
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(address), address, port, ssl=tls, server_hostname=host if tls is not None else None
    )
    return connection
