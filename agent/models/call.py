"""One model behind HTTP: calls, waits, retries. What is said on the wire is the wire's business."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import orjson

from agent.models.assembly import Assembly
from agent.models.base import ModelEvent, ModelRequest, Retracted, TextDelta
from agent.models.keys import REFUSED_REST, Keys
from agent.models.refusal import hidden_refusal, outside, refusal, retry_after
from agent.models.sse import SseParser
from security.egress import ADMIN, Egress
from storage.clock import Clock
from storage.errors import AppError, Rejected, Throttled, Unavailable

RETRIES = 3
MOST_WHOLE = 4_000_000
MOST_STREAM = 40_000_000
DRAIN = 0.05
AFTER_FINISH = 2.0


class Wire(Protocol):
    """How one kind of API is spoken."""

    url: str

    def headers(self, key: str) -> dict[str, str]: ...
    def body(self, request: ModelRequest, *, temperature: float | None, max_tokens: int | None) -> dict[str, Any]: ...
    def learn(self, reason: str) -> bool: ...
    def read(self, name: str, data: bytes, into: Assembly) -> None: ...
    def whole(self, body: Mapping[str, Any], into: Assembly) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class CallSettings:
    """What an admin set for a model; a request's own values come first.

    Attributes:
        timeout: upper bound of the request's deadline, in seconds; 0 for none.
        retries: how often a failed call is repeated.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    timeout: float = 0.0
    retries: int = RETRIES


class HttpModel:
    """A `base.Model` over the egress client."""

    def __init__(
        self,
        *,
        name: str,
        wire: Wire,
        keys: Keys,
        egress: Egress,
        clock: Clock,
        context_tokens: int = 32_000,
        settings: CallSettings | None = None,
        jitter: Callable[[], float] = random.random,
        pause: float = 0.4,
    ) -> None:
        self.name, self.wire, self.keys, self.egress, self.clock = name, wire, keys, egress, clock
        self.context_tokens, self.settings, self._jitter = context_tokens, settings or CallSettings(), jitter
        self._pause = pause
        self._thinks_first = False

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent | Retracted, None]:
        """See `base.Model.stream`."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        seconds = min(request.deadline, self.settings.timeout) if self.settings.timeout else request.deadline
        deadline, patience = start + seconds, start + min(seconds, request.retry_within)
        retries = handed = 0
        while True:
            key = self.keys.pick()
            try:
                async with aclosing(self._once(request, key, start, deadline)) as events:
                    async for event in events:
                        if type(event) is TextDelta:
                            handed = 1
                        yield event
                return
            except AppError as error:
                if handed or retries >= self.settings.retries:
                    raise
                wait = self._wait_before_again(error, key, retries)
                retries += 1
                if wait is None or loop.time() + wait >= patience:
                    raise
                await asyncio.sleep(wait)

    def _wait_before_again(self, error: AppError, key: str, retries: int) -> float | None:
        """Seconds to wait before another try; None if there is to be none."""
        backoff = min(8.0, self._pause * 2**retries) * (0.5 + self._jitter())
        match error:
            case Throttled():
                other = self.keys.rest(key, max(1.0, error.retry_after))
                return 0.0 if other else max(error.retry_after, backoff)
            case Rejected(code="model.key" | "model.quota"):
                return 0.0 if self.keys.rest(key, REFUSED_REST) else None
            case Rejected(code="model.bad_request"):
                return 0.0 if self.wire.learn(error.reason) else None
            case Rejected() | Unavailable(code="model.empty" | "model.tls"):
                return None
            case Unavailable():
                # what took long once is not asked again: another model is the better use of the time
                return None if error.code == "model.timeout" and error.params.get("why") != "vendor" else backoff
        return None

    async def _once(
        self, request: ModelRequest, key: str, start: float, deadline: float
    ) -> AsyncGenerator[ModelEvent | Retracted, None]:
        loop = asyncio.get_running_loop()
        body = self.wire.body(
            request,
            temperature=self.settings.temperature if request.temperature is None else request.temperature,
            max_tokens=self.settings.max_tokens if request.max_tokens is None else request.max_tokens,
        )
        into = Assembly(request, thinks_first=self._thinks_first)
        waits = _Waits(loop, request, start, deadline)
        call = self.egress.stream("POST", self.wire.url, policy=ADMIN, headers=self.wire.headers(key), json=body)
        first = 0.0
        try:
            async with waits.opening():
                answer = await call.__aenter__()
            try:
                async with aclosing(self._pieces(answer, into, waits)) as pieces:
                    async for _ in pieces:
                        for event in into.take():
                            first = first or loop.time()
                            yield event
            finally:
                await call.__aexit__(None, None, None)
        except httpx.HTTPError as error:
            raise Unavailable("model.broken", why=type(error).__name__) from error
        except AppError as error:
            raise (outside(error) if error.code.startswith("egress.") else error) from error
        into.close()
        self._thinks_first = into.thinks_first
        for event in into.take():
            yield event
        now = loop.time()
        yield into.completed(
            name=self.name, first_ms=round(((first or now) - start) * 1000), total_ms=round((now - start) * 1000)
        )

    async def _pieces(self, answer: httpx.Response, into: Assembly, waits: _Waits) -> AsyncGenerator[None, None]:
        """Read the answer into `into`; yields whenever something may have come."""
        kind = answer.headers.get("content-type", "").lower()
        if answer.status_code != 200 or "json" in kind or "html" in kind:
            await self._plain(answer, into, waits, kind)
            yield
            return
        parser, read, size = SseParser(), self.wire.read, 0
        async with aclosing(answer.aiter_raw()) as chunks:  # type: ignore[type-var]
            while not into.done:
                chunk = await waits.next(chunks, into)
                if chunk is None:
                    break
                size += len(chunk)
                if size > MOST_STREAM:
                    raise Unavailable("model.broken", why="endless")
                for event in parser.feed(chunk):
                    read(event.name, event.data, into)
                    if into.done:
                        break
                yield
            else:
                await waits.drain(chunks)
        if not into.done:
            for event in parser.finish():
                read(event.name, event.data, into)
        if not into.done and not into.finished:
            raise self._cut(parser)

    def _cut(self, parser: SseParser) -> AppError:
        """The error for a stream without an end: perhaps it was no stream at all."""
        if not parser.events and parser.stray:
            try:
                body = orjson.loads(parser.stray)
            except orjson.JSONDecodeError:
                body = None
            if isinstance(body, dict) and (error := hidden_refusal(body, model=self.name)):
                return error
            if parser.stray.lstrip()[:1] == b"<":
                return Rejected("model.not_api", reason="HTML")
        return Unavailable("model.broken", why="cut")

    async def _plain(self, answer: httpx.Response, into: Assembly, waits: _Waits, kind: str) -> None:
        """An answer that is no stream: an error, or the whole answer in one piece."""
        parts: list[bytes] = []
        size = 0
        async with aclosing(answer.aiter_raw()) as chunks:  # type: ignore[type-var]
            while (chunk := await waits.next(chunks, into)) is not None:
                size += len(chunk)
                if size > MOST_WHOLE:
                    raise Unavailable("model.broken", why="size")
                parts.append(chunk)
        raw = b"".join(parts)
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = raw[:5000].decode("utf-8", "replace")
        status = answer.status_code
        if status != 200:
            wait = retry_after(answer.headers, self.clock.ms())
            raise refusal(status, body, wait=wait, model=self.name)
        if not isinstance(body, dict):
            raise Rejected("model.not_api", reason="HTML" if "html" in kind else "")
        self.wire.whole(body, into)


class _Waits:
    """How long each wait of one attempt may take."""

    def __init__(self, loop: asyncio.AbstractEventLoop, request: ModelRequest, start: float, deadline: float) -> None:
        self._loop, self._deadline = loop, deadline
        self._first, self._stall = start + request.first_token, request.stall

    def opening(self) -> _Opening:
        return _Opening(self, min(self._first, self._deadline))

    async def next(self, chunks: AsyncIterator[bytes], into: Assembly) -> bytes | None:
        """The next chunk; None at the end, also where a finished answer just never ends."""
        now = self._loop.time()
        limit = self._first if not into.begun else now + (AFTER_FINISH if into.finished else self._stall)
        try:
            async with asyncio.timeout_at(min(limit, self._deadline)):
                return await anext(chunks, None)
        except TimeoutError as error:
            if into.finished:
                return None
            raise self.problem(into.begun) from error

    async def drain(self, chunks: AsyncIterator[bytes]) -> None:
        """Read what is behind the end, so that the connection can serve the next call."""
        try:
            async with asyncio.timeout(DRAIN):
                while await anext(chunks, None) is not None:
                    pass
        except (TimeoutError, AppError, httpx.HTTPError):
            return

    def problem(self, begun: bool) -> Unavailable:
        """The error for what took too long."""
        if self._loop.time() >= self._deadline:
            return Unavailable("model.timeout", why="deadline")
        return Unavailable("model.timeout", why="stall" if begun else "first")


class _Opening:
    """A timeout around connecting, which ends as a model's error."""

    def __init__(self, waits: _Waits, limit: float) -> None:
        self._waits, self._timeout = waits, asyncio.timeout_at(limit)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise self._waits.problem(begun=False) from late
