"""The one HTTP client for addresses outside. Everything that reaches outside goes through it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import httpx


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What one kind of caller may reach.

    Attributes:
        private: private, link-local and loopback ranges are open (model servers and vendors that an admin configured).
        plain: http is allowed, not only https.
        redirects: followed at most this often, each target checked again.
        most_bytes: of the answer's body.
        seconds: for the whole exchange.
        hosts: only these hosts (exact, or `.suffix`); empty: any.
    """

    private: bool = False
    plain: bool = True
    redirects: int = 0
    most_bytes: int = 2_000_000
    seconds: float = 15.0
    hosts: tuple[str, ...] = ()


PAGE = Policy(redirects=5)
"""A page that a model asked for."""
VENDOR = Policy(plain=False, most_bytes=30_000_000)
"""A vendor's API, https only."""
ADMIN = Policy(private=True, most_bytes=50_000_000, seconds=600)
"""An address that an admin configured, e.g. a model server in the company."""


class Egress(Protocol):
    """Resolves once, checks every address, connects to the checked address, re-checks each redirect.

    Raises (all calls): Invalid `egress.url`, `egress.private`, `egress.host`, `egress.plain`; Unavailable
    `egress.dns`, `egress.connect`, `egress.timeout`, `egress.tls`; TooLarge `egress.size`; OutcomeUnknown
    `egress.cut` if the connection broke after the body had left.
    """

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
        """One exchange, body read whole within the policy's bounds. `written` is called when the body has left."""
        ...

    def stream(
        self, method: str, url: str, *, policy: Policy, headers: Mapping[str, str] | None = None, json: object = None
    ) -> AbstractAsyncContextManager[httpx.Response]:
        """The same, with the body left to `aiter_bytes()`; the caller bounds what it reads."""
        ...

    async def connect(self, url: str, *, policy: Policy) -> tuple[socket.socket, ssl.SSLContext | None, str]:
        """A connected socket to a checked address, for WebSockets: the socket, the TLS context, the host to verify."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


__all__ = ["ADMIN", "PAGE", "VENDOR", "AsyncIterator", "Egress", "Policy"]
