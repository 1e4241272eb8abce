"""Whether a call really comes from the system that an admin told the secret. Pure; done before the body is parsed.

Three schemes:

- `hmac`: headers `X-Zhixing-Timestamp` (Unix seconds) and `X-Zhixing-Signature` = `sha256=` + hex of
  HMAC-SHA256(secret, timestamp + "." + body).
- `document`: the source document's sample: headers `timestamp` and `sign` = base64 of
  HMAC-SHA256(secret, timestamp + newline + secret + newline + body + newline + secret). Feishu itself signs otherwise.
- `bearer`: header `Authorization: Bearer <secret>`. The body is not covered, and a call may be replayed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

from channels.webhook.signing import DELIVERY, SIGNATURE, TIMESTAMP, signature
from storage.errors import Unauthenticated

SCHEMES = ("hmac", "document", "bearer")
WINDOW_MS = 300_000
SECURITY = frozenset({TIMESTAMP, SIGNATURE, DELIVERY, "timestamp", "sign", "authorization"})
"""Headers that must not come twice."""


def document_sign(secret: str, timestamp: str, body: bytes) -> str:
    """The source document's signature."""
    key = secret.encode()
    message = b"\n".join((timestamp.encode(), key, body, key))
    return base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()


def verify(scheme: str, secret: str, headers: Mapping[str, str], body: bytes, now: int) -> str:
    """Check a call and return a key of exactly this call, by which a replay is known; empty for `bearer`.

    Args:
        headers: names in lower case.
        now: ms.

    Raises:
        Unauthenticated: `hook.unsigned`, `hook.stale` or `hook.signature`.
    """
    if not secret:
        raise Unauthenticated("hook.signature")
    if scheme == "bearer":
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not given:
            raise Unauthenticated("hook.unsigned", scheme=scheme)
        _same(given, secret)
        return ""
    names = (TIMESTAMP, SIGNATURE) if scheme == "hmac" else ("timestamp", "sign")
    timestamp, given = headers.get(names[0], ""), headers.get(names[1], "")
    if not timestamp or not given:
        raise Unauthenticated("hook.unsigned", scheme=scheme)
    wanted = signature(secret, timestamp, body) if scheme == "hmac" else document_sign(secret, timestamp, body)
    _same(given, wanted)
    if abs(now - _ms(timestamp)) > WINDOW_MS:
        raise Unauthenticated("hook.stale")
    return hashlib.sha256(wanted.encode()).hexdigest()[:40]


def _same(given: str, wanted: str) -> None:
    if not hmac.compare_digest(given.encode(), wanted.encode()):
        raise Unauthenticated("hook.signature")


def _ms(timestamp: str) -> int:
    """Milliseconds from Unix seconds, or from milliseconds as some systems send them."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 14):
        raise Unauthenticated("hook.stale")
    value = int(timestamp)
    return value if len(timestamp) > 11 else value * 1000
