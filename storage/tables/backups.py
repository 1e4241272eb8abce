"""Backups: one row for each that was tried, kept also after its file is gone."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

from storage.tables.columns import long_text, ms, row_id


class Backup(SQLModel, table=True):
    """One backup.

    Attributes:
        kind: `daily`, `manual` or `command`.
        status: `running`, `done` or `failed`.
        name: file name, in the folder of backups and at the other place; empty for one that failed early.
        size, hash: of the encrypted file; bytes and SHA-256.
        rows, files: what is in it.
        error: code of the refusal, with `detail` for the log.
        away, away_error: when it reached the other place, or why it did not.
        tested_at, test_error: the last trial restore; empty: it went well.
        removed_at: its file was removed here, by age or by a person.
    """

    id: int | None = row_id()
    tenant: str = Field(index=True)
    kind: str
    status: str
    name: str = ""
    size: int = Field(default=0, sa_type=BigInteger)
    hash: str = ""
    rows: int = 0
    files: int = 0
    revision: str = ""
    version: str = ""
    error: str = ""
    detail: str = long_text()
    started_at: int = ms(index=True)
    ended_at: int | None = ms()
    away: int | None = ms()
    away_error: str = ""
    tested_at: int | None = ms()
    test_error: str = ""
    removed_at: int | None = ms()
