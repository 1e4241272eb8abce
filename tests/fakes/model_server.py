"""A model vendor on loopback: OpenAI-compatible, Anthropic and Ollama wire forms, with scripted faults.

In tests: `async with ModelServer() as server: server.enqueue(Reply(text="hi")); … server.url`.
For benchmarks: `python -m tests.fakes.model_server --port 9999 [--first 0.5 --rate 50] --text hello`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Call:
    """A tool call to be sent; `arguments` is raw text, so that it can be wrong. Sent in `pieces` chunks."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"
    pieces: int = 3


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One scripted answer.

    Attributes:
        text: cut into tokens, unless `chunks` gives them.
        reasoning: sent in the vendor's own field before the text.
        stop: `stop`, `tool_calls`, `length`, `content_filter` (OpenAI words, translated for Anthropic).
        status, headers, body: a plain HTTP answer instead of a stream (body may be bytes).
        first, pause: seconds before the first chunk and between chunks.
        stall_at: after so many chunks nothing more comes, and the connection stays open.
        cut_at: after so many chunks the connection is closed without an end.
        raw: bytes sent as the stream's body, instead of all above.
        endless: text repeated for ever.
        usage: whether token counts are sent.
        newline: line end of the stream.
    """

    text: str = "hello"
    chunks: tuple[str, ...] = ()
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    stop: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | str | dict[str, Any] | None = None
    first: float = 0.0
    pause: float = 0.0
    stall_at: int | None = None
    cut_at: int | None = None
    raw: tuple[bytes, ...] = ()
    endless: str = ""
    usage: bool = True
    tokens_in: int = 11
    tokens_out: int = 7
    newline: str = "\n"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float

    @property
    def key(self) -> str:
        return self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")


def pieces(text: str, count: int) -> list[str]:
    """The text in about `count` parts."""
    size = max(1, -(-len(text) // max(1, count)))
    return [text[i : i + size] for i in range(0, len(text), size)] or [""]


def tokens(text: str) -> list[str]:
    """The text as a model would stream it: a few characters each."""
    return [text[i : i + 3] for i in range(0, len(text), 3)]


def _openai_chunk(delta: dict[str, Any], finish: str | None = None, model: str = "fake") -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def _finish(reply: Reply) -> str:
    return reply.stop or ("tool_calls" if reply.calls else "stop")


def openai_events(reply: Reply, model: str) -> list[str]:
    """The stream's data lines, without `data: `."""
    out: list[dict[str, Any]] = [_openai_chunk({"role": "assistant", "content": ""}, model=model)]
    out += [_openai_chunk({"reasoning_content": part}, model=model) for part in tokens(reply.reasoning)]
    out += [_openai_chunk({"content": part}, model=model) for part in (reply.chunks or tokens(reply.text))]
    for index, call in enumerate(reply.calls):
        first: dict[str, Any] = {"index": index, "id": call.id, "type": "function"}
        first["function"] = {"name": call.name, "arguments": ""}
        out.append(_openai_chunk({"tool_calls": [first]}, model=model))
        for part in pieces(call.arguments, call.pieces):
            out.append(_openai_chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]}, model=model))
    out.append(_openai_chunk({}, _finish(reply), model=model))
    if reply.usage:
        counts = {"prompt_tokens": reply.tokens_in, "completion_tokens": reply.tokens_out}
        out.append({**_openai_chunk({}, model=model), "choices": [], "usage": counts})
    return [json.dumps(item, ensure_ascii=False) for item in out] + ["[DONE]"]


def openai_whole(reply: Reply, model: str) -> dict[str, Any]:
    """The same answer, not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.chunks) or reply.text}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.calls:
        message["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in reply.calls
        ]
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": _finish(reply)}],
    }
    if reply.usage:
        body["usage"] = {"prompt_tokens": reply.tokens_in, "completion_tokens": reply.tokens_out}
    return body


STOPS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens", "content_filter": "refusal"}


def anthropic_events(reply: Reply, model: str) -> list[str]:
    """The stream's events; each is `<event name>\\n<data>`."""
    out: list[tuple[str, dict[str, Any]]] = []
    counts = {"input_tokens": reply.tokens_in, "output_tokens": 1} if reply.usage else {}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [], "usage": counts}
    out.append(("message_start", {"message": message}))
    out.append(("ping", {}))
    index = itertools.count()

    def block(start: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
        i = next(index)
        out.append(("content_block_start", {"index": i, "content_block": start}))
        out.extend(("content_block_delta", {"index": i, "delta": delta}) for delta in deltas)
        out.append(("content_block_stop", {"index": i}))

    if reply.reasoning:
        thoughts = [{"type": "thinking_delta", "thinking": part} for part in tokens(reply.reasoning)]
        block({"type": "thinking", "thinking": ""}, thoughts)
    if reply.text or reply.chunks:
        parts = reply.chunks or tokens(reply.text)
        block({"type": "text", "text": ""}, [{"type": "text_delta", "text": part} for part in parts])
    for call in reply.calls:
        parts = pieces(call.arguments, call.pieces)
        start = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        block(start, [{"type": "input_json_delta", "partial_json": part} for part in parts])
    delta: dict[str, Any] = {"delta": {"stop_reason": STOPS.get(_finish(reply), "end_turn")}}
    if reply.usage:
        delta["usage"] = {"output_tokens": reply.tokens_out}
    out += [("message_delta", delta), ("message_stop", {})]
    return [f"{name}\n{json.dumps({'type': name, **data}, ensure_ascii=False)}" for name, data in out]


def anthropic_whole(reply: Reply, model: str) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if reply.reasoning:
        content.append({"type": "thinking", "thinking": reply.reasoning})
    if reply.text or reply.chunks:
        content.append({"type": "text", "text": "".join(reply.chunks) or reply.text})
    for call in reply.calls:
        content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)})
    usage = {"input_tokens": reply.tokens_in, "output_tokens": reply.tokens_out}
    stop = STOPS.get(_finish(reply), "end_turn")
    return {"id": "msg_1", "type": "message", "model": model, "content": content, "stop_reason": stop, "usage": usage}


def error_body(status: int, code: str = "", message: str = "") -> dict[str, Any]:
    """An error in the form that OpenAI, Anthropic and most others share."""
    return {"type": "error", "error": {"message": message or f"status {status}", "type": code or "error", "code": code}}


PLAIN = "application/json"
STREAM = "text/event-stream; charset=utf-8"


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, keep-alive, one request at a time."""

    def __init__(self, server: ModelServer) -> None:
        self.server, self.buffer, self.task = server, b"", None
        self.transport: asyncio.Transport
        self.gone = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self.head: tuple[str, str, dict[str, str], int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.server.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self.room.set()
        self.server.open.discard(self)

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            if self.head is None:
                end = self.buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                lines = self.buffer[:end].decode("latin-1").split("\r\n")
                self.buffer = self.buffer[end + 4 :]
                method, path, _ = lines[0].split(" ", 2)
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
                self.head = (method, path, headers, int(headers.get("content-length") or 0))
            method, path, headers, length = self.head
            if len(self.buffer) < length:
                return
            body, self.buffer, self.head = self.buffer[:length], self.buffer[length:], None
            if self.server.at_once is not None and method == "POST":
                self.server.count += 1
                self.transport.write(self.server.at_once)
                continue
            asked = Asked(
                method=method,
                path=path,
                headers=headers,
                body=json.loads(body) if body else {},
                at=asyncio.get_running_loop().time(),
            )
            self.task = asyncio.ensure_future(self._respond(asked))
            return

    async def _respond(self, asked: Asked) -> None:
        self.server.count += 1
        self.server.now += 1
        self.server.most = max(self.server.most, self.server.now)
        try:
            await self.server.respond(asked, self)
        except ConnectionError:
            pass
        finally:
            self.server.now -= 1

    def whole(self, status: int, body: bytes, content_type: str = PLAIN, headers: dict[str, str] | None = None) -> None:
        extra = "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        self.transport.write(head.encode() + body)

    def start_stream(self) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {STREAM}\r\ntransfer-encoding: chunked\r\n\r\n"
        self.transport.write(head.encode())

    async def send(self, data: bytes) -> None:
        await self.room.wait()
        if self.gone.is_set():
            raise ConnectionResetError
        self.transport.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end_stream(self) -> None:
        self.transport.write(b"0\r\n\r\n")

    async def wait(self, seconds: float) -> None:
        """Sleep, but end with the connection."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.gone.wait(), seconds)
        if self.gone.is_set():
            raise ConnectionResetError


class ModelServer:
    """The vendor. `default` answers when nothing is queued; `asked` keeps what came (newest 1,000)."""

    def __init__(self, default: Reply | Callable[[Asked], Reply] | None = None) -> None:
        self.default: Reply | Callable[[Asked], Reply] = default or Reply()
        self.queue: deque[Reply] = deque()
        self.asked: deque[Asked] = deque(maxlen=1000)
        self.models: list[str] = ["fake", "fake-large"]
        self.at_once: bytes | None = None
        self.count = self.now = self.most = 0
        self.open: set[_Connection] = set()
        self.arrived = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.scheme, self.host, self.port = "http", "127.0.0.1", 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def enqueue(self, *replies: Reply) -> None:
        """Answers for the next requests, in order."""
        self.queue.extend(replies)

    async def start(self, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port, ssl=tls, backlog=1024)
        self.scheme, self.host = "https" if tls else "http", host
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = [connection.task for connection in self.open if connection.task is not None]
        for connection in list(self.open):
            connection.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def respond(self, asked: Asked, to: _Connection) -> None:
        path = asked.path.split("?")[0]
        if asked.method == "GET":
            to.whole(*self._listing(path))
            return
        self.asked.append(asked)
        self.arrived.set()
        wire = "anthropic" if path.endswith("/messages") else "openai" if path.endswith("/chat/completions") else ""
        if not wire:
            to.whole(404, b"<html><body><h1>404 Not Found</h1></body></html>", "text/html")
            return
        reply = self.queue.popleft() if self.queue else self.default
        reply = reply if isinstance(reply, Reply) else reply(asked)
        await self._answer(wire, asked, reply, to)

    def _listing(self, path: str) -> tuple[int, bytes]:
        if path.endswith("/api/tags"):
            found = [{"name": name, "model": name, "size": 1, "details": {"family": "fake"}} for name in self.models]
            return 200, json.dumps({"models": found}).encode()
        if path.endswith("/models"):
            listed = [{"id": name, "object": "model", "type": "model"} for name in self.models]
            return 200, json.dumps({"object": "list", "data": listed}).encode()
        return 404, json.dumps(error_body(404)).encode()

    async def _answer(self, wire: str, asked: Asked, reply: Reply, to: _Connection) -> None:
        model = str(asked.body.get("model", "fake"))
        if reply.body is not None or reply.status != 200:
            body = reply.body if reply.body is not None else error_body(reply.status)
            raw = json.dumps(body).encode() if isinstance(body, dict) else body
            raw = raw.encode() if isinstance(raw, str) else raw
            kind = reply.headers.get("content-type") or (PLAIN if raw[:1] in (b"{", b"[") else "text/html")
            extra = {k: v for k, v in reply.headers.items() if k != "content-type"}
            await to.wait(reply.first)
            to.whole(reply.status, raw, kind, extra)
            return
        if not asked.body.get("stream"):
            whole = openai_whole if wire == "openai" else anthropic_whole
            await to.wait(reply.first)
            to.whole(200, json.dumps(whole(reply, model)).encode())
            return
        to.start_stream()
        await to.wait(reply.first)
        sent = 0
        async for data in self._frames(wire, reply, model):
            if reply.cut_at is not None and sent >= reply.cut_at:
                to.transport.close()
                return
            if reply.stall_at is not None and sent >= reply.stall_at:
                await to.wait(3600)
            await to.send(data)
            sent += 1
            await to.wait(reply.pause)
        to.end_stream()

    async def _frames(self, wire: str, reply: Reply, model: str) -> AsyncIterator[bytes]:
        end = reply.newline
        if reply.raw:
            for data in reply.raw:
                yield data
            return
        if wire == "openai":
            frames = [f"data: {data}{end}{end}" for data in openai_events(reply, model)]
        else:
            split = [event.split("\n", 1) for event in anthropic_events(reply, model)]
            frames = [f"event: {name}{end}data: {data}{end}{end}" for name, data in split]
        if reply.endless:
            again = json.dumps(_openai_chunk({"content": reply.endless}, model=model))
            head, again_frame = frames[0], f"data: {again}{end}{end}"
            if wire == "anthropic":
                delta = {"index": 0, "delta": {"type": "text_delta", "text": reply.endless}}
                data = json.dumps({"type": "content_block_delta", **delta})
                again_frame = f"event: content_block_delta{end}data: {data}{end}{end}"
            yield head.encode()
            while True:
                yield again_frame.encode()
                await asyncio.sleep(0)
        for frame in frames:
            yield frame.encode()

    def answer_at_once(self, text: str = "hello") -> None:
        """From now on every POST gets the same streamed answer in one write, without being looked at."""
        lines = "".join(f"data: {data}\n\n" for data in openai_events(Reply(text=text), "fake"))
        body = lines.encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {STREAM}\r\ncontent-length: {len(body)}\r\n\r\n"
        self.at_once = head.encode() + body


HTML = "<!DOCTYPE html><html><head><title>Welcome</title></head><body>It works!</body></html>"


async def _serve(options: argparse.Namespace) -> None:
    server = ModelServer()
    good = Reply(text=options.text, first=options.first, pause=1 / options.rate if options.rate else 0.0)
    if options.first or options.rate:
        server.default = good
    elif not options.faults:
        server.answer_at_once(options.text)
    if options.faults:
        numbers = itertools.count(1)

        def sometimes(_asked: Asked) -> Reply:
            bad = next(numbers) % max(1, round(100 / options.faults)) == 0
            return Reply(status=503) if bad else good

        server.default = sometimes
    await server.start(host=options.host, port=options.port)
    print(f"listening on {server.url}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="A model server on loopback for tests and benchmarks")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--text", default="hello from the fake model")
    parser.add_argument("--first", type=float, default=0.0, help="seconds to the first token")
    parser.add_argument("--rate", type=float, default=0.0, help="tokens a second; 0: all at once")
    parser.add_argument("--faults", type=float, default=0.0, help="percent of calls answered with 503")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
