"""Column kinds that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Integer, Text
from sqlmodel import Field

# SQLite numbers rows by itself only for the exact type INTEGER; PostgreSQL needs 64 bits.
ID = BigInteger().with_variant(Integer, "sqlite")


def row_id() -> Any:
    """Primary key, numbered by the database, never reused while the row with the highest one lives."""
    return Field(default=None, primary_key=True, sa_type=ID)


def ref(*, index: bool = False, nullable: bool = True) -> Any:
    """Id of another row."""
    return Field(default=None, index=index, nullable=nullable, sa_type=BigInteger)


def ms(*, index: bool = False) -> Any:
    """Milliseconds since the epoch, UTC; 0 is never a time, NULL is 'not yet'."""
    return Field(default=None, index=index, sa_type=BigInteger)


def long_text(default: str = "") -> Any:
    """Text of any length; JSON is kept as text so that both databases treat it alike."""
    return Field(default=default, sa_type=Text, sa_column_kwargs={"server_default": default})
