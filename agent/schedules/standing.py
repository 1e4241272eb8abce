"""With whose rights a schedule runs, looked up anew at each run: it never has more than its owner has today."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from agent.schedules.draft import Task
from agent.schedules.rows import digest
from storage.errors import Denied
from storage.principal import ROLES, TENANT, Principal, principal
from storage.tables.people import ApiKey, User

user_t = User.__table__  # type: ignore[attr-defined]
key_t = ApiKey.__table__  # type: ignore[attr-defined]
FILE = "file:"
RIGHT = "schedule.manage"


def standing(c: Connection, row: Row[Any], now: int) -> Principal:
    """The principal of a run.

    Raises:
        Denied: `schedule.owner_gone` (removed, shut out, or the key was revoked), `schedule.owner_right` (without the
            right today), `schedule.not_allowed` (the command is not allowed, or no longer by anybody who may).
    """
    who = _owner(c, row, now)
    if not allowed(c, row, now):
        raise Denied("schedule.not_allowed")
    return who


def allowed(c: Connection, row: Row[Any], now: int) -> bool:
    """True unless it is a command that waits for an admin."""
    if row.kind != "command":
        return True
    same = row.allowed == digest(Task.from_json(row.work).command)
    return bool(row.allowed) and same and _may(c, row.allowed_by, now)


def _owner(c: Connection, row: Row[Any], now: int) -> Principal:
    if row.owner.startswith(FILE):
        # whoever can write the folder's files is the one who runs the installation
        return Principal(id=row.owner, tenant=row.tenant, name=row.owner_name, role="admin", rights=ROLES["admin"])
    kind = row.owner.partition(":")[0]
    if kind in ("user", "key"):
        who = _user(c, row.owner, now)
        if who is None:
            raise Denied("schedule.owner_gone", name=row.owner_name)
        # what a person made in a chat answers only there; everything else was made by somebody who may manage
        if not who.may("chat.use" if row.address else RIGHT):
            raise Denied("schedule.owner_right", name=row.owner_name, right=RIGHT)
        return who
    if not row.address:
        raise Denied("schedule.owner_gone", name=row.owner_name)
    return principal(id=row.owner, name=row.owner_name, role="member", tenant=row.tenant)


def _may(c: Connection, who_id: str, now: int) -> bool:
    who = _user(c, who_id, now)
    return who is not None and who.may(RIGHT)


def _user(c: Connection, who_id: str, now: int) -> Principal | None:
    """A user of the panel, or the user behind a key with what the key may; None if they may not come in today."""
    kind, _, number = who_id.partition(":")
    if not number.isdigit():
        return None
    scopes: frozenset[str] | None = None
    user_id: int | None = int(number)
    if kind == "key":
        key = c.execute(select(key_t).where(key_t.c.id == int(number))).first()
        if key is None or key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
            return None
        scopes, user_id = frozenset(json.loads(key.scopes or "[]")), key.user_id
        if user_id is None:
            rights = ROLES["admin"] if "*" in scopes else scopes & ROLES["admin"]
            return Principal(id=who_id, tenant=key.tenant, name=key.name, role="key", rights=rights)
    elif kind != "user":
        return None
    row = c.execute(
        select(user_t).where(and_(user_t.c.tenant == TENANT, user_t.c.id == user_id, user_t.c.disabled_at.is_(None)))
    ).first()
    if row is None:
        return None
    who = principal(id=who_id, name=row.name, role=row.role, tenant=row.tenant, lang=row.lang or "zh_CN")
    if scopes is None or "*" in scopes:
        return who
    return Principal(
        id=who.id, tenant=who.tenant, name=who.name, role=who.role, rights=who.rights & scopes, lang=who.lang
    )


def language(c: Connection, row: Row[Any], now: int) -> str:
    """In which language a schedule speaks of itself: its owner's, else the oldest owner's of the house."""
    who = _user(c, row.owner, now)
    if who is not None:
        return who.lang
    found = c.execute(
        select(user_t.c.lang).where(and_(user_t.c.role == "owner", user_t.c.lang != "")).order_by(user_t.c.id).limit(1)
    ).scalar()
    return str(found or "zh_CN")
