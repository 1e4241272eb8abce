"""Rows of schedules and their runs, written inside the caller's transaction. A planned time has one run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select, update

from agent.schedules.draft import ScheduleDraft, Task
from agent.schedules.planning import Entry, Rule
from agent.schedules.workdays import Workdays
from storage.database import new_id
from storage.envelope import Inbound, Origin, Outgoing, Part
from storage.errors import Invalid
from storage.ledger import DeliveryView, JobView, Ledger, conversation_t, lane_of
from storage.outbox import Outbox
from storage.tables.bots import Bot
from storage.tables.schedules import CalendarDay, Schedule, ScheduleRun

schedule_t = Schedule.__table__  # type: ignore[attr-defined]
run_t = ScheduleRun.__table__  # type: ignore[attr-defined]
day_t = CalendarDay.__table__  # type: ignore[attr-defined]
bot_t = Bot.__table__  # type: ignore[attr-defined]

KIND = "schedule"
OPEN = ("queued", "running", "waiting")
AddressOf = Callable[[str, str], str]
OWN = "schedule"
"""Bot and channel of a schedule that tells nobody: what it says is only kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entered:
    """A run that was entered, with the job to hand to the dispatcher."""

    run_id: int
    job: JobView


def rule_of(row: Any) -> Rule:
    """When a schedule's row says that it runs."""
    return Rule(
        expression=row.expression,
        zone=row.zone,
        missed=row.missed,
        missed_within=row.missed_within,
        overlap=row.overlap,
        expires_at=row.expires_at,
    )


def draft_of(row: Any) -> ScheduleDraft:
    """The draft that a row was made from, without secrets."""
    names = (
        *("name", "kind", "expression", "zone", "bot", "target", "missed", "missed_within", "overlap"),
        *("retries", "backoff", "timeout", "alert_after", "pause_after", "expires_at"),
    )
    return ScheduleDraft(**{name: getattr(row, name) for name in names}, task=Task.from_json(row.work))


def digest(command: str) -> str:
    """What an admin allows is one command line, to the letter."""
    return hashlib.sha256(command.encode()).hexdigest()


def workdays(c: Connection, tenant: str) -> Workdays:
    """The tenant's calendar."""
    rows = c.execute(select(day_t.c.day, day_t.c.working, day_t.c.name).where(day_t.c.tenant == tenant))
    return Workdays({date.fromisoformat(r.day): (bool(r.working), r.name) for r in rows})


def running(c: Connection, schedule_id: int) -> int:
    """Runs that have not ended."""
    query = select(func.count()).where(and_(run_t.c.schedule_id == schedule_id, run_t.c.state.in_(OPEN)))
    return int(c.execute(query).scalar_one())


class RunRows:
    """Writes runs.

    Args:
        address_of: the address of a target as an admin writes it, for a bot of a type; only channels know.
    """

    def __init__(self, ledger: Ledger, address_of: AddressOf) -> None:
        self.ledger, self.address_of = ledger, address_of

    def enter(
        self, c: Connection, row: Row[Any], entry: Entry, *, cause: str = "clock", by: str = ""
    ) -> Entered | None:
        """Write what became of a planned time, and its job if it is run: both or neither. None: nothing is to be run.

        Safe to repeat: a time that has run, or was left out on purpose, is not run again. One that was only missed
        is run after all if the clock comes to it once more.
        """
        now = self.ledger.clock.ms()
        here = and_(run_t.c.schedule_id == row.id, run_t.c.planned_at == entry.planned_at)
        old = c.execute(select(run_t.c.id, run_t.c.state).where(here)).first()
        if old is not None and (old.state != "missed" or entry.act != "run"):
            return None
        values: dict[str, object] = {
            "tenant": row.tenant,
            "schedule_id": row.id,
            "planned_at": entry.planned_at,
            "cause": cause,
            "by": by,
            "state": "queued" if entry.act == "run" else entry.act,
            "attempt": 1,
            "count": entry.count,
            "reason": "",
            "detail": "",
            "output": "",
            "silent": False,
            "undelivered": "",
            "created_at": now,
            "ended_at": None if entry.act == "run" else now,
        }
        if old is not None:
            run_id = int(old.id)
            c.execute(update(run_t).where(run_t.c.id == run_id).values(**values))
        else:
            run_id = new_id(c.execute(insert(run_t), values))
        return self.attempt(c, row, run_id, entry.planned_at, 1) if entry.act == "run" else None

    def attempt(self, c: Connection, row: Row[Any], run_id: int, planned_at: int, n: int) -> Entered | None:
        """Enter the job of a run's n-th try. None if that try has its job already."""
        channel, address, undelivered = self._told(c, row)
        inbound = self._inbound(row, planned_at, n, channel, address)
        # tries of one run, and runs that wait for each other, share a lane
        lane = f"{row.tenant}/schedule:{row.id}" + (f"/{planned_at}" if row.overlap == "parallel" else "")
        if row.address:
            lane = lane_of(inbound.tenant, inbound.bot, inbound.conversation)
        payload = json.dumps({"schedule": row.id, "run": run_id})
        accepted, job = self.ledger.enter(c, inbound, kind=KIND, payload=payload, lane=lane)
        if job is None:
            return None
        if not row.address:
            # each run stands for itself: what earlier ones said is not read again
            c.execute(
                update(conversation_t)
                .where(conversation_t.c.id == accepted.conversation_id)
                .values(summary_to=accepted.message_id - 1, summary="", channel=channel)
            )
        values = {
            "job_id": accepted.job_id,
            "state": "queued",
            "attempt": n,
            "retry_at": None,
            "started_at": None,
            "undelivered": undelivered,
        }
        c.execute(update(run_t).where(run_t.c.id == run_id).values(**values))
        return Entered(run_id=run_id, job=job)

    def _told(self, c: Connection, row: Row[Any]) -> tuple[str, str, str]:
        """Channel and address of whoever is told, and why nobody can be, if so."""
        if not row.bot:
            return OWN, "{}", ""
        if row.bot == "web" and row.address:
            return "web", row.address, ""
        found = select(bot_t.c.type, bot_t.c.settings).where(
            and_(bot_t.c.tenant == row.tenant, bot_t.c.name == row.bot)
        )
        bot = c.execute(found).first()
        if bot is None:
            return OWN, "{}", "schedule.no_bot"
        if row.address:
            return bot.type, row.address, ""
        target = row.target or str(json.loads(bot.settings or "{}").get("push_to") or "")
        if not target and bot.type != "webhook":
            return bot.type, "{}", "schedule.no_target"
        try:
            return bot.type, self.address_of(bot.type, target), ""
        except Invalid as error:
            return bot.type, "{}", error.code

    def push(self, c: Connection, outbox: Outbox, row: Row[Any], key: str, out: Outgoing) -> DeliveryView | None:
        """Put something that the schedule says of itself into the outbox; None where nobody can be told."""
        channel, address, undelivered = self._told(c, row)
        if undelivered or channel in (OWN, "web"):
            return None
        return outbox.add(
            c,
            tenant=row.tenant,
            bot=row.bot,
            channel=channel,
            lane=f"{row.tenant}/schedule:{row.id}/notice",
            key=key,
            address=address,
            out=out,
            event="schedule",
        )

    def _inbound(self, row: Row[Any], planned_at: int, n: int, channel: str, address: str) -> Inbound:
        task = Task.from_json(row.work)
        text = {"command": task.command, "http": f"{task.method} {task.url}"}.get(row.kind, task.text) or row.name
        return Inbound(
            tenant=row.tenant,
            bot=row.bot or OWN,
            channel=channel,
            keys=(f"schedule:{row.id}:{planned_at}:{n}",),
            vendor_id="",
            conversation=row.target if row.address else f"schedule:{row.id}",
            kind="direct",
            sender=row.owner.removeprefix(f"{channel}:") if row.address else f"schedule:{row.id}",
            sender_name=row.name,
            parts=(Part(kind="text", text=text[:4000]),),
            sent_at=self.ledger.clock.ms(),
            address=address,
            origin=row.origin or Origin.USER,
            title=row.name,
        )


def one(c: Connection, tenant: str, name: str) -> Row[Any] | None:
    """A schedule by its name."""
    return c.execute(select(schedule_t).where(and_(schedule_t.c.tenant == tenant, schedule_t.c.name == name))).first()


def local_day(at: int, zone: Any) -> date:
    """The date of a time in ms at a place."""
    return datetime.fromtimestamp(at / 1000, UTC).astimezone(zone).date()
