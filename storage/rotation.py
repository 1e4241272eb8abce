"""Replaces the master key: everything is sealed anew in one transaction. Cut off anywhere, one of the keys fits all.

The next key stands beside the old one (`master.key.next`) until the database is sealed with it. A start that finds
both looks which one the database was sealed with.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, func, select

from storage.audit import AUDIT_SECRET, audit_key
from storage.backup.archive import sync
from storage.errors import Unavailable
from storage.principal import TENANT
from storage.vault import Vault, key_id_of, master_key, secret_t, write_key

Reached = Callable[[str], None]


def next_file(path: Path) -> Path:
    """Where the next key waits."""
    return path.with_name(path.name + ".next")


def begin(path: Path) -> bytes:
    """Make the next key and put it on disk beside the old one.

    Raises:
        Unavailable: `vault.key_unwritable`.
    """
    place = next_file(path)
    try:
        place.unlink(missing_ok=True)
        key = secrets.token_bytes(32)
        write_key(place, key)
        sync(place.parent)
    except OSError as error:
        raise Unavailable("vault.key_unwritable", path=str(path), error=error.strerror or "") from error
    return key


def reseal(c: Connection, vault: Vault, key: bytes) -> int:
    """Seal everything with a new key, inside the caller's transaction. Returns how many secrets there are."""
    old, chain = vault.key, audit_key(c, vault)
    rows = c.execute(select(secret_t.c.tenant, secret_t.c.name).order_by(secret_t.c.tenant, secret_t.c.name)).all()
    values = [(row.tenant, row.name, vault.open(c, row.tenant, row.name)) for row in rows]
    vault.use(key)
    try:
        for tenant, name, value in values:
            if value is not None:
                vault.seal(c, tenant, name, value)
        vault.seal(c, TENANT, AUDIT_SECRET, chain.hex())
    except BaseException:
        vault.use(old)
        raise
    return len(values)


def end(path: Path) -> None:
    """Put the next key in the old one's place."""
    try:
        next_file(path).replace(path)
        sync(path.parent)
    except OSError as error:
        raise Unavailable("vault.key_unwritable", path=str(path), error=error.strerror or "") from error


def settle(path: Path, c: Connection) -> None:
    """Bring a rotation that was cut off to one of its ends. Call it at start, before the key is read.

    Raises:
        Unavailable: `vault.key_unwritable`; what `master_key` says.
    """
    place = next_file(path)
    if not place.exists():
        return
    try:
        key = base64.b64decode(place.read_text("ascii").strip())
    except (OSError, ValueError):
        key = b""  # cut off while it was written: nothing can be sealed with it
    used = set(c.execute(select(secret_t.c.key_id).distinct()).scalars())
    if len(key) != 32 or key_id_of(key) not in used:
        place.unlink(missing_ok=True)
    elif used == {key_id_of(key)}:
        end(path)


def rotate_now(path: Path, c: Connection, vault: Vault, reached: Reached) -> int:
    """The whole rotation for a caller that owns the connection and commits by itself: the command.

    Returns:
        How many secrets were sealed anew.
    """
    key = begin(path)
    reached("rotate.written")
    count = reseal(c, vault, key)
    c.commit()
    reached("rotate.sealed")
    end(path)
    reached("rotate.replaced")
    return count


def read_master_key(path: Path, c: Connection) -> bytes:
    """The key of this database, after a rotation was brought to its end; made at the first start."""
    settle(path, c)
    sealed = c.execute(select(func.count()).select_from(secret_t)).scalar_one()
    return master_key(path, may_create=not sealed)


__all__ = ["begin", "end", "next_file", "read_master_key", "reseal", "rotate_now", "settle"]
