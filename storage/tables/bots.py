"""Bots and their access lists."""

from __future__ import annotations

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from storage.tables.columns import long_text, ms, ref, row_id


class Bot(SQLModel, table=True):
    """One identity at a vendor. `settings` holds no secret; those are in the vault under `bot:<id>:<field>`."""

    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: int | None = row_id()
    tenant: str
    name: str
    type: str
    mode: str
    settings: str = long_text("{}")
    managed_by: str = ""
    model: str = ""
    paused_at: int | None = ms()
    created_at: int = ms()
    updated_at: int = ms()


class BotState(SQLModel, table=True):
    """Proof of life of a bot, for its card: written at most every few seconds."""

    bot_id: int = Field(primary_key=True, sa_type=row_id().sa_type)
    connection: str = "off"
    last_in: int | None = ms()
    last_out: int | None = ms()
    last_error: str = ""
    last_error_at: int | None = ms()
    reconnects: int = 0
    identity: str = ""
    checked_at: int | None = ms()


class BotSpan(SQLModel, table=True):
    """A time during which a bot's connection was in one state; `reason` says why it is not as it should be."""

    __table_args__ = (Index("ix_botspan_bot", "bot_id", "begun_at"),)

    id: int | None = row_id()
    bot_id: int = ref(nullable=False)
    state: str
    reason: str = ""
    begun_at: int = ms()
    ended_at: int = ms()


class Access(SQLModel, table=True):
    """Who may talk with a bot: `allowed`, `asked` (waiting for an admin) or `refused`, by stable vendor id."""

    __table_args__ = (UniqueConstraint("bot_id", "subject"),)

    id: int | None = row_id()
    tenant: str
    bot_id: int
    subject: str
    name: str = ""
    status: str
    asked_at: int | None = ms()
    decided_at: int | None = ms()
    decided_by: str = ""
