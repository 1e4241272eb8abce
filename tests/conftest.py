"""What all tests share: a database in a fresh folder, a clock that only moves when told.

`any_db` runs a test on SQLite and on a real PostgreSQL. ZHIXING_TEST_DATABASE=postgresql makes `db` PostgreSQL too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlmodel import SQLModel

import storage.tables  # noqa: F401
from storage import migrate, migrate_shared
from storage.clock import ManualClock
from storage.database import SqliteDatabase, sqlite_engine
from storage.postgres import PostgresDatabase
from tests.postgres import Cluster, cluster

TEMPLATE = "template_zhixing"
DATABASES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.pg))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server with a database that has all tables, to make others from."""
    try:
        with cluster() as made:
            made.sql("postgres", f"CREATE DATABASE {TEMPLATE}")
            migrate_shared.prepare(made.url(TEMPLATE), migrate.MIGRATIONS, migrate.revisions())
            yield made
    except LookupError as error:
        pytest.skip(str(error))


@contextmanager
def _sqlite(folder: Path) -> Iterator[SqliteDatabase]:
    path = folder / "db" / "zhixing.db"
    path.parent.mkdir(parents=True)
    engine = sqlite_engine(path, size=1)
    SQLModel.metadata.create_all(engine)
    engine.dispose()
    database = SqliteDatabase(path)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def _postgresql(request: pytest.FixtureRequest) -> Iterator[PostgresDatabase]:
    server: Cluster = request.getfixturevalue("postgres")
    name = server.database(TEMPLATE)
    database = PostgresDatabase(server.url(name))
    try:
        yield database
    finally:
        database.close()
        server.drop(name)


@pytest.fixture
def db(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SqliteDatabase | PostgresDatabase]:
    """A database with all tables."""
    wanted = os.environ.get("ZHIXING_TEST_DATABASE", "sqlite")
    with _sqlite(tmp_path) if wanted == "sqlite" else _postgresql(request) as database:
        yield database


@pytest.fixture(params=DATABASES)
def any_db(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SqliteDatabase | PostgresDatabase]:
    """A database with all tables, on SQLite and on PostgreSQL."""
    with _sqlite(tmp_path) if request.param == "sqlite" else _postgresql(request) as database:
        yield database
