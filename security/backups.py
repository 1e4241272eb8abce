"""Backups as people, the console and the clock use them."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Row

from security import backup_rows as rows_of
from security.backup_plan import DAY, HOUR, OWN, STORE_SECRET, Plan, due, kept, read_plan, upcoming
from security.backup_rows import BackupRow
from security.backup_target import Target, place_of
from security.egress import Egress
from security.probes.facts import BackupFacts
from security.step_up import StepUp
from storage.audit import Audit
from storage.backup.archive import write_archive
from storage.backup.key import public_of
from storage.backup.manifest import Manifest
from storage.backup.restore import trial
from storage.backup.review import state_of
from storage.backup.snapshot import members, take_snapshot
from storage.clock import Clock
from storage.crash import CrashPoints
from storage.database import Database
from storage.errors import AppError, Conflict, NotFound, Unavailable
from storage.principal import SYSTEM, TENANT, Principal
from storage.settings import Settings
from storage.vault import Vault

log = logging.getLogger(__name__)
T = TypeVar("T")

TEST_EVERY = 7 * DAY
SPARE = 200 * 1_048_576


@dataclass(frozen=True, kw_only=True, slots=True)
class BackupView:
    """What the page shows first.

    Attributes:
        review: what a restore paused and nobody has reviewed yet; None if there is nothing.
        ours: the database is a file of ours; else it is backed up by its own means.
        secret_tail: of the store's secret key, None if none is kept.
    """

    rows: list[BackupRow]
    plan: Plan
    next_at: int
    running: bool
    review: dict[str, Any] | None
    ours: bool
    secret_tail: str | None
    folder: str


class BackupActions:
    """Right: backup.view to look, backup.manage to act; what gives data away wants a fresh proof (`step_up.needed`)."""

    def __init__(
        self,
        *,
        settings: Settings,
        db: Database,
        vault: Vault,
        audit: Audit,
        clock: Clock,
        egress: Egress,
        step_up: StepUp,
        alone: bool = True,
    ) -> None:
        self.settings, self.db, self.vault, self.audit, self.clock = settings, db, vault, audit, clock
        self.egress, self.step_up, self._ours = egress, step_up, alone
        self.folder = settings.backups_dir
        self._crash = CrashPoints(settings.crash_at)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="backup", initializer=_gently)
        self._busy = asyncio.Lock()

    async def load(self) -> None:
        """Clear up what an ended process left behind. Another process that is at it is not disturbed."""
        now = self.clock.ms()

        def tidy() -> bool:
            try:
                with self._alone():
                    for path in [*self.folder.glob("*.part"), *self.folder.glob("*.copy*")]:
                        path.unlink(missing_ok=True)
                    shutil.rmtree(self.folder / "trial", ignore_errors=True)
                    return True
            except AppError:
                return False

        if not await self._thread(tidy):
            return
        for row in await self.db.write(lambda c: rows_of.cut_off(c, now)):
            path = self.folder / row.name
            if row.name and path.is_file():  # it has its name only once it is whole: the process died before it said so
                size, digest = await self._thread(lambda path=path: _measured(path))  # type: ignore[misc]
                done = {"status": "done", "error": "", "size": size, "hash": digest}
                await self.db.write(lambda c, row=row, done=done: rows_of.change(c, row.id, **done))  # type: ignore[misc]

    def close(self) -> None:
        """End the thread; what it is at is finished."""
        self._pool.shutdown(wait=True)

    # ---- looking

    async def view(self, who: Principal) -> BackupView:
        """All that the page shows. Right: backup.view."""
        who.require("backup.view")

        def look(c: Connection) -> tuple[list[Row[Any]], Plan, dict[str, Any] | None, str | None]:
            return rows_of.newest(c), read_plan(c), state_of(c), self.vault.tail(c, TENANT, STORE_SECRET)

        rows, plan, review, tail = await self.db.read(look)
        shown = await asyncio.to_thread(lambda: [rows_of.shown(row, self.folder) for row in rows])
        return BackupView(
            rows=shown,
            plan=plan,
            next_at=upcoming(plan.at, self.clock.now()) if plan.recipient else 0,
            running=self._busy.locked(),
            review=review,
            ours=self._ours,
            secret_tail=tail,
            folder=str(self.folder),
        )

    async def facts(self) -> BackupFacts | None:
        """For the security checklist."""
        return await self.db.read(rows_of.facts)

    # ---- acting

    async def run(self, who: Principal, kind: str = "manual") -> BackupRow:
        """Make a backup now, and bring it to the other place. Right: backup.manage.

        Raises:
            Conflict: `backup.no_key`, `backup.running`, `backup.shared` (PostgreSQL is backed up by its own means).
            Unavailable: `start.disk_full`, `db.damaged`, `backup.disk`.
            That the other place could not be reached is in the row.
        """
        who.require("backup.manage")
        if not self._ours:
            raise Conflict("backup.shared")
        plan = await self.db.read(read_plan)
        if not plan.recipient:
            raise Conflict("backup.no_key")
        if self._busy.locked():
            raise Conflict("backup.running")
        async with self._busy:
            now = self.clock.ms()
            name = await asyncio.to_thread(self._name)
            backup_id = await self.db.write(lambda c: rows_of.begin(c, kind, name, now))
            try:
                manifest, size, digest = await self._make(plan, name, now)
            except (AppError, OSError, sqlite3.Error) as error:
                await self._failed(backup_id, error)
                raise
            done = {
                "status": "done",
                "size": size,
                "hash": digest,
                "rows": manifest.rows,
                "files": len(manifest.files),
                "revision": manifest.revision,
                "ended_at": self.clock.ms(),
            }

            def record(c: Connection) -> None:
                rows_of.change(c, backup_id, **done)
                self.audit.record(c, who, "backup.made", name, after={"size": size, "rows": manifest.rows})

            await self.db.write(record)
            self._crash.reached("backup.recorded")
            await self._send(plan, backup_id, name)
            await self._tidy(plan)
        return rows_of.shown(await self.db.read(lambda c: rows_of.get(c, backup_id)), self.folder)

    async def _make(self, plan: Plan, name: str, now: int) -> tuple[Manifest, int, str]:
        own = await self.db.read(lambda c: self.vault.open(c, TENANT, OWN))
        recipients = [plan.recipient, *([public_of(own)] if own else [])]

        def make() -> tuple[Manifest, int, str]:
            with self._alone():
                self._room()
                copy = self.folder / f"{name}.copy"
                try:
                    shot = take_snapshot(self.settings, copy, now)
                    self._crash.reached("backup.copied")
                    manifest = write_archive(
                        self.folder / name, members(self.settings, shot), shot.manifest, recipients
                    )
                    self._crash.reached("backup.written")
                finally:
                    for path in self.folder.glob(f"{name}.copy*"):
                        path.unlink(missing_ok=True)
                return manifest, *_measured(self.folder / name)

        try:
            return await self._thread(make)
        except OSError as error:
            raise Unavailable("backup.disk", path=str(self.folder), reason=error.strerror or str(error)) from error
        except sqlite3.Error as error:
            raise Unavailable("db.damaged", path=str(self.settings.db_file), reason=str(error)[:200]) from error

    async def _failed(self, backup_id: int, error: Exception) -> None:
        log.warning("backup failed: %s", error)
        code = error.code if isinstance(error, AppError) else "backup.disk"
        values = {"status": "failed", "error": code, "detail": str(error)[:2000], "ended_at": self.clock.ms()}
        await self.db.write(lambda c: rows_of.change(c, backup_id, **values))

    async def _send(self, plan: Plan, backup_id: int, name: str) -> None:
        secret = await self.db.read(lambda c: self.vault.open(c, TENANT, STORE_SECRET))
        place = self._place(plan, secret)
        if place is None:
            return
        values: dict[str, object] = {"away_error": ""}
        try:
            await place.put(self.folder / name)
            values["away"] = self.clock.ms()
        except (AppError, OSError) as error:
            log.warning("backup %s did not reach the other place: %s", name, error)
            values["away_error"] = error.code if isinstance(error, AppError) else "backup.disk"
        await self.db.write(lambda c: rows_of.change(c, backup_id, **values))

    async def _tidy(self, plan: Plan) -> None:
        """Remove what is older than the plan wants, here and at the other place."""
        rows = await self.db.read(rows_of.standing)
        stay = kept([row.started_at for row in rows], plan, self.clock.ms())
        for row in rows:
            if row.started_at not in stay:
                await self._remove(plan, row)

    async def _remove(self, plan: Plan, row: Row[Any]) -> None:
        await asyncio.to_thread((self.folder / row.name).unlink, missing_ok=True)
        secret = await self.db.read(lambda c: self.vault.open(c, TENANT, STORE_SECRET))
        place = self._place(plan, secret)
        if place is not None and row.away:
            try:
                await place.remove(row.name)
            except (AppError, OSError) as error:
                log.warning("backup %s could not be removed from the other place: %s", row.name, error)
        now = self.clock.ms()
        await self.db.write(lambda c: rows_of.change(c, row.id, removed_at=now))

    async def test(self, who: Principal, backup_id: int) -> BackupRow:
        """Restore one into a temporary folder and prove everything. Right: backup.manage.

        Raises:
            NotFound: `backup.missing`, `backup.gone`. Conflict: `backup.running`. What failed is in the row.
        """
        who.require("backup.manage")
        row = await self.db.read(lambda c: rows_of.get(c, backup_id))
        path = self.folder / row.name
        if not row.name or not path.is_file():
            raise NotFound("backup.gone")
        if self._busy.locked():
            raise Conflict("backup.running")
        async with self._busy:
            own = await self.db.read(lambda c: self.vault.open(c, TENANT, OWN))
            if own is None:
                raise Conflict("backup.no_key")
            error = ""
            try:
                await self._thread(lambda: trial(path, own, self.folder / "trial", self.clock))
            except AppError as found:
                error = found.code
                log.warning("trial restore of %s failed: %s", row.name, found)
            now = self.clock.ms()

            def record(c: Connection) -> None:
                rows_of.change(c, backup_id, tested_at=now, test_error=error)
                self.audit.record(c, who, "backup.test", row.name, after={"error": error}, result=error or "ok")

            await self.db.write(record)
        return rows_of.shown(await self.db.read(lambda c: rows_of.get(c, backup_id)), self.folder)

    async def file(self, who: Principal, backup_id: int) -> Path:
        """The file of one, to be taken away. Right: backup.manage, freshly proved.

        Raises:
            NotFound: `backup.missing`, `backup.gone`.
        """
        self._may(who)
        row = await self.db.read(lambda c: rows_of.get(c, backup_id))
        path = self.folder / str(row.name)
        if not row.name or not await asyncio.to_thread(path.is_file):
            raise NotFound("backup.gone")
        await self.db.write(lambda c: self.audit.record(c, who, "backup.download", row.name))
        return path

    async def remove(self, who: Principal, backup_id: int) -> None:
        """Remove one, here and at the other place. Right: backup.manage, freshly proved. Safe to repeat."""
        self._may(who)
        row = await self.db.read(lambda c: rows_of.get(c, backup_id))
        plan = await self.db.read(read_plan)
        await self._remove(plan, row)
        await self.db.write(lambda c: self.audit.record(c, who, "backup.remove", row.name))

    # ---- the clock's

    async def tick(self) -> None:
        """Called every few minutes: the daily backup when its time has come, the weekly trial, each once."""
        plan = await self.db.read(read_plan)
        if not plan.recipient or self._busy.locked():
            return
        rows = await self.db.read(rows_of.newest)
        daily = [row for row in rows if row.kind == "daily"]
        done = max((row.started_at for row in daily if row.status == "done"), default=0)
        tried = max((row.started_at for row in daily), default=0)
        now = self.clock.ms()
        if due(plan.at, done, self.clock.now()) and tried < now - HOUR:
            try:
                await self.run(SYSTEM, "daily")
            except AppError as error:
                log.warning("the daily backup failed: %s", error)
                return
        here = [row for row in await self.db.read(rows_of.standing) if (self.folder / row.name).is_file()]
        tested = max((row.tested_at or 0 for row in rows if not row.test_error), default=0)
        if here and tested < now - TEST_EVERY and (here[0].tested_at or 0) < now - DAY:
            await self.test(SYSTEM, here[0].id)

    # ---- inner

    def _place(self, plan: Plan, secret: str | None) -> Target | None:
        return place_of(plan.target, secret or "", data=self.settings.data, egress=self.egress, clock=self.clock)

    def _may(self, who: Principal) -> None:
        who.require("backup.manage")
        self.step_up.require(who)

    async def _thread(self, fn: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, fn)

    def _name(self) -> str:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stem = self.clock.now().strftime("zhixing-%Y%m%d-%H%M%S")
        tries = (f"{stem}{end}.age" for end in ("", *(f"-{n}" for n in range(1, 100))))
        return next(name for name in tries if not (self.folder / name).exists())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time: the console may be at it beside the server."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict("backup.running") from error
            yield
        finally:
            os.close(handle)

    def _room(self) -> None:
        data = self.settings.data
        need = 2 * self.settings.db_file.stat().st_size + SPARE
        need += sum(path.stat().st_size for path in self.settings.files_dir.rglob("*") if path.is_file())
        free = shutil.disk_usage(self.folder).free
        if free < need:
            raise Unavailable("start.disk_full", folder=str(data), free=free // 1_048_576, need=need // 1_048_576)


def _measured(path: Path) -> tuple[int, str]:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            total.update(piece)
    return path.stat().st_size, total.hexdigest()


def _gently() -> None:
    """This thread, and those it starts, give way to whoever answers people (Linux: the priority is the thread's)."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
    except (OSError, AttributeError):
        log.info("backups run at the usual priority")
