"""What page, API, `doctor` and metrics use of the health tests: run them, follow the run, read and mend."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import DBAPIError

from security.health.row import GROUPS, STATUSES, Found, HealthRow, HealthTest, Progress, unknown
from storage.audit import Audit
from storage.background import Background
from storage.clock import Clock
from storage.database import Database
from storage.errors import AppError, Conflict, NotFound
from storage.principal import TENANT, Principal
from storage.tables.system import Setting

log = logging.getLogger(__name__)
setting_t = Setting.__table__  # type: ignore[attr-defined]

STORE = "health.results"
STALE = 24 * 3_600_000
MOST_AT_ONCE = 4
MOST_ROWS = 400
# What a probe that cannot look raises; anything else is a mistake of ours and shall be seen as such.
CANNOT_LOOK = (AppError, OSError, TimeoutError, ValueError, RuntimeError, LookupError, DBAPIError)

Rows = list[HealthRow]


class HealthActions:
    """All health tests of the process.

    Args:
        tests: in the order of their groups.
        serving: False in `doctor`, which cannot look inside the serving process.
    """

    def __init__(
        self,
        *,
        db: Database,
        audit: Audit,
        clock: Clock,
        background: Background,
        tests: Sequence[HealthTest],
        serving: bool = True,
    ) -> None:
        self.db, self.audit, self.clock, self.background = db, audit, clock, background
        self.tests = {test.id: test for test in tests}
        self.serving = serving
        self._rows: dict[str, Rows] = {}
        self._run: asyncio.Task[None] | None = None
        self._now: list[str] = []
        self._done = self._total = 0

    async def load(self) -> None:
        """Read what was seen before the restart. What cannot be read is seen anew."""
        text = await self.db.read(_stored)
        try:
            raw = json.loads(text) if text else {}
            self._rows = {k: [HealthRow(**row) for row in v] for k, v in raw.items() if k in self.tests}
        except (ValueError, TypeError, AttributeError):
            log.warning("kept results of the health tests are unreadable: all is seen anew")

    # ---- look

    async def list(self, who: Principal) -> Rows:
        """The latest result of every test, worst first within its group. Right: health.view."""
        who.require("health.view")
        return self._listed()

    def progress(self, who: Principal) -> Progress:
        """How far the run is that somebody started. Right: health.view."""
        who.require("health.view")
        if self._run is None or self._run.done():
            return Progress()
        return Progress(done=self._done, total=self._total, now=tuple(self._now))

    def start(self, who: Principal, ids: Sequence[str] | None = None) -> None:
        """Begin a run of all or some tests; it goes on when whoever started it leaves. Right: health.view.

        Raises:
            NotFound: `health.missing`. Conflict: `health.running`.
        """
        who.require("health.view")
        chosen = self._chosen(ids)
        if self._run is not None and not self._run.done():
            raise Conflict("health.running")
        self._done, self._total, self._now = 0, len(chosen), []
        self._run = self.background.spawn("health tests", self._all(chosen))

    async def run(self, who: Principal, ids: Sequence[str] | None = None) -> Rows:
        """Run all or some tests to their end, and list. Right: health.view. Raises as `start`."""
        self.start(who, ids)
        await self.settled()
        return self._listed()

    async def settled(self) -> None:
        """Wait for the end of the run, if there is one."""
        if self._run is not None:
            await asyncio.wait({self._run})

    def snapshot(self) -> dict[str, str]:
        """Status by test and subject, for metrics; without a database read."""
        rows = [self._fresh(row) for rows in self._rows.values() for row in rows]
        return {f"{row.id}/{row.subject}/{row.step}": row.status for row in rows}

    # ---- act

    async def fix(self, who: Principal, name: str, subject: str = "") -> Rows:
        """Mend what a test found about a subject, and test again. Right: server.manage.

        Raises:
            NotFound: `health.missing`. Conflict: `health.no_fix`, `health.running`.
        """
        who.require("server.manage")
        test = self._test(name)
        found = [row for row in self._rows.get(name, ()) if row.subject == subject and row.fixable]
        if test.fix is None or not found:
            raise Conflict("health.no_fix")
        await test.fix(who, subject)
        await self.db.write(lambda c: self.audit.record(c, who, "health.fix", f"{name} {subject}".strip()))
        return await self.run(who, [name])

    # ---- inside

    def _test(self, name: str) -> HealthTest:
        if name not in self.tests:
            raise NotFound("health.missing")
        return self.tests[name]

    def _chosen(self, ids: Sequence[str] | None) -> Sequence[HealthTest]:
        return [*self.tests.values()] if ids is None else [self._test(name) for name in dict.fromkeys(ids)]

    async def _all(self, chosen: Sequence[HealthTest]) -> None:
        places = asyncio.Semaphore(MOST_AT_ONCE)

        async def one(test: HealthTest) -> None:
            async with places:
                self._now.append(test.id)
                self._rows[test.id] = await self._look(test)
                self._now.remove(test.id)
                self._done += 1

        await asyncio.gather(*(one(test) for test in chosen))
        if not self.serving:
            return
        try:
            await self.db.write(lambda c: _store(c, self._stored_form(), self.clock.ms()), durable=False)
        except AppError as error:
            log.warning("results of the health tests are not kept: %s", error)

    async def _look(self, test: HealthTest) -> Rows:
        began = self.clock.monotonic()
        found: Sequence[Found]
        if test.inside and not self.serving:
            found = [unknown("any.inside")]
        else:
            try:
                async with asyncio.timeout(test.seconds):
                    found = await test.look()
            except TimeoutError:
                found = [unknown("any.time", seconds=round(test.seconds))]
            except CANNOT_LOOK as error:
                log.info("health test %s could not look: %r", test.id, error)
                found = [_could_not(error)]
        took, at = int((self.clock.monotonic() - began) * 1000), self.clock.ms()
        return [
            HealthRow(
                id=test.id,
                group=test.group,
                status=item.status if item.status in STATUSES else "unknown",
                say=item.say,
                code=item.code,
                text=item.text,
                remedy=item.remedy,
                params={key: str(value)[:500] for key, value in item.params.items()},
                subject=item.subject[:120],
                step=item.step,
                to=item.to,
                fixable=item.fixable and test.fix is not None,
                at=at,
                ms=item.ms or took,
            )
            for item in found[:MOST_ROWS]
        ]

    def _listed(self) -> Rows:
        rows = [
            self._fresh(row)
            for test in self.tests.values()
            for row in self._rows.get(test.id, [HealthRow(id=test.id, group=test.group, status="unknown")])
        ]
        order = {name: place for place, name in enumerate(self.tests)}
        return sorted(
            rows,
            key=lambda row: (GROUPS.index(row.group), STATUSES.index(row.status), order[row.id], row.subject),
        )

    def _fresh(self, row: HealthRow) -> HealthRow:
        """Green only on fresh proof."""
        if row.status == "pass" and self.clock.ms() - row.at > STALE:
            return replace(row, status="unknown", say="any.stale", code="", text="", remedy="", params={})
        return row

    def _stored_form(self) -> str:
        kept: dict[str, Any] = {name: [asdict(row) for row in rows] for name, rows in self._rows.items()}
        return json.dumps(kept, ensure_ascii=False, default=str)


def _could_not(error: BaseException) -> Found:
    if isinstance(error, AppError):
        return Found(status="unknown", code=error.code, params=dict(error.params))
    return unknown("any.error", why=f"{type(error).__name__}: {error}"[:200])


def _stored(c: Connection) -> str:
    query = select(setting_t.c.value).where(setting_t.c.tenant == TENANT, setting_t.c.key == STORE)
    return str(c.execute(query).scalar() or "")


def _store(c: Connection, text: str, now: int) -> None:
    c.execute(delete(setting_t).where(setting_t.c.tenant == TENANT, setting_t.c.key == STORE))
    c.execute(insert(setting_t).values(tenant=TENANT, key=STORE, value=text, updated_at=now))
