"""Users of the panel, their sessions, counters against guessing, API keys."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from storage.tables.columns import long_text, ms, ref, row_id


class User(SQLModel, table=True):
    """A person with a login. `version` rises when rights or factors change, which ends older sessions."""

    __table_args__ = (UniqueConstraint("tenant", "name_key"),)

    id: int | None = row_id()
    tenant: str
    name: str
    name_key: str
    role: str
    password_hash: str = long_text()
    totp_secret: str = long_text()
    totp_last_step: int = Field(default=0)
    recovery_hashes: str = long_text("[]")
    lang: str = ""
    theme: str = "auto"
    version: int = 1
    disabled_at: int | None = ms()
    password_at: int | None = ms()
    created_at: int = ms()


class Session(SQLModel, table=True):
    """A panel session. `id` is the SHA-256 of the cookie's value, so that the table opens no door."""

    id: str = Field(primary_key=True)
    tenant: str
    user_id: int | None = ref(index=True)
    role: str = ""
    version: int = 1
    ip: str = ""
    agent: str = ""
    created_at: int = ms()
    seen_at: int = ms()
    expires_at: int = ms(index=True)
    verified_at: int | None = ms()
    revoked_at: int | None = ms()


class Guess(SQLModel, table=True):
    """Failed attempts per account, address or challenge; survives a restart."""

    key: str = Field(primary_key=True)
    fails: int = 0
    first_at: int = ms()
    last_at: int = ms(index=True)
    locked_until: int | None = ms()


class ApiKey(SQLModel, table=True):
    """A key for the API. Only its SHA-256 is kept."""

    id: int | None = row_id()
    tenant: str
    name: str
    hash: str = Field(unique=True)
    tail: str = ""
    scopes: str = long_text("[]")
    user_id: int | None = ref()
    created_at: int = ms()
    expires_at: int | None = ms()
    used_at: int | None = ms()
    revoked_at: int | None = ms()
