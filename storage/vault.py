"""Secrets at rest: AES-256-GCM with the tenant and name as additional data, master key outside the data folder.

Source of the scheme: NIST SP 800-38D; 96-bit random nonces, one key per installation and key id.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, and_, delete, insert, select

from storage.clock import Clock
from storage.errors import Unavailable
from storage.tables.system import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

secret_t = Secret.__table__  # type: ignore[attr-defined]


def key_id_of(key: bytes) -> str:
    """Names a master key without telling it."""
    return hashlib.sha256(b"zhixing key id" + key).hexdigest()[:12]


class Vault:
    """Seals and opens secrets inside the caller's transaction. The key is read once, at start.

    A key that replaces it (`storage.rotation`) is used from then on; what was sealed before it can still be opened,
    because a reader may look at a snapshot from before.
    """

    def __init__(self, key: bytes, clock: Clock, *, source: str = "") -> None:
        self.clock, self._source = clock, source
        self._boxes: dict[str, AESGCM] = {}
        self.use(key)

    def use(self, key: bytes) -> None:
        """Seal with this key from now on."""
        # imported here: needed only once a key exists, and 25 ms of the start
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.key_id = key_id_of(key)
        self._key = key
        self._boxes[self.key_id] = AESGCM(key)

    @property
    def key(self) -> bytes:
        """The key that seals now. For its rotation only."""
        return self._key

    def derive(self, purpose: str) -> bytes:
        """A 32-byte key for another purpose (audit chain, tokens), bound to this installation."""
        return hashlib.blake2b(purpose.encode(), key=self._key[:32], digest_size=32).digest()

    def seal(self, c: Connection, tenant: str, name: str, value: str) -> None:
        """Keep a secret, replacing an older one of the same name."""
        nonce = secrets.token_bytes(12)
        box = nonce + self._boxes[self.key_id].encrypt(nonce, value.encode(), f"{tenant}\n{name}".encode())
        c.execute(delete(secret_t).where(and_(secret_t.c.tenant == tenant, secret_t.c.name == name)))
        c.execute(
            insert(secret_t).values(
                tenant=tenant,
                name=name,
                key_id=self.key_id,
                box=base64.b64encode(box).decode(),
                tail=value[-4:] if len(value) >= 12 else "",
                updated_at=self.clock.ms(),
            )
        )

    def open(self, c: Connection, tenant: str, name: str) -> str | None:
        """The secret, or None if there is none.

        Raises:
            Unavailable: `vault.wrong_key` or `vault.damaged`; the raw bytes are never handed out instead.
        """
        from cryptography.exceptions import InvalidTag

        row = c.execute(
            select(secret_t.c.box, secret_t.c.key_id).where(and_(secret_t.c.tenant == tenant, secret_t.c.name == name))
        ).first()
        if row is None:
            return None
        box = self._boxes.get(row.key_id)
        if box is None:
            raise Unavailable("vault.wrong_key", name=name, path=self._source)
        try:
            raw = base64.b64decode(row.box)
            return box.decrypt(raw[:12], raw[12:], f"{tenant}\n{name}".encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise Unavailable("vault.damaged", name=name) from error

    def tail(self, c: Connection, tenant: str, name: str) -> str | None:
        """Last characters of a kept secret (empty for a short one), or None if there is none."""
        row = c.execute(
            select(secret_t.c.tail).where(and_(secret_t.c.tenant == tenant, secret_t.c.name == name))
        ).first()
        return None if row is None else str(row.tail)

    def remove(self, c: Connection, tenant: str, name: str) -> None:
        """Forget a secret; nothing happens if there is none."""
        c.execute(delete(secret_t).where(and_(secret_t.c.tenant == tenant, secret_t.c.name == name)))

    def check(self, c: Connection) -> None:
        """Refuse to work with another installation's key.

        Raises:
            Unavailable: `vault.wrong_key` if any secret was sealed with another key.
        """
        row = c.execute(select(secret_t.c.name).where(secret_t.c.key_id != self.key_id).limit(1)).first()
        if row is not None:
            raise Unavailable("vault.wrong_key", name=row.name, path=self._source)


def write_key(path: Path, key: bytes) -> None:
    """Write a master key where none is yet.

    Raises:
        OSError: there is one, or the place cannot be written.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(base64.b64encode(key).decode() + "\n")
        file.flush()
        os.fsync(file.fileno())


def master_key(path: Path, *, may_create: bool) -> bytes:
    """Read the master key, or make one on the first start.

    Args:
        may_create: False where secrets exist already: a new key could not open them.

    Raises:
        Unavailable: `vault.key_missing`, `vault.key_unreadable` or `vault.key_damaged`, with the path.
    """
    try:
        if path.exists():
            key = base64.b64decode(path.read_text(encoding="ascii").strip(), validate=True)
            if len(key) != 32:
                raise Unavailable("vault.key_damaged", path=str(path))
            return key
        if not may_create:
            raise Unavailable("vault.key_missing", path=str(path))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = secrets.token_bytes(32)
        write_key(path, key)
        return key
    except ValueError as error:
        raise Unavailable("vault.key_damaged", path=str(path)) from error
    except OSError as error:
        raise Unavailable("vault.key_unreadable", path=str(path), error=error.strerror or "") from error


__all__ = ["Vault", "key_id_of", "master_key", "write_key"]
