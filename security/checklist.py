"""The security checklist: each control probed for real, with evidence, age and remedy. Unknown is never green."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import DBAPIError

from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.errors import AppError, Conflict, Invalid, NotFound
from storage.principal import SYSTEM, TENANT, Principal
from storage.tables.system import Setting

log = logging.getLogger(__name__)
F = TypeVar("F")
setting_t = Setting.__table__  # type: ignore[attr-defined]

LAYERS = ("network", "transport", "application", "data", "operations")
STATUSES = ("fail", "warn", "unknown", "pass")
STORE = "security.checklist"
STALE = 36 * 3_600_000
DAY = 86_400_000
SECONDS = 5.0
DEEP_SECONDS = 60.0
# What a probe that cannot look raises; anything else is a mistake of ours and shall be seen as such.
CANNOT_LOOK = (AppError, OSError, TimeoutError, ValueError, RuntimeError, LookupError, DBAPIError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a probe saw. `say` names the evidence's text: `check.<id>.<say>`, filled with `params`."""

    status: str
    say: str
    params: Mapping[str, object] = field(default_factory=dict)


def ok(say: str, **params: object) -> Finding:
    """The control works: proved just now."""
    return Finding(status="pass", say=say, params=params)


def warn(say: str, **params: object) -> Finding:
    """It could be better."""
    return Finding(status="warn", say=say, params=params)


def fail(say: str, **params: object) -> Finding:
    """The control is missing or does not work."""
    return Finding(status="fail", say=say, params=params)


def unknown(say: str, **params: object) -> Finding:
    """It could not be looked at from here. Never shown green."""
    return Finding(status="unknown", say=say, params=params)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check(Generic[F]):
    """One control.

    Attributes:
        id: `<layer>.<name>`.
        critical: a red one stops channels and tools in production mode.
        deep: takes long; run at night and on request only.
        fix: mends it where that is safe; the probe is run again afterwards.
        attest: an admin may declare what cannot be seen from here, for so many days.
    """

    id: str
    probe: Callable[[F], Awaitable[Finding]]
    critical: bool = False
    deep: bool = False
    fix: Callable[[F], Awaitable[None]] | None = None
    attest: int = 0

    @property
    def layer(self) -> str:
        return self.id.partition(".")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckRow:
    """One line of the checklist.

    Attributes:
        status: `pass`, `warn`, `fail` or `unknown`.
        title, evidence, remedy: catalogue keys; `params` fill evidence and remedy. `remedy` is empty where all is well.
        at: when the evidence was taken, 0 if never. ms: how long that took.
        fixable: `fix` can mend it now.
        attest_days: an admin may declare it for so many days; 0: no.
        attested_by, attested_until: who declared it, until when; empty and 0 if nobody.
        hidden_by, hidden_until, hidden_reason: set aside on purpose, until when and why.
    """

    id: str
    layer: str
    critical: bool
    status: str
    title: str
    evidence: str
    remedy: str
    params: Mapping[str, object]
    at: int
    ms: int
    fixable: bool
    attest_days: int
    attested_by: str = ""
    attested_until: int = 0
    hidden_by: str = ""
    hidden_until: int = 0
    hidden_reason: str = ""

    @property
    def hidden(self) -> bool:
        return self.hidden_until > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """A kept result."""

    status: str
    say: str
    params: dict[str, object]
    at: int
    ms: int


Rows = list[CheckRow]
Names = list[str]
Changes = list[tuple[CheckRow, str]]


class ChecklistActions(Generic[F]):
    """What page, API, nightly run and metrics use.

    Args:
        checks: all controls, in the order of their layers.
        facts: what probes look at.
    """

    def __init__(self, db: Database, audit: Audit, clock: Clock, checks: Sequence[Check[F]], facts: F) -> None:
        self.db, self.audit, self.clock, self.facts = db, audit, clock, facts
        self.checks = {check.id: check for check in checks}
        self._seen: dict[str, _Seen] = {}
        self._marks: dict[str, dict[str, dict[str, Any]]] = {"attested": {}, "hidden": {}}
        self._running = asyncio.Lock()
        self._listeners: list[Callable[[CheckRow, str], None]] = []

    def on_change(self, listener: Callable[[CheckRow, str], None]) -> None:
        """Call `listener(row, status before)` when a status changed. It must not block or raise."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Read what was seen before the restart. What cannot be read is seen anew."""
        text = await self.db.read(_stored)
        try:
            raw = json.loads(text) if text else {}
            self._seen = {k: _Seen(**v) for k, v in raw.get("seen", {}).items() if k in self.checks}
            self._marks = {name: dict(raw.get(name, {})) for name in self._marks}
        except (ValueError, TypeError, AttributeError):
            log.warning("kept checklist results are unreadable: all is seen anew")

    # --- look

    async def list(self, who: Principal) -> Rows:
        """All checks, worst first within their layers. Right: security.view."""
        who.require("security.view")
        rows = [self._row(check) for check in self.checks.values()]
        return sorted(rows, key=lambda row: (LAYERS.index(row.layer), row.hidden, STATUSES.index(row.status), row.id))

    async def run(self, who: Principal, ids: Sequence[str] | None = None, *, deep: bool = False) -> Rows:
        """Probe now, all or some, and list. Right: security.view. Those named are probed also if they take long.

        Raises:
            NotFound: `check.missing`. Conflict: `check.running`.
        """
        who.require("security.view")
        chosen = [self._check(name) for name in ids] if ids is not None else list(self.checks.values())
        if ids is None:
            chosen = [check for check in chosen if deep or not check.deep]
        if self._running.locked():
            raise Conflict("check.running")
        async with self._running:
            seen = await asyncio.gather(*(self._look(check) for check in chosen))
            changed = self._keep(dict(zip((check.id for check in chosen), seen, strict=True)))
            await self._save()
        for row, before in changed:
            for listener in self._listeners:
                listener(row, before)
        return await self.list(who)

    async def nightly(self) -> Rows:
        """Probe everything, as the night's own work."""
        return await self.run(SYSTEM, deep=True)

    def snapshot(self) -> dict[str, str]:
        """Status by id, for metrics; without a database read."""
        return {name: self._row(check).status for name, check in self.checks.items()}

    def snapshot_times(self) -> dict[str, int]:
        """When each was looked at, 0 if never."""
        return {name: self._seen[name].at if name in self._seen else 0 for name in self.checks}

    def critical_failures(self) -> Names:
        """Ids of critical checks that are red and were not set aside."""
        rows = [self._row(check) for check in self.checks.values() if check.critical]
        return [row.id for row in rows if row.status == "fail" and not row.hidden]

    # --- act

    async def fix(self, who: Principal, name: str) -> CheckRow:
        """Mend what can be mended safely, and probe again. Right: security.manage.

        Raises:
            NotFound: `check.missing`. Conflict: `check.no_fix`.
        """
        who.require("security.manage")
        check = self._check(name)
        if check.fix is None:
            raise Conflict("check.no_fix")
        await check.fix(self.facts)
        await self.db.write(lambda c: self.audit.record(c, who, "security.fix", name))
        await self.run(who, [name])
        return self._row(check)

    async def attest(self, who: Principal, name: str, note: str = "") -> CheckRow:
        """Declare what cannot be seen from here; it expires. Right: security.manage.

        Raises:
            NotFound: `check.missing`. Conflict: `check.no_attest`.
        """
        who.require("security.manage")
        check = self._check(name)
        if not check.attest:
            raise Conflict("check.no_attest")
        mark = {"by": who.name, "until": self.clock.ms() + check.attest * DAY, "note": note[:500]}
        await self._mark(who, "security.attest", "attested", name, mark)
        await self.run(who, [name])
        return self._row(check)

    async def hide(self, who: Principal, name: str, reason: str, days: int) -> CheckRow:
        """Set a check aside for a time, with a reason. Right: security.manage. 0 days bring it back.

        Raises:
            NotFound: `check.missing`. Invalid: `check.reason`, `check.days`.
        """
        who.require("security.manage")
        check = self._check(name)
        if not 0 <= days <= 365:
            raise Invalid("check.days", "days", most=365)
        if days and len(reason.strip()) < 5:
            raise Invalid("check.reason", "reason")
        mark = {"by": who.name, "until": self.clock.ms() + days * DAY, "reason": reason.strip()[:500]}
        await self._mark(who, "security.hide", "hidden", name, mark if days else None)
        return self._row(check)

    async def _mark(self, who: Principal, action: str, kind: str, name: str, mark: dict[str, Any] | None) -> None:
        before = self._marks[kind].get(name)
        if mark is None:
            self._marks[kind].pop(name, None)
        else:
            self._marks[kind][name] = mark

        def run(c: Connection) -> None:
            _store(c, self._stored_form(), self.clock.ms())
            self.audit.record(c, who, action, name, before=before, after=mark)

        await self.db.write(run)

    def attested(self, name: str) -> bool:
        """True while an admin's declaration holds."""
        return int(self._marks["attested"].get(name, {}).get("until", 0)) > self.clock.ms()

    # --- inner

    def _check(self, name: str) -> Check[F]:
        if name not in self.checks:
            raise NotFound("check.missing")
        return self.checks[name]

    async def _look(self, check: Check[F]) -> _Seen:
        began = self.clock.monotonic()
        try:
            async with asyncio.timeout(DEEP_SECONDS if check.deep else SECONDS):
                found = await check.probe(self.facts)
        except TimeoutError:
            found = unknown("time")
        except CANNOT_LOOK as error:
            log.info("check %s could not look: %s", check.id, error)
            why = error.code if isinstance(error, AppError) else type(error).__name__
            found = unknown("error", why=why)
        ms = int((self.clock.monotonic() - began) * 1000)
        return _Seen(status=found.status, say=found.say, params=dict(found.params), at=self.clock.ms(), ms=ms)

    def _keep(self, seen: dict[str, _Seen]) -> Changes:
        before = {name: self._seen[name].status if name in self._seen else "unknown" for name in seen}
        self._seen |= seen
        rows = {name: self._row(self.checks[name]) for name in seen}
        return [(row, before[name]) for name, row in rows.items() if row.status != before[name]]

    async def _save(self) -> None:
        await self.db.write(lambda c: _store(c, self._stored_form(), self.clock.ms()), durable=False)

    def _stored_form(self) -> str:
        seen = {name: asdict(item) for name, item in self._seen.items()}
        return json.dumps({"seen": seen, **self._marks}, ensure_ascii=False, default=str)

    def _row(self, check: Check[F]) -> CheckRow:
        now, seen = self.clock.ms(), self._seen.get(check.id)
        row = CheckRow(
            id=check.id,
            layer=check.layer,
            critical=check.critical,
            status="unknown",
            title=f"check.{check.id}",
            evidence="check.any.never",
            remedy="",
            params={},
            at=0,
            ms=0,
            fixable=False,
            attest_days=check.attest,
        )
        if seen is not None:
            stale = now - seen.at > STALE
            common = seen.say in ("time", "error")
            row = replace(
                row,
                status="unknown" if stale and seen.status == "pass" else seen.status,
                evidence=f"check.any.{seen.say}" if common else f"check.{check.id}.{seen.say}",
                remedy="" if seen.status == "pass" else f"check.{check.id}.remedy",
                params=seen.params,
                at=seen.at,
                ms=seen.ms,
                fixable=check.fix is not None and seen.status in ("fail", "warn"),
            )
        attested, hidden = self._marks["attested"].get(check.id, {}), self._marks["hidden"].get(check.id, {})
        if int(attested.get("until", 0)) > now:
            row = replace(row, attested_by=str(attested["by"]), attested_until=int(attested["until"]))
        if int(hidden.get("until", 0)) > now:
            row = replace(
                row,
                hidden_by=str(hidden["by"]),
                hidden_until=int(hidden["until"]),
                hidden_reason=str(hidden["reason"]),
            )
        return row


def _stored(c: Connection) -> str:
    query = select(setting_t.c.value).where(setting_t.c.tenant == TENANT, setting_t.c.key == STORE)
    return str(c.execute(query).scalar() or "")


def _store(c: Connection, text: str, now: int) -> None:
    c.execute(delete(setting_t).where(setting_t.c.tenant == TENANT, setting_t.c.key == STORE))
    c.execute(insert(setting_t).values(tenant=TENANT, key=STORE, value=text, updated_at=now))
