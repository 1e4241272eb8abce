"""The front: plain ASGI before NiceGUI. Hot routes never pay for it, unknown paths never reach it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from security.addresses import Addresses, host_of, is_loopback
from security.gate import SCOPE_PEER, header
from security.throttle import Throttle

# Served by the plain router that app.py gives; an entry that ends in a slash covers all below it.
HOT = (
    "/webhooks/",
    "/hooks/",
    "/api/",
    "/v1/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/login",
    "/logout",
    "/setup/code",
    "/setup/admin",
    "/setup/totp",
    "/assets/",
    "/favicon.ico",
)
KINDS = {"/webhooks/": "webhooks", "/hooks/": "webhooks", "/api/": "api", "/v1/": "api", "/metrics": "metrics"}
OPEN = ("/healthz", "/readyz")
INTERNAL = ("/_nicegui/", "/_nicegui_ws/")


class Pages:
    """Knows which paths are pages, parametrised ones too."""

    def __init__(self, paths: Callable[[], Sequence[str]]) -> None:
        self._paths = paths
        self._fixed: frozenset[str] = frozenset()
        self._patterns: list[re.Pattern[str]] = []
        self._seen = -1

    def __call__(self, path: str) -> bool:
        """True if a page answers there."""
        paths = self._paths()
        if len(paths) != self._seen:
            self._seen = len(paths)
            self._fixed = frozenset(p for p in paths if "{" not in p)
            self._patterns = [compile_path(p)[0] for p in paths if "{" in p]
        return path in self._fixed or any(pattern.match(path) for pattern in self._patterns)


def nicegui_pages() -> Pages:
    """The pages that NiceGUI has registered, now or later."""
    from nicegui import Client

    return Pages(lambda: list(Client.page_routes.values()))


class Front:
    """Sorts requests by path: hot routes, the panel behind its gate, or nothing.

    An object whose next app is named `app`, because NiceGUI finds its server by walking that name.

    Args:
        hot: plain router for the paths in `hot_paths`.
        panel: the gate with NiceGUI behind it.
        pages: tells which paths are pages.
        throttle: how many requests one address may make; no limit without it.
        encrypted_only: from elsewhere than this machine, panel and API answer encrypted requests only.
    """

    def __init__(
        self,
        hot: ASGIApp,
        panel: ASGIApp,
        *,
        addresses: Addresses,
        pages: Callable[[str], bool],
        hot_paths: Sequence[str] = HOT,
        encrypted_only: bool = False,
        throttle: Throttle | None = None,
    ) -> None:
        self.encrypted_only, self.throttle = encrypted_only, throttle
        self.hot, self.app = hot, panel
        self.addresses, self.pages = addresses, pages
        self._exact = frozenset(path for path in hot_paths if not path.endswith("/"))
        self._below = tuple(path for path in hot_paths if path.endswith("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find out who asks, refuse sources that are not listed, pass on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        path = str(scope["path"])
        peer = self.addresses.peer(scope)
        scope[SCOPE_PEER] = peer
        if peer.proxied:
            scope["client"] = (peer.ip, 0)
            scope["scheme"] = _scheme(scope["type"], secure=peer.secure)
        kind = _kind(path)
        if peer.bad:
            await _refuse(scope, receive, send, 400)
        elif path not in OPEN and not self.addresses.allowed(kind, peer.ip):
            await _refuse(scope, receive, send, 403)
        elif self.throttle is not None and (wait := self.throttle.wait(kind, peer.ip)):
            await _refuse(scope, receive, send, 429, {"retry-after": str(int(wait) + 1)})
        elif self.encrypted_only and not peer.secure and path not in OPEN and not is_loopback(peer.ip):
            await self._encrypt(scope, receive, send)
        elif path in self._exact or path.startswith(self._below):
            live = scope["type"] == "http" or path == "/healthz"  # a WebSocket there is a health test's
            await (self.hot(scope, receive, send) if live else _close(receive, send))
        elif path.startswith(INTERNAL) or self.pages(path):
            await self.app(scope, receive, send)
        else:
            await _refuse(scope, receive, send, 404)

    async def _encrypt(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a browser to the encrypted address of the same page; everything else is refused."""
        host, path = header(scope, b"host"), str(scope["path"])
        reading = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if not reading or not self.addresses.known_host(host) or not path.startswith("/"):
            await _refuse(scope, receive, send, 403)
            return
        query = scope.get("query_string", b"").decode("latin-1")
        place = f"https://{host_of(host)[0]}{quote(path)}" + (f"?{query}" if query else "")
        await RedirectResponse(place, 308)(scope, receive, send)


def _kind(path: str) -> str:
    return next((kind for start, kind in KINDS.items() if path.startswith(start)), "panel")


def _scheme(kind: str, *, secure: bool) -> str:
    plain = "http" if kind == "http" else "ws"
    return plain + "s" if secure else plain


async def _refuse(
    scope: Scope, receive: Receive, send: Send, status: int, more: Mapping[str, str] | None = None
) -> None:
    if scope["type"] == "websocket":
        await _close(receive, send)
    else:
        headers = {"x-content-type-options": "nosniff", "cache-control": "no-store", **(more or {})}
        await PlainTextResponse("", status, headers=headers)(scope, receive, send)


async def _close(receive: Receive, send: Send) -> Any:
    await receive()
    await send({"type": "websocket.close", "code": 4404})
