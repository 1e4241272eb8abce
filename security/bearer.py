"""Who asks by API: `Authorization: Bearer <key or token>` becomes a principal with the rights of this moment."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select, update

from security.keys import PREFIX, SEEN_EVERY, hash_of, key_t, rights_of, user_t
from security.tokens import Tokens
from storage.clock import Clock
from storage.database import Database
from storage.errors import Unauthenticated
from storage.principal import ROLES, TENANT, Principal
from storage.words import negotiate

LONGEST = 200
CONSOLE_ROLE = "owner"
"""Role that bounds a key from the console: whoever has the console has everything."""


class Bearer:
    """Reads the header. Every request looks at the rows: what was revoked a moment ago works no more."""

    def __init__(self, db: Database, clock: Clock, tokens: Tokens) -> None:
        self.db, self.clock, self.tokens = db, clock, tokens

    async def principal(self, header: str, *, ip: str = "", accept_language: str = "") -> Principal:
        """Who asks.

        Raises:
            Unauthenticated: `api.no_key`, `key.wrong`, `key.expired`, `key.revoked`, `token.wrong`, `token.expired`.
        """
        kind, _, value = header.strip().partition(" ")
        value = value.strip()
        if kind.lower() != "bearer" or not value:
            raise Unauthenticated("api.no_key")
        if value.startswith(PREFIX):
            return await self._by_key(value, ip, accept_language)
        return await self._by_token(value, ip, accept_language)

    async def _by_key(self, value: str, ip: str, accept_language: str) -> Principal:
        if len(value) > LONGEST or not value.isascii():
            raise Unauthenticated("key.wrong")
        person = (user_t.c.role, user_t.c.lang, user_t.c.disabled_at)
        joined = key_t.outerjoin(user_t, user_t.c.id == key_t.c.user_id)
        query = select(key_t, *person).select_from(joined).where(key_t.c.hash == hash_of(value))
        row = await self.db.read(lambda c: c.execute(query).first())
        now = self.clock.ms()
        if row is None:
            raise Unauthenticated("key.wrong")
        if row.revoked_at is not None or (row.user_id is not None and (row.role is None or row.disabled_at)):
            raise Unauthenticated("key.revoked")
        if row.expires_at is not None and row.expires_at <= now:
            raise Unauthenticated("key.expired")
        if now - (row.used_at or 0) >= SEEN_EVERY:
            seen = update(key_t).where(key_t.c.id == row.id).values(used_at=now)
            await self.db.write(lambda c: c.execute(seen).rowcount, durable=False)
        scopes, role = json.loads(row.scopes), row.role if row.user_id is not None else CONSOLE_ROLE
        return Principal(
            id=f"key:{row.id}",
            tenant=row.tenant,
            name=row.name,
            role=role,
            rights=rights_of(role, scopes),
            ip=ip,
            lang=_language(accept_language, row.lang),
            scopes=frozenset(scopes),
        )

    async def _by_token(self, value: str, ip: str, accept_language: str) -> Principal:
        claims = self.tokens.read(value)
        query = select(user_t).where(user_t.c.tenant == TENANT, user_t.c.id == claims.user_id)
        row: Any = await self.db.read(lambda c: c.execute(query).first())
        if row is None or row.disabled_at is not None or row.version != claims.version:
            raise Unauthenticated("token.expired")
        rights = ROLES.get(row.role, frozenset())
        if claims.scopes is not None:
            rights &= claims.scopes
        return Principal(
            id=f"user:{row.id}",
            tenant=row.tenant,
            name=row.name,
            role=row.role,
            rights=rights,
            ip=ip,
            lang=_language(accept_language, row.lang),
            scopes=frozenset() if claims.scopes is None else claims.scopes,
        )


def _language(accept: str, own: str | None) -> str:
    """The language that is asked for, else the person's own."""
    said = accept.strip() not in ("", "*")
    return negotiate(accept) if said or not own else own
