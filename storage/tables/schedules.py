"""Schedules, what became of each planned time, and the days on which people here work."""

from __future__ import annotations

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from storage.tables.columns import long_text, ms, ref, row_id


class Schedule(SQLModel, table=True):
    """Something that is done at planned times. Secrets of its workflow are in the vault under `schedule:<id>:<name>`.

    Attributes:
        kind: `command`, `prompt`, `http`, `workflow`, `message`.
        expression: five cron fields (day of month also `W`, `H`, `LW`, `W3`, `W-2`), or exact local times.
        work: what is done, as JSON; its shape depends on the kind.
        bot, target: who is told the result. `address` instead, where a chat made it.
        owner: whose rights it runs with (`user:3`, `file:scheduler.yaml`, `feishu:ou_x`); checked at each run.
        allowed: digest of the command that an admin allowed to run here.
        cursor: every planned time up to it has been judged.
    """

    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: int | None = row_id()
    tenant: str
    name: str
    kind: str
    expression: str
    zone: str = "Asia/Shanghai"
    work: str = long_text("{}")
    bot: str = ""
    target: str = ""
    address: str = long_text()
    missed: str = "once"
    missed_within: int = 0
    overlap: str = "skip"
    retries: int = 0
    backoff: int = 60
    timeout: int = 300
    alert_after: int = 3
    pause_after: int = 0
    expires_at: int | None = ms()
    owner: str = ""
    owner_name: str = ""
    origin: str = "t1"
    managed_by: str = ""
    allowed: str = ""
    allowed_by: str = ""
    allowed_at: int | None = ms()
    paused_at: int | None = ms()
    paused_why: str = ""
    cursor: int = ms()
    next_at: int | None = ms(index=True)
    failures: int = 0
    alerted_at: int | None = ms()
    created_at: int = ms()
    updated_at: int = ms()


class ScheduleRun(SQLModel, table=True):
    """What became of one planned time. A run and its job are written in one transaction; a planned time has one row.

    state: queued, running, waiting (for its next try), ok, failed, cancelled, missed, skipped.
    `count` is how many planned times a missed row stands for, ending with its own; `silent`: there was nothing to say.
    """

    __tablename__ = "schedule_run"
    __table_args__ = (
        UniqueConstraint("schedule_id", "planned_at"),
        Index(
            "ix_schedule_run_open",
            "schedule_id",
            sqlite_where=text("state IN ('queued','running','waiting')"),
            postgresql_where=text("state IN ('queued','running','waiting')"),
        ),
    )

    id: int | None = row_id()
    tenant: str
    schedule_id: int = ref(nullable=False)
    planned_at: int = ms()
    cause: str = "clock"
    by: str = ""
    state: str
    attempt: int = 1
    count: int = 1
    retry_at: int | None = ms()
    job_id: int | None = ref(index=True)
    reason: str = ""
    detail: str = long_text()
    output: str = long_text()
    silent: bool = False
    undelivered: str = ""
    created_at: int = ms(index=True)
    started_at: int | None = ms()
    ended_at: int | None = ms()


class CalendarDay(SQLModel, table=True):
    """A day on which people here work, or do not, against what the bundled calendar says."""

    __tablename__ = "calendar_day"

    tenant: str = Field(primary_key=True)
    day: str = Field(primary_key=True)
    working: bool
    name: str = ""
    changed_by: str = ""
    changed_at: int = ms()
