"""Model providers and what they cost."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from storage.tables.columns import long_text, ms, ref, row_id


class Provider(SQLModel, table=True):
    """A model service. Keys are in the vault under `provider:<id>:key`; `place` is the order of fallback."""

    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: int | None = row_id()
    tenant: str
    name: str
    type: str
    preset: str = ""
    endpoint: str = ""
    models: str = long_text("[]")
    settings: str = long_text("{}")
    place: int = 0
    managed_by: str = ""
    disabled_at: int | None = ms()
    created_at: int = ms()
    updated_at: int = ms()


class Usage(SQLModel, table=True):
    """One model call: tokens, cost, time. What limits and charts are drawn from."""

    id: int | None = row_id()
    tenant: str
    at: int = ms(index=True)
    provider: str
    model: str
    bot: str = ""
    person: str = ""
    job_id: int | None = ref(index=True)
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    first_token_ms: int | None = Field(default=None)
    total_ms: int = 0
    outcome: str = "ok"
