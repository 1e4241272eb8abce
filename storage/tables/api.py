"""What the API must remember: which task a client's key has made, whom to tell of its end, which talk goes on."""

from __future__ import annotations

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from storage.tables.columns import long_text, ms, ref, row_id


class ApiTask(SQLModel, table=True):
    """A task that entered by the API. Written before its job, so that a repeated request finds either.

    `key` is a hash of the client's idempotency key, `print` one of what was asked for with it. `job_key` is the
    job's own key. callback: empty (none), pending, delivered, failed; the callback's secret lies in the vault.
    """

    __table_args__ = (
        UniqueConstraint("tenant", "caller", "key"),
        Index(
            "ix_apitask_pending",
            "next_at",
            sqlite_where=text("callback = 'pending'"),
            postgresql_where=text("callback = 'pending'"),
        ),
    )

    id: int | None = row_id()
    tenant: str
    caller: str
    key: str
    print: str
    job_key: str = Field(unique=True)
    url: str = long_text()
    private: bool = False
    callback: str = ""
    attempts: int = 0
    error: str = ""
    created_at: int = ms(index=True)
    next_at: int | None = ms()
    ended_at: int | None = ms()


class ApiTalk(SQLModel, table=True):
    """A talk of a client that sends all that was said with each request: the hash of all finds the conversation."""

    __table_args__ = (UniqueConstraint("tenant", "caller", "hash"),)

    id: int | None = row_id()
    tenant: str
    caller: str
    hash: str
    conversation_id: int = ref(nullable=False)
    at: int = ms(index=True)
