"""What all tests share: a database in a fresh folder, a clock that only moves when told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import SQLModel

import storage.tables  # noqa: F401
from storage.clock import ManualClock
from storage.database import SqliteDatabase, sqlite_engine


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """A database with all tables."""
    path = tmp_path / "db" / "zhixing.db"
    path.parent.mkdir(parents=True)
    engine = sqlite_engine(path, size=1)
    SQLModel.metadata.create_all(engine)
    engine.dispose()
    database = SqliteDatabase(path)
    yield database
    database.close()
