"""Proof that a request which left by a public name arrived here, and how: only our own tickets are answered."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any

from security.addresses import Peer
from storage.clock import Clock

FRESH_MS = 60_000
PARAM = "probe"


class Echo:
    """Makes and knows tickets. `doctor` holds the same key and asks a process that runs beside it."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key, self.clock = key, clock
        self.instance = secrets.token_hex(8)

    def ticket(self) -> str:
        """Good for a minute."""
        at = str(self.clock.ms())
        return f"{at}.{self._sign(at)}"

    def knows(self, ticket: str) -> bool:
        """True for a fresh ticket of ours."""
        at, _, mark = ticket.partition(".")
        if not (at.isascii() and at.isdigit() and len(at) <= 16 and mark.isascii()):
            return False
        return hmac.compare_digest(mark, self._sign(at)) and abs(self.clock.ms() - int(at)) <= FRESH_MS

    def tell(self, peer: Peer | None, host: str, scope: Mapping[str, Any]) -> dict[str, object]:
        """How a request arrived."""
        client = scope.get("client") or ("", 0)
        return {
            "instance": self.instance,
            "ip": peer.ip if peer else str(client[0]),
            "proxied": bool(peer and peer.proxied),
            "secure": bool(peer and peer.secure),
            "host": host[:200],
        }

    def _sign(self, at: str) -> str:
        return hmac.new(self._key, at.encode(), hashlib.sha256).hexdigest()
