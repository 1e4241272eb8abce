"""The HTTP protocol of our server: uvicorn's, with bounds on headers, on time to send them, and on connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
HEAD_MOST = 64 * 1024
CONNECTIONS_OF_ADDRESS = 400
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Bounded(HttpToolsProtocol):
    """Cuts who sends endless or endlessly slow headers, or opens too many connections. Made by `bounded`."""

    exempt: Callable[[str], bool]
    most: int
    count: Counter[str]

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _head_done = False
    _ip = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        ip = self.client[0] if self.client else ""
        if not type(self).exempt(ip):
            self._ip = ip
            self.count[ip] += 1
            if self.count[ip] > self.most:
                transport.abort()
                return
        self._timer = self.loop.call_later(HEAD_SECONDS, self._late)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if not self._head_done and self._head_bytes > HEAD_MOST and not self.transport.is_closing():
            self.transport.write(TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_done = False
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._late)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # trailers are not wanted
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_done = True
        self._stop()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head_bytes = 0

    def handle_websocket_upgrade(self) -> None:
        self._leave()
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def _late(self) -> None:
        self._timer = None
        self.transport.abort()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave(self) -> None:
        self._stop()
        if self._ip:
            self.count[self._ip] -= 1
            if self.count[self._ip] <= 0:
                del self.count[self._ip]
            self._ip = ""


def bounded(exempt: Callable[[str], bool], *, most: int = CONNECTIONS_OF_ADDRESS) -> type[Bounded]:
    """A protocol class for `uvicorn.Config(http=…)`, with its own count of connections.

    Args:
        exempt: addresses that may open any number of connections: trusted proxies.
        most: connections from one other address.
    """
    return type("BoundedHere", (Bounded,), {"exempt": staticmethod(exempt), "most": most, "count": Counter()})
