"""The token with which Prometheus may read `/metrics` on the main port. Only its SHA-256 is kept."""

from __future__ import annotations

import hashlib
import json
import secrets

from sqlalchemy import Connection, delete, insert, select

from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.principal import TENANT, Principal
from storage.tables.system import Setting

setting_t = Setting.__table__  # type: ignore[attr-defined]
SETTING = "metrics.token"


class ScrapeToken:
    """One token for the process, or none: then the main port has no `/metrics`."""

    def __init__(self, db: Database, clock: Clock, audit: Audit) -> None:
        self.db, self.clock, self.audit = db, clock, audit
        self._digest = ""

    async def load(self) -> None:
        """Read it at the start."""
        text = await self.db.read(_stored)
        self._digest = str(json.loads(text)) if text else ""

    def digest(self) -> str:
        """SHA-256 in hex; empty if there is no token."""
        return self._digest

    async def make(self, who: Principal) -> str:
        """Make a new token and return it; the old one ends. Right: server.manage."""
        who.require("server.manage")
        token = f"zxm_{secrets.token_urlsafe(32)}"
        await self._set(who, hashlib.sha256(token.encode()).hexdigest(), "metrics.token")
        return token

    async def drop(self, who: Principal) -> None:
        """End the token. Right: server.manage. Safe to repeat."""
        who.require("server.manage")
        if self._digest:
            await self._set(who, "", "metrics.token.end")

    async def _set(self, who: Principal, digest: str, action: str) -> None:
        now = self.clock.ms()

        def act(c: Connection) -> None:
            c.execute(delete(setting_t).where(setting_t.c.tenant == TENANT, setting_t.c.key == SETTING))
            if digest:
                row = {"tenant": TENANT, "key": SETTING, "value": json.dumps(digest), "updated_at": now}
                c.execute(insert(setting_t).values(**row))
            self.audit.record(c, who, action, "metrics")

        await self.db.write(act)
        self._digest = digest


def _stored(c: Connection) -> str:
    query = select(setting_t.c.value).where(setting_t.c.tenant == TENANT, setting_t.c.key == SETTING)
    return str(c.execute(query).scalar() or "")
