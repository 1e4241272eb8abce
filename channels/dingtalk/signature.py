"""DingTalk's signatures. Source: protocols.md 2.1 (callbacks) and 2.3 (group robots): the same digest in both."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

from storage.errors import Throttled, Unauthenticated

WINDOW_MS = 3_600_000
MOST_MESSAGES = 8  # different messages under one signature: the vendor may send some within a millisecond
MOST_REQUESTS = 60
MOST_REMEMBERED = 20_000


def sign(secret: str, timestamp: str) -> str:
    """Base64 of HMAC-SHA256(secret, timestamp + newline + secret). The body takes no part in it."""
    digest = hmac.new(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def verify(headers: Mapping[str, str], secret: str, now: int) -> int:
    """Check a callback's two headers and return its time in ms.

    Args:
        headers: names in lower case.
        now: ms.

    Raises:
        Unauthenticated: `dingtalk.unsigned`, `dingtalk.stale` or `dingtalk.signature`.
    """
    timestamp, given = headers.get("timestamp", ""), headers.get("sign", "")
    if not timestamp or not given:
        raise Unauthenticated("dingtalk.unsigned")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 16):
        raise Unauthenticated("dingtalk.stale")
    if not hmac.compare_digest(given.encode(), sign(secret, timestamp).encode()):
        raise Unauthenticated("dingtalk.signature")
    if abs(now - int(timestamp)) > WINDOW_MS:
        raise Unauthenticated("dingtalk.stale")
    return int(timestamp)


class Uses:
    """How often each signature was used. Whoever saw one request could otherwise put any body under it for an hour.

    Memory is bounded. When it is full the window shortens: what is older than everything remembered is refused,
    so that forgetting never opens a signature again.
    """

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most, self._floor = most, 0
        self._requests: dict[int, int] = {}
        self._messages: dict[int, set[int]] = {}  # hashes: whole ids would take ten times the memory

    def request(self, timestamp: int, now: int) -> None:
        """Count a verified request, before its body is parsed.

        Raises:
            Unauthenticated: older than what is remembered.
            Throttled: used too often.
        """
        if timestamp < self._floor:
            raise Unauthenticated("dingtalk.stale")
        count = self._requests.get(timestamp, 0) + 1
        if count > MOST_REQUESTS:
            raise Throttled("dingtalk.reused", retry_after=60)
        if count == 1 and len(self._requests) >= self._most:
            self._forget(now)
        self._requests[timestamp] = count

    def message(self, timestamp: int, msg_id: str) -> None:
        """Count a different message under the same signature; the same one again is free.

        Raises:
            Throttled: too many.
        """
        seen = self._messages.setdefault(timestamp, set())
        if hash(msg_id) not in seen and len(seen) >= MOST_MESSAGES:
            raise Throttled("dingtalk.reused", retry_after=60)
        seen.add(hash(msg_id))

    def _forget(self, now: int) -> None:
        """Drop what the window refuses anyway, else the oldest tenth."""
        old = [t for t in self._requests if t < now - WINDOW_MS]
        if not old:
            old = sorted(self._requests)[: max(1, self._most // 10)]
            self._floor = max(self._floor, old[-1] + 1)
        for timestamp in old:
            self._requests.pop(timestamp, None)
            self._messages.pop(timestamp, None)
