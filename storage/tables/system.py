"""Settings edited in the panel, secrets, the audit log."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

from storage.tables.columns import long_text, ms, row_id


class Setting(SQLModel, table=True):
    """A value edited in the panel; JSON."""

    tenant: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    value: str = long_text("null")
    updated_at: int = ms()


class Secret(SQLModel, table=True):
    """AES-256-GCM of one secret; tenant and name are its additional data, so rows cannot be swapped."""

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    key_id: str
    box: str
    tail: str = ""
    updated_at: int = ms()


class AuditRow(SQLModel, table=True):
    """One act. Appended only; each row's hash covers the row before it."""

    __tablename__ = "audit"

    id: int | None = row_id()
    tenant: str = Field(index=True)
    at: int = ms(index=True)
    who: str
    who_name: str = ""
    action: str = Field(index=True)
    target: str = ""
    before: str = long_text()
    after: str = long_text()
    ip: str = ""
    session: str = ""
    result: str = "ok"
    prev: str
    hash: str
