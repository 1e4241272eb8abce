"""The API's door: who asks is settled before a body is read, then pace and size, then the route."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from routes.api.problems import Problems
from routes.body import headers_of, read_body
from security.bearer import Bearer
from security.throttle import Rate, Throttle
from storage.clock import Clock
from storage.errors import AppError, Throttled
from storage.principal import Principal

log = logging.getLogger(__name__)

MOST_BYTES = 1_000_000
BODY_SECONDS = 15.0
SINGLE = frozenset({"authorization", "content-length", "content-type", "idempotency-key", "last-event-id"})
OPEN = frozenset({("POST", "/api/v1/token"), ("GET", "/api/v1/openapi.json"), ("GET", "/api/v1/docs")})
WHO, IP = "zhixing.who", "zhixing.ip"
RATES = {
    "caller": Rate(per_second=30, at_once=300),
    "stranger": Rate(per_second=5, at_once=100),
}
COMMON = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)


class Entrance:
    """ASGI in front of the routes. The caller's principal stands in `scope[WHO]`.

    The caller's address is `scope["client"]`, set by whoever knows the trusted proxies.
    """

    def __init__(
        self, app: ASGIApp, bearer: Bearer, problems: Problems, clock: Clock, *, rates: dict[str, Rate] | None = None
    ) -> None:
        self.app, self.bearer, self.problems = app, bearer, problems
        self.throttle = Throttle(clock, rates or RATES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        client = scope.get("client")
        ip = str(client[0]) if client else ""
        state: dict[str, Any] = {"begun": False}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                state["begun"] = True
                there = {name for name, _ in message.get("headers", ())}
                more = [(name, value) for name, value in COMMON if name not in there]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        try:
            headers = headers_of(scope, SINGLE)
            if (scope["method"], scope["path"]) in OPEN:
                self._pace("stranger", ip)
            else:
                scope[WHO] = await self.admit(headers, ip)
            scope[IP] = ip
            body = await read_body(scope, receive, most=MOST_BYTES, seconds=BODY_SECONDS)
        except AppError as error:
            await self.problems.answer(scope, receive, sending, error)
            return
        await self.app(scope, _again(body, receive), sending)

    async def admit(self, headers: dict[str, str], ip: str) -> Principal:
        """Who asks, if they may ask now.

        Raises:
            Unauthenticated; Throttled: `api.too_fast`.
        """
        try:
            who = await self.bearer.principal(
                headers.get("authorization", ""), ip=ip, accept_language=headers.get("accept-language", "")
            )
        except AppError:
            self._pace("stranger", ip)
            raise
        self._pace("caller", who.id)
        return replace(who, ip=ip)

    def _pace(self, kind: str, name: str) -> None:
        if wait := self.throttle.wait(kind, name):
            raise Throttled("api.too_fast", retry_after=wait)


def _again(body: bytes, receive: Receive) -> Receive:
    """Hands out the body that was read, then what comes: the caller's going away."""
    given = False

    async def once() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return once


__all__ = ["IP", "WHO", "Entrance"]
