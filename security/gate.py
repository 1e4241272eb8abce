"""The gate in front of NiceGUI: Host, Origin and a live session for every request, socket, event and upload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from html import escape
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from security.addresses import Addresses, Peer, host_of
from security.page_clients import SCOPE_SESSION, PageClients, only_query_value, owner_of
from security.sessions import Live, Sessions
from security.setup import Setup
from storage.background import Background
from storage.clock import Clock
from storage.errors import AppError, Denied
from storage.principal import Principal

log = logging.getLogger(__name__)

Refuse = Callable[[Scope, Receive, Send, int, str], Awaitable[None]]

SCOPE_WHO, SCOPE_PEER, SCOPE_THEME = "zhixing.principal", "zhixing.peer", "zhixing.theme"
COOKIE, SECURE_COOKIE = "zhixing", "__Host-zhixing"
INTERNAL, SOCKETS, CLIENTS = "/_nicegui", "/_nicegui_ws/", "/_nicegui/client/"
UPLOAD_MOST = 50_000_000
BODY_MOST = 1_000_000
SOCKETS_OF_SESSION = 20
SOCKETS_OF_ALL = 600
EVENTS_PER_SECOND = 60.0
EVENTS_AT_ONCE = 400.0
TO_LOGIN = '42["open",{"path":"/login","new_tab":false}]'  # what NiceGUI's page understands as: go there
SWEEP = 10


def header(scope: Scope, name: bytes) -> str:
    """The value of a header; empty if it is missing, and if it stands twice with different values."""
    values = {value for key, value in scope["headers"] if key == name}
    return values.pop().decode("latin-1") if len(values) == 1 else ""


def cookie(scope: Scope, name: str) -> str:
    """The value of a cookie; empty if it is missing or stands twice with different values (a planted one)."""
    found = set()
    for key, raw in scope["headers"]:
        if key == b"cookie":
            for pair in raw.decode("latin-1").split(";"):
                left, _, right = pair.partition("=")
                if left.strip() == name:
                    found.add(right.strip().strip('"'))
    return found.pop() if len(found) == 1 else ""


def session_cookie(scope: Scope, *, secure: bool) -> str:
    """The session cookie's value. Over TLS only the name that no other host and no plain page can set counts."""
    return cookie(scope, SECURE_COOKIE if secure else COOKIE)


def same_origin(scope: Scope) -> bool:
    """True if a browser sent the request from one of our own pages.

    Browsers send Origin with every unsafe request; where one hides it ("null") its Sec-Fetch-Site must say so, and
    where there is none the Referer must be ours.
    """
    host, origin = host_of(header(scope, b"host")), header(scope, b"origin")
    site = header(scope, b"sec-fetch-site")
    if site and site != "same-origin":
        return False
    if origin and origin != "null":
        return _matches(origin, host)
    if site == "same-origin":
        return True
    referer = header(scope, b"referer")
    return bool(referer) and not origin and _matches(referer, host)


def _matches(url: str, host: tuple[str, str]) -> bool:
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in ("http", "https"):
        return False
    usual = {"http": "80", "https": "443"}[scheme]
    name, port = host_of(rest.partition("/")[0])
    return bool(name) and name == host[0] and (port or usual) == (host[1] or usual)


@dataclass(eq=False, slots=True)
class _Socket:
    """One open socket and the session it belongs to."""

    session: str
    send: Send
    over: bool = False
    tokens: float = EVENTS_AT_ONCE
    at: float = field(default=0.0)


class Gate:
    """Pure ASGI around NiceGUI. `app` is what it guards; set it with `guard` once that is built.

    Args:
        refuse: shows a refusal (`status`, code) as a plain page; plain text if none is given.
    """

    def __init__(
        self,
        *,
        sessions: Sessions,
        setup: Setup,
        addresses: Addresses,
        background: Background,
        clock: Clock,
        refuse: Refuse | None = None,
    ) -> None:
        self.sessions, self.setup, self.addresses = sessions, setup, addresses
        self.background, self.clock = background, clock
        self.refuse = refuse or _plain
        self.app: ASGIApp = _nothing
        self.clients = PageClients(sessions)
        self._sockets: dict[str, set[_Socket]] = {}
        self._count = 0
        sessions.on_end(self._session_ended)

    def guard(self, app: ASGIApp) -> Gate:
        """Guard this app from now on. Call it after `ui.run_with`: NiceGUI's socket handlers are wrapped here."""
        self.app = app
        self.clients.install()
        return self

    def start(self) -> None:
        """Begin to look after sessions and pages once a second. Call it in the running event loop."""
        _ = self.background.spawn("gate", self._run())

    # --- what pages use

    def claim(self, client_id: str, who: Principal) -> None:
        """Check that a page is being built for the session that asks for it.

        Raises:
            Denied: `session.not_yours`.
        """
        if owner_of(client_id) != who.session or not self.alive(who):
            raise Denied("session.not_yours")

    def alive(self, who: Principal) -> bool:
        """True while the principal's session may act. Costs no database read."""
        return self.sessions.alive(who.session)

    # --- requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def session(self, scope: Scope) -> Live | None:
        """The live session of a request or socket, whatever its role."""
        return await self.sessions.find(session_cookie(scope, secure=self.peer(scope).secure))

    def peer(self, scope: Scope) -> Peer:
        """Who sent the request; the front has looked already, as a rule."""
        if SCOPE_PEER not in scope:
            scope[SCOPE_PEER] = self.addresses.peer(scope)
        peer: Peer = scope[SCOPE_PEER]
        return peer

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, peer = str(scope["path"]), self.peer(scope)
        if not self.addresses.known_host(header(scope, b"host")):
            await self.refuse(scope, receive, send, 421, "gate.host")
            return
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and not same_origin(scope):
            await self.refuse(scope, receive, send, 403, "gate.origin")
            return
        if path.startswith(SOCKETS):
            await _plain(scope, receive, send, 400, "gate.websocket")
            return
        live = await self.session(scope)
        if live is None or not live.who.may("account.own"):
            await self._stranger(scope, receive, send, live)
            return
        self._name(scope, live, peer)
        if path.startswith(CLIENTS):
            if owner_of(path[len(CLIENTS) :].partition("/")[0]) != live.id:
                await _plain(scope, receive, send, 403, "gate.client")
                return
            await self.app(scope, _bounded(scope, receive, UPLOAD_MOST), send)
            return
        if not path.startswith(INTERNAL) and scope["method"] == "GET" and not self.clients.room(live.id):
            await self.refuse(scope, receive, send, 503, "gate.pages")
            return
        await self.app(scope, _bounded(scope, receive, BODY_MOST), send)

    def _name(self, scope: Scope, live: Live, peer: Peer) -> None:
        """Say in the scope who asks; pages and sockets read it there."""
        scope[SCOPE_SESSION] = live.id
        scope[SCOPE_WHO] = live.principal(peer.ip, header(scope, b"accept-language"))
        scope[SCOPE_THEME] = live.theme
        if not peer.proxied:
            # NiceGUI writes this one into the page
            scope["headers"] = [(k, v) for k, v in scope["headers"] if k != b"x-forwarded-prefix"]

    async def _stranger(self, scope: Scope, receive: Receive, send: Send, live: Live | None) -> None:
        """Send a person to the login; anything else gets nothing."""
        path = str(scope["path"])
        if path.startswith(INTERNAL) or scope["method"] not in ("GET", "HEAD"):
            await _plain(scope, receive, send, 401, "session.missing")
            return
        if await self.setup.needed():
            place = "/setup/code" if live is None else "/setup/admin"
        else:
            query = scope.get("query_string", b"").decode("latin-1")
            wanted = path + (f"?{query}" if query else "")
            if header(scope, b"sec-fetch-site") in ("cross-site", "same-site"):
                await _again(send, wanted)  # a link elsewhere: the browser kept our strict cookie back
                return
            place = "/login" if wanted == "/" else "/login?next=" + quote(wanted[:1000], safe="/")
        await _redirect(send, place)

    # --- sockets

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        live = await self._socket_session(scope)
        if live is None:
            await receive()
            await send({"type": "websocket.close", "code": 4401})
            return
        self._name(scope, live, self.peer(scope))
        socket = _Socket(session=live.id, send=send, at=self.clock.monotonic())
        self._sockets.setdefault(live.id, set()).add(socket)
        self._count += 1
        try:
            await self.app(scope, lambda: self._receive(socket, receive), lambda message: _speak(socket, message))
        finally:
            self._count -= 1
            group = self._sockets.get(live.id, set())
            group.discard(socket)
            if not group:
                self._sockets.pop(live.id, None)

    async def _socket_session(self, scope: Scope) -> Live | None:
        """The session that may open this socket, or None."""
        host, origin = header(scope, b"host"), header(scope, b"origin")
        if not str(scope["path"]).startswith(SOCKETS) or self.peer(scope).bad:
            return None
        if not self.addresses.known_host(host) or not _matches(origin, host_of(host)):
            return None
        live = await self.session(scope)
        if live is None or not live.who.may("account.own"):
            return None
        query = scope.get("query_string", b"")
        if only_query_value(query, "transport") != "websocket" or b"sid=" in query:
            return None
        client_id = only_query_value(query, "client_id")
        if not client_id or owner_of(client_id) not in (live.id, None):  # of a page that is gone: told to reload
            return None
        if self._count >= SOCKETS_OF_ALL or len(self._sockets.get(live.id, ())) >= SOCKETS_OF_SESSION:
            return None
        return live

    async def _receive(self, socket: _Socket, receive: Receive) -> Message:
        """The next message, at most so many a second; none once the session is over."""
        message = await receive()
        now = self.clock.monotonic()
        socket.tokens = min(EVENTS_AT_ONCE, socket.tokens + (now - socket.at) * EVENTS_PER_SECOND) - 1
        socket.at = now
        if socket.tokens < 0 and message["type"] == "websocket.receive":
            await asyncio.sleep(-socket.tokens / EVENTS_PER_SECOND)  # the sender is slowed down, nobody else
        if socket.over or not self.sessions.alive(socket.session):
            return {"type": "websocket.disconnect", "code": 4401}
        return message

    def _session_ended(self, session: str) -> None:
        """Pushed by the sessions: from now on nothing of it is heard, and its sockets are closed."""
        group = self._sockets.get(session)
        for socket in group or ():
            socket.over = True
        if group or self.clients.of(session):
            _ = self.background.spawn("gate.close", self._close(session, list(group or ())))

    async def _close(self, session: str, group: list[_Socket]) -> None:
        for socket in group:
            try:
                async with asyncio.timeout(1):
                    await socket.send({"type": "websocket.send", "text": TO_LOGIN})
                    await socket.send({"type": "websocket.close", "code": 4401})
            except (OSError, RuntimeError, TimeoutError) as error:
                log.debug("socket was gone already: %s", error)
        self.clients.drop(session)

    # --- upkeep

    async def _run(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(1)
            rounds += 1
            self.sessions.expire()
            if rounds % SWEEP == 0:
                self.clients.prune()
                try:
                    await self.sessions.sweep()
                except AppError as error:
                    log.warning("sessions not read again: %s", error)
            if rounds % 3600 == 0:
                await self._tidy()

    async def _tidy(self) -> None:
        try:
            await self.sessions.tidy()
        except AppError as error:
            log.warning("old sessions not removed: %s", error)


async def _speak(socket: _Socket, message: Message) -> None:
    if not socket.over:
        await socket.send(message)


def _bounded(scope: Scope, receive: Receive, most: int) -> Receive:
    """A body of at most `most` bytes; beyond that the sender seems to have gone."""
    length = header(scope, b"content-length")
    taken = most + 1 if length.isdigit() and int(length) > most else 0

    async def bounded() -> Message:
        nonlocal taken
        if taken > most:
            return {"type": "http.disconnect"}
        message = await receive()
        taken += len(message.get("body", b""))
        return message if taken <= most else {"type": "http.disconnect"}

    return bounded


async def _redirect(send: Send, place: str) -> None:
    headers = [(b"location", place.encode("latin-1")), (b"cache-control", b"no-store"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _again(send: Send, wanted: str) -> None:
    """Let the browser ask once more by itself; then it counts as our own page and the cookie comes along."""
    place = escape(quote(wanted[:2000], safe="/?&=%-._~+,:@"), quote=True)
    body = f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={place}">'.encode()
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    headers += [(b"cache-control", b"no-store"), (b"content-security-policy", b"default-src 'none'")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _plain(scope: Scope, receive: Receive, send: Send, status: int, code: str) -> None:
    body = code.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    headers += [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await _plain(scope, receive, send, 503, "gate.starting")
