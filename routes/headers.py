"""Security headers of the panel, and a content policy that lets NiceGUI's own scripts run and no other."""

from __future__ import annotations

import secrets

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from security.addresses import Peer, host_of, is_loopback
from security.gate import SCOPE_PEER, header

COMMON = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # same-origin, not no-referrer: with that, browsers send "Origin: null" along with our own forms
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), interest-cohort=()",
}
HSTS = "max-age=31536000"
# unsafe-eval: NiceGUI compiles Vue templates in the browser; without it no page works
PAGE = (
    "default-src 'self'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; worker-src 'none'; frame-src 'none'; "
    "frame-ancestors 'none'; object-src 'none'; base-uri 'none'; form-action 'self'"
)
REST = "default-src 'self'; frame-ancestors 'none'; object-src 'none'; base-uri 'none'; form-action 'self'"
FORM = (
    "default-src 'none'; style-src 'nonce-{nonce}'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
MOST_PAGE = 16_000_000


def transport_headers(scope: Scope) -> dict[str, str]:
    """HSTS where the connection is encrypted and the address is no local one."""
    peer = scope.get(SCOPE_PEER)
    name, _ = host_of(header(scope, b"host"))
    if isinstance(peer, Peer) and peer.secure and name and not is_loopback(name.strip("[]")) and name != "localhost":
        return {"strict-transport-security": HSTS}
    return {}


class Headers:
    """Wraps NiceGUI. A page's `<script` tags get the response's nonce, so that an injected one does not run.

    NiceGUI escapes the data of elements, so no `<script` in a page comes from a person; that is why no data of
    a person may go into `add_head_html`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on. Pages are buffered, and must therefore not be zipped on the way."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if not str(scope["path"]).startswith("/_nicegui/"):
            scope["headers"] = [(k, v) for k, v in scope["headers"] if k != b"accept-encoding"]
        await self.app(scope, receive, _Answer(send, {**COMMON, **transport_headers(scope)}))


class _Answer:
    """One response on its way out."""

    def __init__(self, send: Send, extra: dict[str, str]) -> None:
        self._send, self._extra = send, extra
        self._start: Message | None = None
        self._parts: list[bytes] = []
        self._size = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = list(message.get("headers", ()))
            headers = MutableHeaders(raw=message["headers"])
            for name, value in self._extra.items():
                headers.setdefault(name, value)
            if headers.get("x-nicegui-content") == "page":
                self._start = message
                return
            headers.setdefault("content-security-policy", REST)
            await self._send(message)
        elif self._start is None or message["type"] != "http.response.body":
            await self._send(message)
        else:
            self._parts.append(message.get("body", b""))
            self._size += len(self._parts[-1])
            if self._size > MOST_PAGE:
                raise RuntimeError("page too large")
            if not message.get("more_body", False):
                await self._page(self._start)

    async def _page(self, start: Message) -> None:
        nonce = secrets.token_urlsafe(16)
        body = b"".join(self._parts).replace(b"<script", f'<script nonce="{nonce}"'.encode())
        headers = MutableHeaders(raw=start["headers"])
        headers["content-security-policy"] = PAGE.format(nonce=nonce)
        headers["content-length"] = str(len(body))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})
