"""The data of every released version comes through the upgrade whole, and the old file stays as it was."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from storage import migrate
from storage.audit import Audit, audit_key
from storage.clock import Clock
from storage.database import sqlite_engine
from storage.errors import Unavailable
from storage.settings import Settings
from storage.vault import Vault, master_key
from tests.released import RELEASED, unpack
from tests.serving import Serving


def content(path: Path, columns: dict[str, list[str]] | None = None) -> dict[str, list[tuple[object, ...]]]:
    """All rows by table; with `columns` only those, so that later additions do not count."""
    c = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        wanted = columns or columns_of(path)
        found = {}
        for table, names in wanted.items():
            listed = ", ".join(f'"{name}"' for name in names)
            found[table] = sorted(c.execute(f'SELECT {listed} FROM "{table}"').fetchall(), key=repr)
        return found
    finally:
        c.close()


def columns_of(path: Path) -> dict[str, list[str]]:
    c = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
        tables = [row[0] for row in c.execute(query) if row[0] != "alembic_version"]
        return {name: [row[1] for row in c.execute(f'PRAGMA table_info("{name}")')] for name in tables}
    finally:
        c.close()


@pytest.fixture(params=RELEASED)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return unpack(request.param, tmp_path)


def test_a_release_is_kept() -> None:
    assert "zhixing-0.1.0" in RELEASED


def test_every_row_secret_and_audit_entry_is_there_afterwards(old: Settings) -> None:
    before, columns = content(old.db_file), columns_of(old.db_file)
    was = migrate.revision(old.db_file)
    migrate.prepare(old)
    assert migrate.revision(old.db_file) == migrate.revisions()[-1]
    assert content(old.db_file, columns) == before
    kept = old.db_file.with_suffix(f".{was}.db")
    assert migrate.revision(kept) == was
    assert content(kept) == before
    clock = Clock()
    engine = sqlite_engine(old.db_file, size=1)
    with engine.connect() as c, c.begin():
        vault = Vault(master_key(old.master_key_file, may_create=False), clock)
        vault.check(c)
        opened = [vault.open(c, row[0], row[1]) for row in before["secret"]]  # type: ignore[arg-type]
        assert "fixture-app-secret" in opened
        assert None not in opened
        found = Audit(clock, audit_key(c, vault)).verify(c)
        assert (found.broken_at, found.rows) == (None, len(before["audit"]))
    engine.dispose()


def test_failed_upgrade_changes_nothing(old: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = old.db_file.read_bytes()

    def breaks(*_: object) -> None:
        raise RuntimeError("halfway")

    monkeypatch.setattr(migrate, "run", breaks)
    with pytest.raises(Unavailable, match=r"start\.migration_failed"):
        migrate.prepare(old)
    assert old.db_file.read_bytes() == before
    assert sorted(path.name for path in old.db_file.parent.iterdir()) == ["zhixing.db"]


def test_the_program_starts_on_it(old: Settings) -> None:
    with Serving(old.data.parent) as server:
        assert server.get("/readyz")[0] == 200
        assert server.get("/login")[0] == 200
