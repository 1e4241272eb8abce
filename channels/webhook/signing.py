"""The signature of our own webhooks, out and in: HMAC-SHA256 over time and body, both covered."""

from __future__ import annotations

import hashlib
import hmac

TIMESTAMP = "x-zhixing-timestamp"
SIGNATURE = "x-zhixing-signature"
DELIVERY = "x-zhixing-delivery"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """`sha256=` and the lowercase hex digest of HMAC-SHA256(secret, timestamp + "." + body)."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"
