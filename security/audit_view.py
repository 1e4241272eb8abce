"""The audit log as people and programs read it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, and_, func, select

from storage.anchor import Anchor
from storage.audit import Audit, ChainResult, audit_t
from storage.database import Database
from storage.principal import Principal

MOST_PAGE = 200
Names = list[str]
Pairs = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """One act. `hash` covers the entry before it."""

    id: int
    at: int
    who: str
    who_name: str
    action: str
    target: str
    before: Any
    after: Any
    ip: str
    result: str
    hash: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditActions:
    """Right: audit.view."""

    db: Database
    audit: Audit
    anchor: Anchor | None = None

    async def list(
        self,
        who: Principal,
        *,
        action: str = "",
        by: str = "",
        since: int | None = None,
        until: int | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[AuditEntry]:
        """Acts, newest first; `before` is the id of the last one seen.

        Args:
            action: `bot.pause`, or `bot.` for all of that noun.
            by: id of whoever acted, e.g. `user:3`, `key:7`.
            since, until: ms, both included.
        """
        who.require("audit.view")
        where = [audit_t.c.tenant == who.tenant]
        if action:
            exact = audit_t.c.action == action
            where.append(audit_t.c.action.startswith(action, autoescape=True) if action.endswith(".") else exact)
        if by:
            where.append(audit_t.c.who == by)
        if since is not None:
            where.append(audit_t.c.at >= since)
        if until is not None:
            where.append(audit_t.c.at <= until)
        if before is not None:
            where.append(audit_t.c.id < before)
        query = select(audit_t).where(and_(*where)).order_by(audit_t.c.id.desc()).limit(max(1, min(limit, MOST_PAGE)))

        def fn(c: Connection) -> list[AuditEntry]:
            return [_entry(row) for row in c.execute(query)]

        return await self.db.read(fn)

    async def verify(self, who: Principal) -> ChainResult:
        """Walk the whole chain, and compare its end with the note outside of the database."""
        who.require("audit.view")
        return await self.db.read(self._verify)

    def _verify(self, c: Connection) -> ChainResult:
        found = self.audit.verify(c)
        return found if self.anchor is None else replace(found, anchor=self.anchor.check(c).state)

    async def known(self, who: Principal) -> tuple[Names, Pairs]:
        """What can be chosen from: nouns of the acts; id and last name of those who acted."""
        who.require("audit.view")

        def fn(c: Connection) -> tuple[Names, Pairs]:
            mine = audit_t.c.tenant == who.tenant
            actions = c.execute(select(audit_t.c.action).where(mine).distinct().limit(500)).scalars()
            newest = select(func.max(audit_t.c.id)).where(mine).group_by(audit_t.c.who).limit(500)
            people = c.execute(select(audit_t.c.who, audit_t.c.who_name).where(audit_t.c.id.in_(newest)))
            pairs = [(row.who, row.who_name or row.who) for row in people]
            return sorted({action.partition(".")[0] for action in actions}), sorted(pairs, key=lambda pair: pair[1])

        return await self.db.read(fn)


def _entry(row: Any) -> AuditEntry:
    names = ("id", "at", "who", "who_name", "action", "target", "ip", "result", "hash")
    values = {name: getattr(row, name) for name in names}
    return AuditEntry(**values, before=_value(row.before), after=_value(row.after))


def _value(text: str) -> Any:
    """What was recorded; as text where it was too long to be whole."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
