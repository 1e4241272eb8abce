"""A small fast HTTP/1.1 server on loopback for fakes: costs little beside what it is measured with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qs, urlsplit

import httptools


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Response:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False  # close the connection instead of answering
    after: float = 0.0  # seconds to wait before answering
    parts: tuple[bytes, ...] = ()


def answer(raw: object, status: int = 200, **headers: str) -> Response:
    return Response(
        status=status,
        body=json.dumps(raw, ensure_ascii=False).encode(),
        headers={
            "content-type": "application/json; charset=utf-8",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        },
    )


Handler = Callable[[Request], "Response | Awaitable[Response]"]


class _Peer(asyncio.Protocol):
    def __init__(self, server: QuickServer) -> None:
        self.server = server
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport | None = None
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.peers.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if self.transport:
                self.transport.close()

    def on_message_begin(self) -> None:
        self.url, self.headers, self.body = b"", {}, []  # type: ignore[var-annotated]

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        split = urlsplit(self.url.decode("latin-1"))
        query = {k: v[-1] for k, v in parse_qs(split.query).items()} if split.query else {}
        request = Request(self.parser.get_method().decode(), split.path, query, self.headers, b"".join(self.body))
        result = self.server.handler(request)
        if isinstance(result, Response) and not result.after:
            self.write(result)
        else:
            self.task = asyncio.get_running_loop().create_task(self.later(result))

    async def later(self, result: Response | Awaitable[Response]) -> None:
        response = result if isinstance(result, Response) else await result
        if response.after:
            await asyncio.sleep(response.after)
        self.write(response)

    def write(self, response: Response) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if response.drop:
            self.transport.abort()
            return
        head = [f"HTTP/1.1 {response.status} X", f"content-length: {len(response.body)}"]
        head += [f"{k}: {v}" for k, v in response.headers.items()]
        head.append(f"date: {formatdate(usegmt=True)}")
        self.transport.write(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + response.body)


class QuickServer:
    """Listens on 127.0.0.1; `handler` answers each request."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.peers: set[_Peer] = set()
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> str:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Peer(self), "127.0.0.1", port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.base

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for peer in tuple(self.peers):
                if peer.task is not None:
                    peer.task.cancel()
                if peer.transport is not None:
                    peer.transport.abort()
            await self._server.wait_closed()
            self._server = None
