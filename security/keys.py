"""API keys: made by a person or on the console, shown once, kept as a hash, never stronger than who made them."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, func, insert, select, update

from security.step_up import StepUp
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database, new_id
from storage.errors import Conflict, Denied, Invalid, NotFound
from storage.principal import ROLES, SYSTEM, Principal
from storage.tables.people import ApiKey, User

key_t = ApiKey.__table__  # type: ignore[attr-defined]
user_t = User.__table__  # type: ignore[attr-defined]

PREFIX = "zx_"
ALL = "*"
SCOPES = tuple(sorted(ROLES["owner"] - {"account.own"}))
"""Rights that a key can be given. A key has no account."""
MOST_NAME = 60
MOST_DAYS = 3650
MOST_KEYS = 500
DAY = 86_400_000
SEEN_EVERY = 60_000


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRow:
    """A key in a list. `owner` is the person whose rights bound it, empty for one from the console.

    state: `live`, `expired`, `revoked`, `ownerless` (its person is gone or disabled).
    """

    id: int
    name: str
    tail: str
    scopes: tuple[str, ...]
    owner: str
    state: str
    created_at: int
    expires_at: int | None
    used_at: int | None
    revoked_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyMade:
    """A new key. `secret` is shown this once."""

    row: KeyRow
    secret: str = field(repr=False)


class KeyActions:
    """Use cases of the keys' page, the console and the API. Right: key.manage.

    In the panel a new key wants a session that has just proved who it is (`step_up.needed`).
    """

    def __init__(self, *, db: Database, audit: Audit, clock: Clock, step_up: StepUp | None = None) -> None:
        self.db, self.audit, self.clock, self.step_up = db, audit, clock, step_up

    async def list(self, who: Principal) -> list[KeyRow]:
        """All keys, those that work first, then the newest. Right: key.manage."""
        who.require("key.manage")
        now = self.clock.ms()
        rows = await self.db.read(lambda c: c.execute(_rows(who.tenant).limit(MOST_KEYS * 2)).all())
        made = [_row(row, now) for row in rows]
        return sorted(made, key=lambda row: (row.state != "live", -row.id))

    async def create(self, who: Principal, *, name: str, scopes: Sequence[str], days: int | None = None) -> KeyMade:
        """Make a key. It holds no more than its scopes, and never more than its maker's role at the time of use.

        Right: key.manage, as a person or on the console: a key makes no keys, or one that ends could outlive itself.

        Args:
            scopes: rights, or `*` for all that the maker's role has.
            days: until it ends; None: never.

        Raises:
            Invalid: `key.name`, `key.scopes`, `key.scope_unknown`, `key.days`. Denied: `key.person`, `key.scope_high`.
            Conflict: `key.too_many`.
        """
        who.require("key.manage")
        kind, _, number = who.id.partition(":")
        if who is not SYSTEM and kind != "user":
            raise Denied("key.person")
        if self.step_up is not None:
            self.step_up.require(who)
        shown = " ".join(name.split())
        if not shown or len(shown) > MOST_NAME or not shown.isprintable():
            raise Invalid("key.name", "name", most=MOST_NAME)
        if days is not None and not 1 <= days <= MOST_DAYS:
            raise Invalid("key.days", "days", most=MOST_DAYS)
        wanted = read_scopes(who, scopes)
        secret, now = PREFIX + secrets.token_urlsafe(32), self.clock.ms()

        def fn(c: Connection) -> int:
            live = and_(key_t.c.tenant == who.tenant, key_t.c.revoked_at.is_(None))
            if c.execute(select(func.count()).select_from(key_t).where(live)).scalar_one() >= MOST_KEYS:
                raise Conflict("key.too_many", most=MOST_KEYS)
            values = {
                "tenant": who.tenant,
                "name": shown,
                "hash": hash_of(secret),
                "tail": secret[-4:],
                "scopes": json.dumps(wanted),
                "user_id": int(number) if kind == "user" else None,
                "created_at": now,
                "expires_at": None if days is None else now + days * DAY,
            }
            made = new_id(c.execute(insert(key_t).values(**values)))
            after = {"name": shown, "scopes": wanted, "days": days}
            self.audit.record(c, who, "key.create", f"key:{made}", after=after)
            return made

        made = await self.db.write(fn)
        row = await self.db.read(lambda c: c.execute(_rows(who.tenant).where(key_t.c.id == made)).one())
        return KeyMade(row=_row(row, now), secret=secret)

    async def revoke(self, who: Principal, key_id: int) -> KeyRow:
        """End a key; the next request with it is refused. Right: key.manage. Safe to repeat. Raises: NotFound."""
        who.require("key.manage")
        now = self.clock.ms()

        def fn(c: Connection) -> Any:
            mine = _rows(who.tenant).where(key_t.c.id == key_id)
            row = c.execute(mine).first()
            if row is None:
                raise NotFound("key.unknown")
            if row.revoked_at is None:
                c.execute(update(key_t).where(key_t.c.id == key_id).values(revoked_at=now))
                self.audit.record(c, who, "key.revoke", f"key:{key_id}", before={"name": row.name})
            return c.execute(mine).one()

        return _row(await self.db.write(fn), now)


def read_scopes(who: Principal, scopes: Sequence[str]) -> list[str]:
    """The scopes without doubles, in order.

    Raises:
        Invalid: none or an unknown one. Denied: one that the maker does not hold.
    """
    wanted = sorted({scope.strip() for scope in scopes if scope.strip()})
    if not wanted:
        raise Invalid("key.scopes", "scopes")
    if ALL in wanted:
        # a narrowed token must not make a key of its person's whole role
        if not ROLES.get(who.role, frozenset()) <= who.rights:
            raise Denied("key.scope_high", scope=ALL)
        return [ALL]
    for scope in wanted:
        if scope not in SCOPES:
            raise Invalid("key.scope_unknown", "scopes", scope=scope[:40])
        if not who.may(scope):
            raise Denied("key.scope_high", scope=scope)
    return wanted


def hash_of(secret: str) -> str:
    """The form in which a key is kept: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def rights_of(role: str, scopes: Sequence[str]) -> frozenset[str]:
    """What a key may do now: its scopes, as far as its person's role still reaches."""
    held = ROLES.get(role, frozenset()) & frozenset(SCOPES)
    return held if ALL in scopes else held & frozenset(scopes)


def _rows(tenant: str) -> Any:
    joined = key_t.outerjoin(user_t, user_t.c.id == key_t.c.user_id)
    person = (user_t.c.name.label("person"), user_t.c.disabled_at.label("disabled"))
    query = select(key_t, *person).select_from(joined).where(key_t.c.tenant == tenant)
    return query.order_by(key_t.c.revoked_at.is_not(None), key_t.c.id.desc())


def _row(row: Any, now: int) -> KeyRow:
    state = "live"
    if row.revoked_at is not None:
        state = "revoked"
    elif row.expires_at is not None and row.expires_at <= now:
        state = "expired"
    elif row.user_id is not None and (row.person is None or row.disabled is not None):
        state = "ownerless"
    return KeyRow(
        id=row.id,
        name=row.name,
        tail=row.tail,
        scopes=tuple(json.loads(row.scopes)),
        owner=row.person or "",
        state=state,
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
        revoked_at=row.revoked_at,
    )
