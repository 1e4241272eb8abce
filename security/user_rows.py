"""Rows of users: names, creation, the rule that one owner always remains. Used inside others' transactions."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from storage.database import new_id
from storage.errors import Conflict, Invalid, NotFound
from storage.principal import TENANT
from storage.tables.people import User

user_t = User.__table__  # type: ignore[attr-defined]
LEAST, MOST = 2, 40
_NAME = re.compile(r"[^\W_](?:[\w.@+-]*\w)?")


def read_name(text: str) -> tuple[str, str]:
    """A login name as shown, and the key under which it is unique.

    Raises:
        Invalid: `name.empty`, `name.length` or `name.characters`, for the field `name`.
    """
    name = unicodedata.normalize("NFKC", text).strip()
    if not name:
        raise Invalid("name.empty", "name")
    if not LEAST <= len(name) <= MOST:
        raise Invalid("name.length", "name", least=LEAST, most=MOST)
    if not _NAME.fullmatch(name):
        raise Invalid("name.characters", "name")
    return name, name.casefold()


def name_key(text: str) -> str:
    """The key of whatever was typed as a name, valid or not, bounded."""
    return unicodedata.normalize("NFKC", text[:200]).strip().casefold()


def add(c: Connection, *, name: str, role: str, password_hash: str, now: int, lang: str = "") -> int:
    """Insert a user and return the id.

    Raises:
        Invalid: as `read_name`, or `name.taken`.
    """
    shown, key = read_name(name)
    if c.execute(select(user_t.c.id).where(user_t.c.tenant == TENANT, user_t.c.name_key == key)).first() is not None:
        raise Invalid("name.taken", "name", name=shown)
    row = {"tenant": TENANT, "name": shown, "name_key": key, "role": role, "password_hash": password_hash}
    more = {"lang": lang, "theme": "auto", "version": 1, "totp_last_step": 0, "password_at": now, "created_at": now}
    return new_id(c.execute(insert(user_t).values(**row, **more)))


def get(c: Connection, user_id: int) -> Row[Any]:
    """The row of a user.

    Raises:
        NotFound: `user.missing`.
    """
    row = c.execute(select(user_t).where(user_t.c.tenant == TENANT, user_t.c.id == user_id)).first()
    if row is None:
        raise NotFound("user.missing")
    return row


def find(c: Connection, key: str) -> Row[Any] | None:
    """The row of a user by name key, or None."""
    return c.execute(select(user_t).where(user_t.c.tenant == TENANT, user_t.c.name_key == key)).first()


def admins(c: Connection) -> int:
    """How many can administer: enabled owners and admins."""
    able = (user_t.c.role.in_(("owner", "admin")), user_t.c.disabled_at.is_(None))
    return int(c.execute(select(func.count()).select_from(user_t).where(*able)).scalar_one())


def keep_an_owner(c: Connection, without: int) -> None:
    """Refuse an act that would leave nobody who may do everything.

    Raises:
        Conflict: `user.last_owner`.
    """
    others = (user_t.c.role == "owner", user_t.c.disabled_at.is_(None), user_t.c.id != without)
    if int(c.execute(select(func.count()).select_from(user_t).where(*others)).scalar_one()) == 0:
        raise Conflict("user.last_owner")
