"""The egress client: resolves once, checks every address, connects to a checked one, checks each redirect again."""

from __future__ import annotations

import asyncio
import socket
import ssl
import statistics
import zlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from ipaddress import ip_network
from pathlib import Path

import httpx

from security.connection import Broken, Connection, dial
from security.egress import Policy
from security.names import Names, Resolver
from security.ranges import Network, closed, is_loopback, parse
from security.target import Target, build, head_of, read_url, redirected
from storage.clock import Clock
from storage.errors import AppError, Invalid, OutcomeUnknown, TooLarge, Unavailable

SKEW_EVERY = 10.0
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
IDLE_SECONDS = 4.0  # less than the usual server's 5, so that we rarely write into a closing connection
MOST_IDLE = 512
MOST_OPEN = 2000
CONNECT_SECONDS = 5.0
PIECE = 64 * 1024


def _listed(host: str, hosts: Sequence[str]) -> bool:
    return any(host == item or (item.startswith(".") and host.endswith(item)) for item in hosts)


class _Decoder:
    """Undoes gzip and deflate in bounded pieces, so that a small body cannot become a huge one at once."""

    def __init__(self, encoding: str) -> None:
        self._zlib = zlib.decompressobj(47) if encoding in ("gzip", "x-gzip", "deflate") else None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._zlib is None:
            yield data
            return
        while data:
            piece = self._zlib.decompress(data, PIECE)
            data = self._zlib.unconsumed_tail
            if piece:
                yield piece


class _Body(httpx.AsyncByteStream):
    """The rest of an answer, bounded in size and time; gives the connection back at its end."""

    def __init__(self, exchange: _Exchange, encoding: str) -> None:
        self._exchange, self._decoder = exchange, _Decoder(encoding)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange, taken = self._exchange, 0
        try:
            while True:
                async with asyncio.timeout_at(exchange.deadline):
                    data = await exchange.connection.chunk()
                if data is None:
                    return
                for piece in self._decoder.pieces(data):
                    taken += len(piece)
                    if taken > exchange.policy.most_bytes:
                        raise TooLarge("egress.size", most=exchange.policy.most_bytes)
                    yield piece
        except TimeoutError as error:
            raise exchange.lost("egress.timeout") from error
        except (Broken, zlib.error) as error:
            raise exchange.lost("egress.cut") from error

    async def aclose(self) -> None:
        self._exchange.end()


class _Exchange:
    """One request on one connection."""

    def __init__(self, client: EgressClient, key: tuple[bool, str, int], connection: Connection) -> None:
        self.client, self.key, self.connection = client, key, connection
        self.policy = Policy()
        self.deadline = 0.0
        self.method = ""
        self._ended = False

    def lost(self, code: str) -> AppError:
        """The error for an exchange that broke after its body had left."""
        return (Unavailable if self.method in SAFE else OutcomeUnknown)(code)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self.client.give_back(self.key, self.connection)


class EgressClient:
    """Implements `security.egress.Egress`.

    Args:
        resolver: names to addresses; the platform's by default. Tests pass their own.
        allow_local_vendors: tests only: an https-only policy may also reach loopback, there also without TLS.
        ca_file: further certificate authorities, e.g. a company's own.
    """

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        allow_local_vendors: bool = False,
        ca_file: Path | None = None,
        most_open: int = MOST_OPEN,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._allow_local, self._ca_file = allow_local_vendors, ca_file
        self._idle: dict[tuple[bool, str, int], list[Connection]] = {}
        self._idle_count = 0
        self._slots = asyncio.Semaphore(most_open)
        self._names = Names(resolver)
        self._tls: ssl.SSLContext | None = None
        self._opened: tuple[Network, ...] = ()
        self._skews: deque[float] = deque(maxlen=9)
        self._skew_at = 0.0

    def clock_skew(self) -> float | None:
        """Seconds that our clock is ahead of others', the median of late answers; None if too few said their time."""
        return statistics.median(self._skews) if len(self._skews) >= 3 else None

    def _compare_clocks(self, headers: list[tuple[bytes, bytes]]) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._skew_at:
            return
        for name, value in headers:
            if name.lower() == b"date":
                self._skew_at = now + SKEW_EVERY
                try:
                    theirs = parsedate_to_datetime(value.decode("latin-1")).timestamp()
                except (ValueError, TypeError):
                    return
                self._skews.append(self._clock.ms() / 1000 - theirs)

    def open_ranges(self, ranges: Sequence[str]) -> None:
        """Set the private ranges that an admin opened for everyone, e.g. `10.2.0.0/16` or `198.18.0.0/15`.

        Raises:
            Invalid: `egress.range` with the entry that is none.
        """
        nets = []
        for text in ranges:
            try:
                nets.append(ip_network(text, strict=False))
            except ValueError as error:
                raise Invalid("egress.range", entry=text) from error
        self._opened = tuple(nets)

    async def request(
        self,
        method: str,
        url: str,
        *,
        policy: Policy,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        json: object = None,
        files: Mapping[str, object] | None = None,
        data: Mapping[str, str] | None = None,
        written: object = None,
    ) -> httpx.Response:
        built = build(method, url, headers, content=content, json=json, files=files, data=data)
        async with self._answer(built, policy, written) as answer:
            body = b"".join([piece async for piece in answer.aiter_raw()])
            request, status, extensions = answer.request, answer.status_code, answer.extensions
            kept = [(k, v) for k, v in answer.headers.raw if k.lower() not in (b"transfer-encoding", b"content-length")]
        return httpx.Response(status, headers=kept, content=body, request=request, extensions=extensions)

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, policy: Policy, headers: Mapping[str, str] | None = None, json: object = None
    ) -> AsyncIterator[httpx.Response]:
        async with self._answer(build(method, url, headers, json=json), policy, None) as answer:
            yield answer

    async def connect(self, url: str, *, policy: Policy) -> tuple[socket.socket, ssl.SSLContext | None, str]:
        """A connected socket to a checked address, for protocols beside HTTP (WebSocket).

        Returns:
            The socket, the TLS context to wrap it with (None for ws/http) and the host to verify.
            `wss://` and `ws://` are read as https and http.
        """
        text = "http" + url[2:] if url.startswith(("ws:", "wss:")) else url
        target = read_url(text)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(policy.seconds):
                addresses = await self._checked(target, policy)
                info = await loop.getaddrinfo(addresses[0], target.port, type=socket.SOCK_STREAM)
                sock = socket.socket(info[0][0], socket.SOCK_STREAM)
                sock.setblocking(False)
                try:
                    await loop.sock_connect(sock, info[0][4])
                except BaseException:
                    sock.close()
                    raise
                return sock, await self._context() if target.tls else None, target.host
        except TimeoutError as error:
            raise Unavailable("egress.timeout", host=target.host) from error
        except OSError as error:
            raise Unavailable("egress.connect", host=target.host) from error

    async def close(self) -> None:
        for group in self._idle.values():
            for connection in group:
                connection.close()
        self._idle.clear()
        self._idle_count = 0
        self._names.close()

    # --- one exchange, redirects followed

    @asynccontextmanager
    async def _answer(self, request: httpx.Request, policy: Policy, written: object) -> AsyncIterator[httpx.Response]:
        deadline = asyncio.get_running_loop().time() + policy.seconds
        hops = 0
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError as error:
            raise Unavailable("egress.timeout") from error
        try:
            while True:
                answer, exchange = await self._once(request, policy, deadline, written)
                try:
                    goes_on = policy.redirects > 0 and answer.has_redirect_location
                    if not goes_on:
                        yield answer
                        return
                finally:
                    exchange.end()
                hops += 1
                if hops > policy.redirects:
                    raise Invalid("egress.redirects", most=policy.redirects)
                request, written = redirected(request, answer), None
        finally:
            self._slots.release()

    async def _once(
        self, request: httpx.Request, policy: Policy, deadline: float, written: object
    ) -> tuple[httpx.Response, _Exchange]:
        target = read_url(str(request.url))
        self._permit(target, policy)
        method, body = request.method, request.content
        head = head_of(method, target, request)
        tell = written if callable(written) else None
        while True:
            exchange = await self._take(target, policy, deadline)
            exchange.policy, exchange.deadline, exchange.method = policy, deadline, method
            connection = exchange.connection
            again = connection.used > 0
            try:
                async with asyncio.timeout_at(deadline):
                    await connection.send(method, head, body, tell)
            except TimeoutError as error:
                exchange.end()
                raise (exchange.lost("egress.timeout") if connection.left else _unsent(target, timeout=True)) from error
            except Broken as error:
                exchange.end()
                # a kept connection that the server was just closing: safe to repeat while nothing can have happened
                if again and error.fresh and (not error.left or method in SAFE):
                    continue
                raise (exchange.lost("egress.cut") if error.left else _unsent(target)) from error
            except BaseException:
                exchange.end()
                raise
            self._compare_clocks(connection.headers)
            encoding, headers = "", []
            for name, value in connection.headers:
                if name.lower() == b"content-encoding":
                    encoding = value.decode("latin-1").strip().lower()
                else:
                    headers.append((name, value))
            body_stream = _Body(exchange, encoding)
            extensions = {"reason_phrase": connection.reason, "http_version": b"HTTP/1.1"}
            answer = httpx.Response(
                connection.status, headers=headers, stream=body_stream, request=request, extensions=extensions
            )
            return answer, exchange

    # --- what may be reached

    def _permit(self, target: Target, policy: Policy) -> None:
        """Refuse what the policy forbids before any name is looked up."""
        if policy.hosts and not _listed(target.host, policy.hosts):
            raise Invalid("egress.host", host=target.host)
        if not target.tls and not policy.plain and not self._allow_local:
            raise Invalid("egress.plain", host=target.host)

    def _refused(self, target: Target, policy: Policy, address: str) -> AppError | None:
        """Why this address must not be used, or None."""
        local = self._allow_local and not policy.plain and is_loopback(address)
        if not target.tls and not policy.plain and not local:
            return Invalid("egress.plain", host=target.host)
        if not local and (why := closed(address, policy.private, self._opened)) is not None:
            return Invalid("egress.private", host=target.host, why=why)
        return None

    async def _checked(self, target: Target, policy: Policy) -> Sequence[str]:
        """Addresses of the target, every one of them allowed.

        Raises:
            Invalid: `egress.private`, `egress.plain`. Unavailable: `egress.dns`.
        """
        self._permit(target, policy)
        bare = target.host.strip("[]")
        addresses = (bare,) if parse(bare) is not None else await self._names.find(target.host, target.port)
        for address in addresses:
            if (error := self._refused(target, policy, address)) is not None:
                raise error
        return addresses

    # --- connections

    async def _take(self, target: Target, policy: Policy, deadline: float) -> _Exchange:
        key = (target.tls, target.host, target.port)
        group = self._idle.get(key)
        while group:
            connection = group.pop()
            self._idle_count -= 1
            if not group:
                del self._idle[key]
            # made under another policy perhaps: its address is checked again under this one
            if connection.usable and self._refused(target, policy, connection.address) is None:
                return _Exchange(self, key, connection)
            connection.close()
        try:
            async with asyncio.timeout_at(deadline):
                return _Exchange(self, key, await self._connect(target, policy))
        except TimeoutError as error:
            raise _unsent(target, timeout=True) from error

    async def _connect(self, target: Target, policy: Policy) -> Connection:
        addresses = await self._checked(target, policy)
        tls = await self._context() if target.tls else None
        host = target.host.strip("[]")
        last: BaseException | None = None
        for address in addresses[:6]:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await dial(address, target.port, tls=tls, host=host)
            except ssl.SSLError as error:
                why = getattr(error, "verify_message", "") or error.reason or ""
                raise Unavailable("egress.tls", host=target.host, why=str(why)) from error
            except (OSError, TimeoutError) as error:
                last = error
        raise _unsent(target, timeout=isinstance(last, TimeoutError)) from last

    def give_back(self, key: tuple[bool, str, int], connection: Connection) -> None:
        """Keep a connection for the next exchange if it can serve one."""
        if not connection.done():
            return
        if self._idle_count >= MOST_IDLE:
            connection.close()
            return
        self._idle.setdefault(key, []).append(connection)
        self._idle_count += 1
        connection.rest(asyncio.get_running_loop(), IDLE_SECONDS, lambda old: self._expired(key, old))

    def _expired(self, key: tuple[bool, str, int], connection: Connection) -> None:
        group = self._idle.get(key, [])
        if connection in group:
            group.remove(connection)
            self._idle_count -= 1
        if not group:
            self._idle.pop(key, None)
        connection.close()

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            # reading the certificate store takes tens of milliseconds: not on the event loop, and only once
            made = await asyncio.get_running_loop().run_in_executor(None, _tls_context, self._ca_file)
            self._tls = self._tls or made
        return self._tls


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _unsent(target: Target, *, timeout: bool = False) -> Unavailable:
    return Unavailable("egress.timeout" if timeout else "egress.connect", host=target.host)
