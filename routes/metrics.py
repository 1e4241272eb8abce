"""`/metrics`: on its own port on loopback for anybody on this machine, on the main port for who holds the token.

The own port is a plain asyncio listener, so that scrapes never wait for the panel. A port that is taken by another
program is told with a remedy and never keeps the process from starting.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable
from contextlib import suppress

from starlette.types import Receive, Scope, Send

from security.addresses import Addresses
from security.gate import header
from storage.background import Background
from storage.errors import AppError
from storage.metrics import CONTENT_TYPE, Metrics
from storage.preflight import holder_of, open_port

log = logging.getLogger(__name__)

MOST_HEAD = 8192
HEAD_SECONDS = 5.0
ANSWER_SECONDS = 20.0
MOST_OPEN = 20
LAG_SECONDS = 0.5
HOSTS = ("127.0.0.1", "::1")
_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}


class MetricsListener:
    """`http://127.0.0.1:<port>/metrics`, and on `::1` where there is IPv6."""

    def __init__(self, metrics: Metrics, background: Background, addresses: Addresses, port: int) -> None:
        self.metrics, self.background, self.addresses, self.port = metrics, background, addresses, port
        self.refusal: AppError | None = None
        self._servers: list[asyncio.Server] = []
        self._open = 0
        self._lag: asyncio.Task[None] | None = None

    @property
    def listening(self) -> bool:
        """True while the port is ours."""
        return bool(self._servers)

    async def start(self) -> None:
        """Listen, and begin to watch the event loop. A port that cannot be had is kept as `refusal`. Safe to repeat."""
        if self._lag is None:
            self._lag = self.background.spawn("loop lag", self._watch())
        if not self.port or self._servers:
            return
        self.refusal = None
        try:
            sockets = await asyncio.to_thread(open_port, HOSTS[0], self.port)
        except AppError as error:
            self.refusal = AppError("metrics.port", port=self.port, holder=await asyncio.to_thread(_holder, self.port))
            log.warning("metrics are not served on port %s: %s", self.port, error)
            return
        with suppress(AppError):
            sockets += await asyncio.to_thread(open_port, HOSTS[1], self.port)
        for made in sockets:
            self._servers.append(await asyncio.start_server(self._serve, sock=made, limit=MOST_HEAD))

    async def stop(self) -> None:
        """Let go of the port."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._lag is not None:
            self._lag.cancel()
            self._lag = None

    async def _watch(self) -> None:
        clock = self.metrics.clock
        while True:
            before = clock.monotonic()
            await asyncio.sleep(LAG_SECONDS)
            self.metrics.loop_lag.observe(max(0.0, clock.monotonic() - before - LAG_SECONDS))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MOST_OPEN:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._answer(reader, writer)
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        method, _, rest = first.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        host = next(
            (value.strip() for name, _, value in (line.partition(":") for line in lines) if name.lower() == "host"), ""
        )
        peer = str((writer.get_extra_info("peername") or ("",))[0])
        status, body = 200, b""
        if host and not self.addresses.known_host(host):
            status = 403  # a page in a browser, whose name was pointed at this machine
        elif not self.addresses.allowed("metrics", peer):
            status = 403
        elif path != "/metrics":
            status = 404
        elif method not in ("GET", "HEAD"):
            status = 405
        else:
            body = await self.metrics.exposition()
        head_out = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {CONTENT_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        writer.write(head_out.encode() + (b"" if method == "HEAD" else body))
        await writer.drain()


def _holder(port: int) -> str:
    return holder_of(port) or "?"


class MetricsRoute:
    """`/metrics` on the main port. Without a token that an admin made, there is nothing here.

    Args:
        digest: SHA-256 of the token in hex; empty: none was made.
    """

    def __init__(self, metrics: Metrics, digest: Callable[[], str]) -> None:
        self.metrics, self.digest = metrics, digest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        wanted = self.digest()
        kind, _, token = header(scope, b"authorization").partition(" ")
        given = hashlib.sha256(token.strip().encode()).hexdigest()
        if not wanted or scope["method"] not in ("GET", "HEAD"):
            await _plain(send, 404 if not wanted else 405)
        elif kind.lower() != "bearer" or not hmac.compare_digest(given, wanted):
            await _plain(send, 401)
        else:
            await _plain(send, 200, await self.metrics.exposition())


async def _plain(send: Send, status: int, body: bytes = b"") -> None:
    headers = {
        "content-type": CONTENT_TYPE,
        "content-length": str(len(body)),
        "cache-control": "no-store",
        **({"www-authenticate": "Bearer"} if status == 401 else {}),
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
