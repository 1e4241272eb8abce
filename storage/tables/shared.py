"""What processes that share a database agree on."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

from storage.tables.columns import ms


class Lease(SQLModel, table=True):
    """The right to do something that one process may do at a time: `bot:<id>`, or to be alive: `process:<id>`."""

    name: str = Field(primary_key=True)
    owner: str
    place: str = ""
    taken_at: int = ms()
    until: int = Field(sa_type=BigInteger, index=True)
