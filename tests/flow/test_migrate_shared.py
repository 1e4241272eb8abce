"""A PostgreSQL database comes to this version whole or not at all, whoever starts first."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from storage import migrate, migrate_shared
from storage.errors import Conflict, Invalid, Unavailable
from storage.postgres import address, engine_for
from storage.settings import Settings
from tests.postgres import Cluster

pytestmark = pytest.mark.pg

KNOWN = migrate.revisions()


@pytest.fixture
def url(postgres: Cluster) -> Iterator[str]:
    """An empty database."""
    name = postgres.database()
    yield postgres.url(name)
    postgres.drop(name)


def differences(url: str) -> list[object]:
    """What the tables have that the classes have not, or the reverse."""
    engine = engine_for(address(url), 1)
    try:
        with engine.begin() as c:
            found = compare_metadata(MigrationContext.configure(c), SQLModel.metadata)
    finally:
        engine.dispose()
    ours = ("procrastinate_", "alembic_version", "memory_word")
    return [one for one in found if not any(name in str(one) for name in ours)]


def test_a_new_database_and_a_migrated_one_are_the_same(url: str, postgres: Cluster) -> None:
    migrate_shared.prepare(url, migrate.MIGRATIONS, KNOWN)
    assert differences(url) == []
    other = postgres.database()
    engine = engine_for(address(postgres.url(other)), 1)
    with engine.begin() as c:
        migrate_shared.upgrade(c, KNOWN[-1], migrate.MIGRATIONS)
    engine.dispose()
    assert differences(postgres.url(other)) == []
    postgres.drop(other)


def test_three_that_start_at_once_make_it_once(url: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(migrate_shared.prepare, url, migrate.MIGRATIONS, KNOWN) for _ in range(3)]
        assert [job.result(60) for job in jobs] == [None, None, None]
    assert differences(url) == []


def test_a_newer_or_a_foreign_database_is_refused(url: str) -> None:
    engine = engine_for(address(url), 1)
    with engine.begin() as c:
        c.execute(text("CREATE TABLE job (x int)"))
    with pytest.raises(Invalid, match=r"start\.data_foreign"):
        migrate_shared.prepare(url, migrate.MIGRATIONS, KNOWN)
    with engine.begin() as c:
        c.execute(text("DROP TABLE job"))
    migrate_shared.prepare(url, migrate.MIGRATIONS, KNOWN)
    with engine.begin() as c:
        c.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match=r"start\.data_newer"):
        migrate_shared.prepare(url, migrate.MIGRATIONS, KNOWN)
    engine.dispose()


def test_a_migration_that_fails_changes_nothing(url: str, tmp_path: Path) -> None:
    migrate_shared.prepare(url, migrate.MIGRATIONS, KNOWN)
    versions = tmp_path / "versions"
    versions.mkdir()
    for path in [migrate.MIGRATIONS / "env.py", *(migrate.MIGRATIONS / "versions").glob("*.py")]:
        target = tmp_path / path.relative_to(migrate.MIGRATIONS)
        target.write_text(path.read_text("utf-8"), "utf-8")
    (versions / "9999_bad.py").write_text(
        f'from alembic import op\nrevision = "9999"\ndown_revision = "{KNOWN[-1]}"\n\n\n'
        'def upgrade():\n    op.drop_table("hook")\n    op.execute("SELECT nonsense")\n',
        "utf-8",
    )
    with pytest.raises(Unavailable, match=r"start\.migration_failed"):
        migrate_shared.prepare(url, tmp_path, migrate.revisions(tmp_path))
    assert differences(url) == []


def test_the_audit_log_cannot_be_changed(url: str) -> None:
    migrate_shared.prepare(url, migrate.MIGRATIONS, KNOWN)
    engine = engine_for(address(url), 1)
    for statement in ("UPDATE audit SET who = ''", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(DBAPIError, match="append only"), engine.begin() as c:
            c.execute(text(statement))
    engine.dispose()


@pytest.mark.parametrize("wrong", ["mysql://x/y", "postgresql://host", "nonsense", "postgresql+asyncpg"])
def test_an_address_that_is_none_is_refused_and_not_shown(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"start\.database_url") as caught:
        migrate.prepare(Settings(data=tmp_path, database_url=wrong))
    assert wrong not in str(caught.value)


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"start\.database_unreachable") as caught:
        migrate.prepare(Settings(data=tmp_path, database_url="postgresql://u:secret@127.0.0.1:1/x"))
    assert "secret" not in str(caught.value)
