"""What a person or an API key may do with schedules. Pages and REST routes call the same functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy import Connection, and_, delete, insert, select, update

from agent.schedules.draft import ScheduleDraft, checked
from agent.schedules.entry import write_entry
from agent.schedules.planning import Entry
from agent.schedules.rows import Entered, RunRows, day_t, digest, draft_of, one, run_t, running, schedule_t
from agent.schedules.saving import ScheduleRows, open_runs
from agent.schedules.standing import standing
from agent.schedules.trying import DryRun, Trying
from agent.schedules.views import RunView, ScheduleView, ScheduleViews
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.envelope import Origin
from storage.errors import Conflict, Denied, Invalid, NotFound
from storage.ledger import Ledger
from storage.principal import SYSTEM, Principal
from storage.runner import Runner
from storage.vault import Vault


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleActions:
    """Use cases of the Schedules page, the API, the agent's tool and `scheduler.yaml`.

    Attributes:
        views: what may be seen.
        changed: wakes the clockwork; the house ties it.
    """

    db: Database
    vault: Vault
    audit: Audit
    clock: Clock
    ledger: Ledger
    runs: RunRows
    runner: Runner
    trying: Trying
    views: ScheduleViews
    changed: Callable[[], None] = field(default=lambda: None)

    @property
    def rows(self) -> ScheduleRows:
        """The rows, inside a transaction."""
        return ScheduleRows(self.vault, self.audit, self.clock)

    # ---- changed

    async def save(self, who: Principal, draft: ScheduleDraft, *, create: bool = False, was: str = "") -> ScheduleView:
        """Make a schedule, or change the one of this name; it runs with the rights of whoever saves it.

        Saving a command allows it to run on this machine. Right: schedule.manage.

        Args:
            create: refuse if one of that name exists.
            was: its name so far, where it gets another one.

        Raises:
            Invalid: with the field; `schedule.never` if no time is to come, `schedule.secret_again` where a kept
                secret would go to another host than the one it was entered for.
            Conflict: `schedule.name_taken`, `schedule.managed_by_file`, `schedule.too_many`. NotFound.
        """
        who.require("schedule.manage")
        draft, rows = checked(draft), self.rows

        def fn(c: Connection) -> None:
            old = one(c, who.tenant, was or draft.name)
            if was and old is None:
                raise NotFound("schedule.unknown", name=was[:60])
            if (create and old is not None) or (was not in ("", draft.name) and one(c, who.tenant, draft.name)):
                raise Conflict("schedule.name_taken", name=draft.name)
            if old is not None:
                old = rows.editable(c, who.tenant, old.name)
            rows.save(c, who, draft, old=old)

        await self.db.write(fn)
        self.changed()
        return await self.views.get(who, draft.name)

    async def remove(self, who: Principal, name: str) -> None:
        """Remove a schedule with its history; what runs is cancelled. Right: schedule.manage.

        Raises:
            NotFound; Conflict: managed by a file.
        """
        who.require("schedule.manage")
        rows = self.rows
        for run in await self.db.read(lambda c: open_runs(c, rows.editable(c, who.tenant, name).id)):
            await self._stop(who, run.job_id)
        await self.db.write(lambda c: rows.drop(c, who, rows.editable(c, who.tenant, name)))

    async def pause(self, who: Principal, name: str, *, paused: bool = True) -> ScheduleView:
        """Plan nothing more, or go on; what runs is finished. Also for schedules from a file. Right: schedule.manage.

        Safe to repeat. Times that pass meanwhile are not missed. Raises `NotFound`.
        """
        who.require("schedule.manage")
        rows = self.rows
        await self.db.write(lambda c: rows.pause(c, who, rows.get(c, who.tenant, name), paused=paused))
        self.changed()
        return await self.views.get(who, name)

    async def allow(self, who: Principal, name: str) -> ScheduleView:
        """Allow a schedule's command, to the letter, to run on this machine. Right: schedule.manage.

        It stays allowed while the command is the same and whoever allowed it may still allow it. Raises `NotFound`,
        `Invalid` (it is no command).
        """
        who.require("schedule.manage")
        rows, now = self.rows, self.clock.ms()

        def fn(c: Connection) -> None:
            row = rows.get(c, who.tenant, name)
            if row.kind != "command":
                raise Invalid("schedule.kind", field="kind", kind=row.kind)
            command = draft_of(row).task.command
            values = {"allowed": digest(command), "allowed_by": who.id, "allowed_at": now, "updated_at": now}
            c.execute(update(schedule_t).where(schedule_t.c.id == row.id).values(**values))
            self.audit.record(c, who, "schedule.allow", name, after={"command": command})

        await self.db.write(fn)
        self.changed()
        return await self.views.get(who, name)

    async def set_day(self, who: Principal, day: date, working: bool | None, name: str = "") -> None:
        """Say that people work on a day, or do not, or (None) go back to the bundled calendar. Right: schedule.manage.

        All times to come are worked out anew.
        """
        who.require("schedule.manage")
        rows, now = self.rows, self.clock.ms()

        def fn(c: Connection) -> None:
            c.execute(delete(day_t).where(and_(day_t.c.tenant == who.tenant, day_t.c.day == day.isoformat())))
            if working is not None:
                values = {"tenant": who.tenant, "day": day.isoformat(), "working": working, "name": name.strip()[:60]}
                c.execute(insert(day_t).values(**values, changed_by=who.id, changed_at=now))
            self.audit.record(c, who, "schedule.day", day.isoformat(), after={"working": working, "name": name[:60]})
            rows.replan(c, who.tenant)

        await self.db.write(fn)
        self.changed()

    # ---- run

    async def run_now(self, who: Principal, name: str) -> RunView:
        """Run a schedule once, now, with its own rights; its plan stays as it is. Right: schedule.run.

        Raises:
            NotFound; Conflict `schedule.running` (and its overlap policy is to skip); Denied `schedule.not_allowed`,
            or its owner lacks the right.
        """
        who.require("schedule.run")
        rows, now = self.rows, self.clock.ms()

        def fn(c: Connection) -> Entered:
            row = rows.get(c, who.tenant, name)
            standing(c, row, now)
            if row.overlap == "skip" and running(c, row.id):
                raise Conflict("schedule.running", name=row.name)
            made = self.runs.enter(c, row, Entry(planned_at=now, act="run"), cause="person", by=who.name)
            if made is None:
                raise Conflict("schedule.running", name=row.name)
            self.audit.record(c, who, "schedule.run", name)
            return made

        made = await self.db.write(fn)
        self.ledger.on_job(made.job)
        return await self._seen(who, made.run_id)

    async def cancel(self, who: Principal, run_id: int) -> bool:
        """End a run that is not over. False if it was. Right: schedule.run. Raises `NotFound`."""
        who.require("schedule.run")
        mine = and_(run_t.c.tenant == who.tenant, run_t.c.id == run_id)

        def fn(c: Connection) -> tuple[int | None, bool]:
            run = c.execute(select(run_t).where(mine)).first()
            if run is None:
                raise NotFound("schedule.run_unknown")
            waits = run.state == "waiting"
            if waits:
                values = {"state": "cancelled", "retry_at": None, "ended_at": self.clock.ms()}
                c.execute(update(run_t).where(mine).values(**values))
            self.audit.record(c, who, "schedule.cancel", str(run_id))
            return run.job_id, waits

        job_id, waits = await self.db.write(fn)
        return waits or await self._stop(who, job_id)

    async def dry_run(self, who: Principal, draft: ScheduleDraft, *, name: str = "") -> DryRun:
        """What a schedule would do: calls that only read are made, nothing is changed, nobody is told.

        Right: schedule.manage.

        Args:
            name: the saved schedule whose kept secrets are used where the draft has none.

        Raises:
            Invalid: with the field; and what its calls raise.
        """
        who.require("schedule.manage")
        return await self.trying.dry_run(who, checked(draft), name=name)

    # ---- from a chat, from a file

    async def save_from_chat(
        self, who: Principal, draft: ScheduleDraft, *, address: str, conversation: str, origin: str
    ) -> ScheduleView:
        """Make a schedule that answers only in the conversation in which it was asked for.

        Right: chat.use; only messages and prompts. Nothing that came from outside may make one.

        Raises:
            Denied: `schedule.outside`. Invalid; Conflict.
        """
        who.require("chat.use")
        if origin == Origin.OUTSIDE or draft.kind not in ("message", "prompt"):
            raise Denied("schedule.outside")
        draft, rows = checked(draft), self.rows
        chat = {"address": address or "{}", "origin": origin, "target": conversation}

        def fn(c: Connection) -> None:
            mine = and_(schedule_t.c.tenant == who.tenant, schedule_t.c.owner == who.id, schedule_t.c.address != "")
            if len(c.execute(select(schedule_t.c.id).where(mine).limit(51)).all()) > 50:
                raise Conflict("schedule.too_many", most=50)
            if one(c, who.tenant, draft.name) is not None:
                raise Conflict("schedule.name_taken", name=draft.name)
            rows.save(c, who, draft, old=None, chat=chat)

        await self.db.write(fn)
        self.changed()
        return await self.views.get(SYSTEM, draft.name)

    async def remove_from_chat(self, who: Principal, name: str) -> None:
        """End a schedule that the person made in a chat. Right: chat.use. Raises `NotFound`: it is not theirs."""
        who.require("chat.use")
        rows = self.rows

        def fn(c: Connection) -> None:
            row = rows.get(c, who.tenant, name)
            if row.owner != who.id or not row.address:
                raise NotFound("schedule.unknown", name=name[:60])
            rows.drop(c, who, row)

        await self.db.write(fn)

    async def provision(self, source_file: str, entries: Sequence[ScheduleDraft]) -> None:
        """Bring the schedules of one file in line with it, whole or not at all. Safe to repeat.

        Entries that left the file are removed; those made in the panel stay. A command waits until an admin allows it.

        Raises:
            Conflict: `schedule.name_taken`, twice in the file, or by the panel or another file. Invalid.
        """
        drafts = [checked(entry) for entry in entries]
        names = [draft.name for draft in drafts]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise Conflict("schedule.name_taken", name=twice)
        rows = self.rows

        def fn(c: Connection) -> None:
            kept = c.execute(select(schedule_t).where(schedule_t.c.tenant == SYSTEM.tenant)).all()
            for row in kept:
                if row.managed_by == source_file and row.name not in names:
                    rows.drop(c, SYSTEM, row)
                elif row.name in names and row.managed_by != source_file:
                    raise Conflict("schedule.name_taken", name=row.name)
            old = {row.name: row for row in kept}
            for draft in drafts:
                rows.save(c, SYSTEM, draft, old=old.get(draft.name), managed_by=source_file)

        await self.db.write(fn)
        self.changed()

    async def export(self, who: Principal) -> list[dict[str, object]]:
        """Items for `jobs:` of `scheduler.yaml`; what chats made is left out. Right: schedule.view."""
        return [write_entry(view.draft) for view in await self.views.list(who) if not view.from_chat]

    # ---- inside

    async def _stop(self, who: Principal, job_id: int | None) -> bool:
        if job_id is None or not await self.ledger.cancel(who.tenant, job_id, by=who.id):
            return False
        self.runner.stop(job_id)
        self.changed()
        return True

    async def _seen(self, who: Principal, run_id: int) -> RunView:
        if who.may("schedule.view"):
            return await self.views.run(who, run_id)
        return await self.views.run(SYSTEM, run_id)
