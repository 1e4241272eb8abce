"""WeCom's callback signature and encryption. Pure. Source: protocols.md 3.2."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct

from storage.errors import Denied, Invalid, Unauthenticated

BLOCK = 32


def sign(token: str, timestamp: str, nonce: str, encrypted: str) -> str:
    """Hex SHA-1 of the four texts, sorted and joined."""
    joined = "".join(sorted((token, timestamp, nonce, encrypted)))
    return hashlib.sha1(joined.encode()).hexdigest()  # noqa: S324 - the vendor's protocol


def verify(token: str, timestamp: str, nonce: str, encrypted: str, given: str) -> None:
    """Raise `Unauthenticated` `wecom.unsigned` or `wecom.signature` unless the signature is right."""
    if not (timestamp and nonce and encrypted and given):
        raise Unauthenticated("wecom.unsigned")
    if not hmac.compare_digest(sign(token, timestamp, nonce, encrypted).encode(), given.encode()):
        raise Unauthenticated("wecom.signature")


def decrypt(key: bytes, encrypted: str, receiver: str) -> bytes:
    """The message inside.

    Args:
        receiver: whom it must be meant for: the corp id; empty for AI bots.

    Raises:
        Invalid: `wecom.undecryptable`. Denied: `wecom.other_app`.
    """
    try:
        blob = base64.b64decode(encrypted, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid("wecom.undecryptable") from error
    plain = unpad(cbc(key, key[:16], blob))
    if len(plain) < 20:
        raise Invalid("wecom.undecryptable")
    (size,) = struct.unpack(">I", plain[16:20])
    message, meant = plain[20 : 20 + size], plain[20 + size :]
    if len(message) != size:
        raise Invalid("wecom.undecryptable")
    if not hmac.compare_digest(meant, receiver.encode()):
        raise Denied("wecom.other_app")
    return message


def encrypt(key: bytes, message: bytes, receiver: str) -> str:
    """The reverse of `decrypt`."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    plain = secrets.token_bytes(16) + struct.pack(">I", len(message)) + message + receiver.encode()
    pad = BLOCK - len(plain) % BLOCK
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    return base64.b64encode(encryptor.update(plain + bytes([pad]) * pad) + encryptor.finalize()).decode()


def cbc(key: bytes, iv: bytes, blob: bytes) -> bytes:
    """AES-256-CBC without its padding undone. Raises `Invalid` `wecom.undecryptable`."""
    # imported here: needed only by bots of this kind
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if len(blob) < 16 or len(blob) % 16 or len(key) != 32:
        raise Invalid("wecom.undecryptable")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(blob) + decryptor.finalize()


def unpad(plain: bytes) -> bytes:
    """PKCS#7 with blocks of 32. Raises `Invalid` `wecom.undecryptable`."""
    pad = plain[-1]
    if not 1 <= pad <= BLOCK or len(plain) < pad or plain[-pad:] != bytes([pad]) * pad:
        raise Invalid("wecom.undecryptable")
    return plain[:-pad]
