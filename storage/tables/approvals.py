"""Acts that wait for a person's word, and which tools need one."""

from __future__ import annotations

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from storage.tables.columns import long_text, ms, ref, row_id


class Approval(SQLModel, table=True):
    """One act of a job that a person has to allow.

    status: asked, approved, refused, expired. The job is `waiting` while it is asked; one that was cancelled meanwhile
    needs no decision any more.
    `n` is the step's number in the job, `code` what a person types where there are no buttons.
    `person` is whoever asked for the work, in the form of `Job.owner`; `decides`: `asker` or `approver`.
    """

    __table_args__ = (
        UniqueConstraint("job_id", "n"),
        Index(
            "ix_approval_open",
            "expires_at",
            sqlite_where=text("status = 'asked'"),
            postgresql_where=text("status = 'asked'"),
        ),
        Index("ix_approval_tenant", "tenant", "id"),
    )

    id: int | None = row_id()
    tenant: str
    job_id: int = ref(nullable=False)
    n: int
    tool: str
    request: str = long_text("{}")
    code: str
    status: str = "asked"
    decides: str = "asker"
    bot: str = ""
    channel: str = ""
    conversation_id: int | None = ref()
    person: str = ""
    asked_at: int = ms()
    expires_at: int = ms()
    decided_at: int | None = ms()
    decided_by: str = ""
    decided_name: str = ""


class ToolPolicy(SQLModel, table=True):
    """What an admin chose for a tool; without a row its own default holds.

    approval: `always`, `never`, or empty for the tool's default. decides: `asker` or `approver`.
    """

    tenant: str = Field(primary_key=True)
    tool: str = Field(primary_key=True)
    off: bool = False
    approval: str = ""
    decides: str = ""
    updated_at: int = ms()
    updated_by: str = ""
