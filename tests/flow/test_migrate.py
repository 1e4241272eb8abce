"""The data comes to this version whole or not at all."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import SQLModel

from storage import migrate
from storage.database import sqlite_engine
from storage.errors import Conflict, Invalid, Unavailable
from storage.settings import Settings

HEAD = migrate.revisions()[-1]
SECOND = f"""
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{HEAD}"


def upgrade():
    with op.batch_alter_table("bot") as table:
        table.add_column(sa.Column("colour", sa.String(), nullable=False, server_default="blue"))
        table.alter_column("mode", nullable=True)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data")


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The migrations of a version that is one revision further."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9999_colour.py").write_text(SECOND)
    return folder


def schema(path: Path) -> dict[str, object]:
    """Tables with columns, indexes with columns and condition, triggers: what two databases must share."""
    c = sqlite3.connect(path)
    found: dict[str, object] = {}
    for kind, name, table, sql in c.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall():
        if name == "alembic_version" or table == "alembic_version":
            continue
        if kind == "table":
            found[f"table {name}"] = sorted(row[1:] for row in c.execute(f'PRAGMA table_info("{name}")'))
            unique = [row[1] for row in c.execute(f'PRAGMA index_list("{name}")') if row[3] == "u"]
            found[f"unique {name}"] = sorted(
                tuple(row[2] for row in c.execute(f'PRAGMA index_info("{index}")')) for index in unique
            )
        elif kind == "trigger" or not name.startswith("sqlite_autoindex"):
            found[f"{kind} {name}"] = " ".join(sql.split())
    c.close()
    return found


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    c = sqlite3.connect(path)
    try:
        return c.execute(sql).fetchall()
    finally:
        c.close()


def add_bot(path: Path) -> None:
    c = sqlite3.connect(path)
    c.execute(
        "INSERT INTO bot (tenant, name, type, mode, managed_by, model, created_at, updated_at)"
        " VALUES ('main', 'b', 'feishu', 'webhook', '', '', 1, 1)"
    )
    c.commit()
    c.close()


def test_sum_of_migrations_is_the_fresh_schema(tmp_path: Path) -> None:
    fresh, summed = tmp_path / "fresh.db", tmp_path / "summed.db"
    migrate.create(fresh, migrate.revisions()[-1])
    migrate.run(summed, "head")
    assert schema(summed) == schema(fresh)
    engine = sqlite_engine(summed, size=1)
    with engine.connect() as c:
        context = MigrationContext.configure(c, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
    engine.dispose()


def test_revisions_are_one_line_in_the_order_of_their_file_names() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()][::-1] == migrate.revisions()
    assert len(scripts.get_heads()) == 1


def test_new_database_is_made_stamped_and_private(settings: Settings) -> None:
    migrate.prepare(settings)
    migrate.prepare(settings)
    assert migrate.revision(settings.db_file) == migrate.revisions()[-1]
    assert settings.db_file.stat().st_mode & 0o777 == 0o600
    assert settings.db_file.parent.stat().st_mode & 0o777 == 0o700


def test_start_without_migration_does_not_load_alembic(settings: Settings) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from storage.migrate import prepare; from storage.settings import Settings\n"
        f"s = Settings(data=Path({str(settings.data)!r})); prepare(s); prepare(s); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_cut_off_creation_is_done_again(settings: Settings) -> None:
    settings.db_file.parent.mkdir(parents=True)
    settings.db_file.touch()
    migrate.prepare(settings)
    assert migrate.revision(settings.db_file) == migrate.revisions()[-1]


def test_older_data_is_migrated_and_what_it_was_is_kept(settings: Settings, newer: Path) -> None:
    migrate.prepare(settings)
    add_bot(settings.db_file)
    # a table of the memory's own making, which no migration knows
    c = sqlite3.connect(settings.db_file)
    c.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
    c.execute("INSERT INTO words VALUES ('生日')")
    c.commit()
    c.close()
    migrate.prepare(settings, migrations=newer)
    assert migrate.revision(settings.db_file) == "9999"
    assert rows(settings.db_file, "SELECT name, colour FROM bot") == [("b", "blue")]
    assert rows(settings.db_file, "SELECT text FROM words WHERE words MATCH '生日'") == [("生日",)]
    assert rows(settings.db_file, "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'") == [(2,)]
    kept = settings.db_file.with_suffix(f".{HEAD}.db")
    assert migrate.revision(kept) == HEAD
    assert rows(kept, "SELECT name FROM bot") == [("b",)]
    assert sorted(p.name for p in settings.db_file.parent.iterdir()) == [f"zhixing.{HEAD}.db", "zhixing.db"]


def test_writes_still_in_the_log_are_migrated(settings: Settings, newer: Path) -> None:
    migrate.prepare(settings)
    shutil.copytree(settings.data, settings.data.with_name("crashed"), dirs_exist_ok=True)
    live = sqlite3.connect(settings.db_file)
    live.execute("PRAGMA wal_autocheckpoint=0")
    live.execute(
        "INSERT INTO bot (tenant, name, type, mode, managed_by, model, created_at, updated_at)"
        " VALUES ('main', 'late', 'feishu', 'webhook', '', '', 1, 1)"
    )
    live.commit()
    crashed = Settings(data=settings.data.with_name("crashed"))
    for suffix in ("", "-wal"):
        shutil.copy(f"{settings.db_file}{suffix}", f"{crashed.db_file}{suffix}")
    live.close()
    migrate.prepare(crashed, migrations=newer)
    assert rows(crashed.db_file, "SELECT name, colour FROM bot") == [("late", "blue")]
    assert not Path(f"{crashed.db_file}-wal").exists()


@pytest.mark.parametrize(
    "body",
    ["    raise RuntimeError('broken')", "    op.execute('DELETE FROM bot')\n    op.execute('DELETE FROM user')"],
)
def test_failing_or_losing_migration_changes_nothing(settings: Settings, newer: Path, body: str) -> None:
    head = SECOND.partition("def upgrade")[0]
    (newer / "versions" / "9999_colour.py").write_text(f"{head}def upgrade():\n{body}\n")
    migrate.prepare(settings)
    c = sqlite3.connect(settings.db_file)
    c.execute(
        "INSERT INTO user (tenant, name, name_key, role, totp_last_step, lang, theme, version, created_at)"
        " VALUES ('main', 'n', 'n', 'owner', 0, '', 'auto', 1, 1)"
    )
    c.commit()
    c.close()
    with pytest.raises(Unavailable) as caught:
        migrate.prepare(settings, migrations=newer)
    assert caught.value.code == "start.migration_failed"
    assert migrate.revision(settings.db_file) == HEAD
    assert rows(settings.db_file, "SELECT name FROM user") == [("n",)]
    assert sorted(p.name for p in settings.db_file.parent.iterdir()) == ["zhixing.db"]


def test_newer_data_is_refused_and_left_alone(settings: Settings, newer: Path) -> None:
    migrate.prepare(settings, migrations=newer)
    with pytest.raises(Conflict) as caught:
        migrate.prepare(settings)
    assert (caught.value.code, caught.value.params["revision"]) == ("start.data_newer", "9999")
    assert migrate.revision(settings.db_file) == "9999"


def test_foreign_and_damaged_files_are_refused(settings: Settings) -> None:
    settings.db_file.parent.mkdir(parents=True)
    settings.db_file.write_text("not a database at all, but long enough to have a header of sixteen bytes")
    with pytest.raises(Invalid) as caught:
        migrate.prepare(settings)
    assert caught.value.code == "start.data_foreign"
    settings.db_file.unlink()
    c = sqlite3.connect(settings.db_file)
    c.execute("CREATE TABLE other (x)")
    c.close()
    with pytest.raises(Invalid) as caught:
        migrate.prepare(settings)
    assert caught.value.code == "start.data_foreign"


def test_damaged_database_is_told_as_such(settings: Settings) -> None:
    migrate.prepare(settings)
    raw = bytearray(settings.db_file.read_bytes())
    raw[100:4096] = b"\xff" * 3996
    settings.db_file.write_bytes(raw)
    with pytest.raises(Unavailable) as caught:
        migrate.prepare(settings)
    assert caught.value.code == "start.database_damaged"
