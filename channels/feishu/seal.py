"""Feishu's signatures and encryption. Source: protocols.md 1.1 (callbacks) and 1.3 (group robots)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from storage.errors import Unauthenticated

OLDEST_MS = 8 * 3_600_000  # the platform repeats for 7.1 h, perhaps with the first signature
NEWEST_MS = 5 * 60_000
TIMESTAMP, NONCE, SIGNATURE = "x-lark-request-timestamp", "x-lark-request-nonce", "x-lark-signature"


class Seal:
    """What an Encrypt Key verifies and opens."""

    def __init__(self, encrypt_key: str) -> None:
        self._key = encrypt_key.encode()
        self._aes = hashlib.sha256(self._key).digest()

    def sign(self, timestamp: str, nonce: str, body: bytes) -> str:
        """Lowercase hex of SHA-256 over timestamp, nonce, key and the raw body, without separators."""
        return hashlib.sha256(timestamp.encode() + nonce.encode() + self._key + body).hexdigest()

    def verify(self, headers: Mapping[str, str], body: bytes, now: int) -> bool:
        """Check the signature over the raw body.

        Args:
            headers: names in lower case.
            now: ms.

        Returns:
            False if none of the three headers is there: then only an address check is acceptable.

        Raises:
            Unauthenticated: `feishu.unsigned` (some are missing), `feishu.signature`, `feishu.stale`, `feishu.future`.
        """
        timestamp, nonce, given = (headers.get(name, "") for name in (TIMESTAMP, NONCE, SIGNATURE))
        if not timestamp and not nonce and not given:
            return False
        if not timestamp or not nonce or not given:
            raise Unauthenticated("feishu.unsigned")
        if not hmac.compare_digest(given.encode(), self.sign(timestamp, nonce, body).encode()):
            raise Unauthenticated("feishu.signature")
        fresh(timestamp, 1000, now)
        return True

    def open(self, text: str) -> bytes:
        """Decrypt the value of `encrypt`.

        Raises:
            Unauthenticated: `feishu.encryption`, whatever is wrong with it.
        """
        try:
            blob = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Unauthenticated("feishu.encryption") from error
        if len(blob) < 32 or len(blob) % 16:
            raise Unauthenticated("feishu.encryption")
        opener = Cipher(AES(self._aes), CBC(blob[:16])).decryptor()
        plain = opener.update(blob[16:]) + opener.finalize()
        pad = plain[-1]
        if not 1 <= pad <= 16 or plain[-pad:] != bytes((pad,)) * pad:
            raise Unauthenticated("feishu.encryption")
        return plain[:-pad]


def fresh(value: str, unit_ms: int, now: int) -> int:
    """The time in ms, if it lies inside the window.

    Args:
        unit_ms: what one of `value` is: 1000 for seconds, 1 for milliseconds.

    Raises:
        Unauthenticated: `feishu.stale` (also for what is no time) or `feishu.future`.
    """
    if not (value.isascii() and value.isdigit() and len(value) <= 16):
        raise Unauthenticated("feishu.stale")
    at = int(value) * unit_ms
    if at < now - OLDEST_MS:
        raise Unauthenticated("feishu.stale")
    if at > now + NEWEST_MS:
        raise Unauthenticated("feishu.future")
    return at


def robot_sign(secret: str, timestamp: str) -> str:
    """The `sign` of a group robot's message: an empty message under the key of timestamp, newline, secret."""
    digest = hmac.new(f"{timestamp}\n{secret}".encode(), b"", hashlib.sha256).digest()
    return base64.b64encode(digest).decode()
