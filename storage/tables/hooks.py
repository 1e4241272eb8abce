"""Addresses by which other systems hand in events."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

from storage.tables.columns import long_text, ms, row_id


class Hook(SQLModel, table=True):
    """One `POST /hooks/<name>`. Its secret is in the vault under `hook:<id>:secret`.

    Attributes:
        scheme: `hmac`, `document` (time, secret, body, secret) or `bearer`.
        turns: what the body becomes: a `task` for the agent, or a `message` to a bot.
        id_path: where the body has the event's own id; empty where the caller sends it in a header.
        bot, target: who is told; empty: nobody, the answer is kept.
    """

    id: int | None = row_id()
    tenant: str
    name: str = Field(unique=True)
    scheme: str
    turns: str
    template: str = long_text()
    id_path: str = ""
    bot: str = ""
    target: str = ""
    managed_by: str = ""
    paused_at: int | None = ms()
    created_at: int = ms()
    updated_at: int = ms()
