"""Writes schedules' rows, inside the caller's transaction: made, changed, removed, provided by a file."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from agent.schedules.blanks import fill_url
from agent.schedules.draft import ScheduleDraft, Task
from agent.schedules.planning import first
from agent.schedules.rows import OPEN, digest, draft_of, one, rule_of, run_t, schedule_t, workdays
from agent.schedules.steps import every, read_steps, secrets_of
from storage.audit import Audit
from storage.clock import Clock
from storage.database import new_id
from storage.errors import Conflict, Invalid, NotFound
from storage.ledger import seen_t
from storage.principal import Principal
from storage.vault import Vault

MOST_SCHEDULES = 1_000
FILE = "file:"


class ScheduleRows:
    """Rows of schedules."""

    def __init__(self, vault: Vault, audit: Audit, clock: Clock) -> None:
        self.vault, self.audit, self.clock = vault, audit, clock

    def get(self, c: Connection, tenant: str, name: str) -> Row[Any]:
        """A schedule. Raises `NotFound`."""
        row = one(c, tenant, name)
        if row is None:
            raise NotFound("schedule.unknown", name=name[:60])
        return row

    def editable(self, c: Connection, tenant: str, name: str) -> Row[Any]:
        """A schedule that may be changed here. Raises `NotFound`, `Conflict` (managed by a file)."""
        row = self.get(c, tenant, name)
        if row.managed_by:
            raise Conflict("schedule.managed_by_file", file=row.managed_by)
        return row

    def save(
        self,
        c: Connection,
        who: Principal,
        draft: ScheduleDraft,
        *,
        old: Row[Any] | None,
        managed_by: str = "",
        chat: Mapping[str, str] | None = None,
    ) -> int:
        """Insert or update. Whoever saves it is whose rights it runs with from now on.

        A command that a person saves is allowed by that; one from a file waits, or stays allowed while it is the same.

        Args:
            chat: `address`, `origin` of a schedule that was made in a chat.
        """
        now = self.clock.ms()
        values: dict[str, Any] = {
            name: getattr(draft, name)
            for name in (
                *("name", "kind", "expression", "zone", "bot", "target", "missed", "missed_within", "overlap"),
                *("retries", "backoff", "timeout", "alert_after", "pause_after", "expires_at"),
            )
        }
        values |= {"work": draft.task.to_json(draft.kind), "managed_by": managed_by, "updated_at": now}
        values |= {"owner": f"{FILE}{managed_by}" if managed_by else who.id, "owner_name": managed_by or who.name}
        values |= {"origin": "t0" if managed_by else "t1"} | dict(chat or {})
        if draft.kind == "command" and not managed_by:
            values |= {"allowed": digest(draft.task.command), "allowed_by": who.id, "allowed_at": now}
        if old is not None and self._same(old, values, draft):
            return int(old.id)
        moved = old is None or any(getattr(old, name) != values[name] for name in ("expression", "zone"))
        if moved or (old is not None and old.expires_at != draft.expires_at):
            values |= {"cursor": now, "next_at": self._first(c, who.tenant, values, now)}
        if old is None:
            self._room(c, who.tenant)
            made = insert(schedule_t).values(tenant=who.tenant, created_at=now, paused_why="", failures=0, **values)
            schedule_id = new_id(c.execute(made))
        else:
            schedule_id = int(old.id)
            values |= {"failures": 0, "alerted_at": None}
            c.execute(update(schedule_t).where(schedule_t.c.id == schedule_id).values(**values))
        self._secrets(c, who.tenant, schedule_id, draft, old)
        hidden = ("cursor", "next_at", "updated_at", "allowed", "allowed_at", "failures", "alerted_at", "owner_name")
        after = {name: value for name, value in values.items() if name not in hidden}
        before = None if old is None else {name: getattr(old, name) for name in after}
        self.audit.record(c, who, "schedule.save", draft.name, before, after | {"secrets": sorted(draft.secrets)})
        return schedule_id

    def drop(self, c: Connection, who: Principal, row: Row[Any]) -> None:
        """Remove a schedule with its history, its secrets, and what it has handled."""
        for name in self.names(row):
            self.vault.remove(c, row.tenant, f"schedule:{row.id}:{name}")
        c.execute(delete(run_t).where(run_t.c.schedule_id == row.id))
        c.execute(delete(seen_t).where(and_(seen_t.c.tenant == row.tenant, seen_t.c.scope == f"schedule:{row.id}")))
        c.execute(delete(schedule_t).where(schedule_t.c.id == row.id))
        self.audit.record(c, who, "schedule.remove", row.name, before={"kind": row.kind, "work": row.work})

    def pause(self, c: Connection, who: Principal, row: Row[Any], *, paused: bool) -> bool:
        """Pause or go on; times that passed meanwhile are not missed. False if it was so already."""
        if (row.paused_at is not None) == paused:
            return False
        now = self.clock.ms()
        values: dict[str, object] = {"paused_at": now if paused else None, "paused_why": "", "updated_at": now}
        if not paused:
            at = first(rule_of(row), now, workdays(c, row.tenant))
            values |= {"cursor": now, "next_at": at, "failures": 0, "alerted_at": None}
        c.execute(update(schedule_t).where(schedule_t.c.id == row.id).values(**values))
        self.audit.record(c, who, "schedule.pause" if paused else "schedule.resume", row.name)
        return True

    def replan(self, c: Connection, tenant: str) -> None:
        """The calendar has changed: all times to come are worked out anew."""
        now, known = self.clock.ms(), workdays(c, tenant)
        for row in c.execute(select(schedule_t).where(schedule_t.c.tenant == tenant)).all():
            if row.next_at is not None and row.next_at > now:
                at = first(rule_of(row), max(now, row.cursor), known)
                values = {"next_at": at, "updated_at": now}
                c.execute(update(schedule_t).where(schedule_t.c.id == row.id).values(**values))

    def names(self, row: Row[Any]) -> builtins.list[str]:
        """Names of a schedule's secrets."""
        if row.kind == "http":
            return ["authorization"]
        if row.kind != "workflow":
            return []
        try:
            return secrets_of(read_steps(Task.from_json(row.work).steps))
        except Invalid:
            return []

    # ---- inside

    def _same(self, old: Row[Any], values: Mapping[str, Any], draft: ScheduleDraft) -> bool:
        apart = ("updated_at", "allowed", "allowed_by", "allowed_at", "owner", "owner_name")
        if old.managed_by:  # a file is looked at often, and changes seldom
            return not draft.secrets and all(getattr(old, k) == v for k, v in values.items() if k not in apart)
        return False

    def _first(self, c: Connection, tenant: str, values: Mapping[str, Any], now: int) -> int | None:
        at = first(rule_of(_Values(values)), now, workdays(c, tenant))
        if at is None:
            raise Invalid("schedule.never", field="expression")
        return at

    def _room(self, c: Connection, tenant: str) -> None:
        count = c.execute(select(func.count()).select_from(schedule_t).where(schedule_t.c.tenant == tenant)).scalar()
        if int(count or 0) >= MOST_SCHEDULES:
            raise Conflict("schedule.too_many", most=MOST_SCHEDULES)

    def _secrets(
        self, c: Connection, tenant: str, schedule_id: int, draft: ScheduleDraft, old: Row[Any] | None
    ) -> None:
        """Keep new secrets. Old ones stay only while they go where they were entered for."""
        kept = self.names(old) if old is not None else []
        wanted = ["authorization"] if draft.kind == "http" else []
        wanted += secrets_of(read_steps(draft.task.steps)) if draft.kind == "workflow" else []
        staying = [name for name in kept if name in wanted and not draft.secrets.get(name)]
        known = [name for name in staying if self.vault.tail(c, tenant, f"schedule:{schedule_id}:{name}") is not None]
        if known and old is not None:
            before = hosts(draft_of(old))
            if not hosts(draft) <= before:
                raise Invalid("schedule.secret_again", field=f"secret_{known[0]}", name=known[0])
        for name in kept:
            if name not in wanted:
                self.vault.remove(c, tenant, f"schedule:{schedule_id}:{name}")
        for name, value in draft.secrets.items():
            if name in wanted and value:
                self.vault.seal(c, tenant, f"schedule:{schedule_id}:{name}", value)


class _Values:
    """Values as attributes, as a row has them."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)


def hosts(draft: ScheduleDraft) -> set[str]:
    """Where a schedule's calls go."""
    if draft.kind == "http":
        return {urlsplit(draft.task.url).netloc.lower()}
    if draft.kind != "workflow":
        return set()
    known: dict[str, object] = {"value": dict(draft.task.values)}
    return {
        urlsplit(fill_url(step.http.url, known)).netloc.lower()
        for step in every(read_steps(draft.task.steps))
        if step.http is not None
    }


def open_runs(c: Connection, schedule_id: int) -> list[Row[Any]]:
    """Runs that have not ended, with their jobs."""
    query = select(run_t.c.id, run_t.c.job_id, run_t.c.state)
    return list(c.execute(query.where(and_(run_t.c.schedule_id == schedule_id, run_t.c.state.in_(OPEN)))).all())
