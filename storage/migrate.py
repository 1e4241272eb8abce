"""Brings the data to this version before anything else opens it. Alembic is imported only where there is work for it.

A new database is made from the tables themselves and stamped. An older one is migrated as a copy, which takes the
original's place only once it has proved whole; the original is kept beside it.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from pathlib import Path

from sqlalchemy import text
from sqlmodel import SQLModel

import storage.tables  # noqa: F401 - registers every table in the metadata
from storage.audit import guard
from storage.crash import CrashPoints
from storage.database import sqlite_engine
from storage.errors import Conflict, Invalid, Unavailable
from storage.settings import Settings

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
# Rows of these may not become fewer or more by a migration.
KEPT = ("user", "conversation", "message", "job", "delivery", "secret", "audit", "memory")


def revisions(folder: Path = MIGRATIONS) -> list[str]:
    """All revisions, oldest first. They are the numbers that the files in `versions` begin with."""
    return sorted(path.name.partition("_")[0] for path in (folder / "versions").glob("[0-9]*_*.py"))


def prepare(settings: Settings, *, migrations: Path = MIGRATIONS) -> None:
    """Make the database, or bring it to this version. Call it with the folder's lock held. Safe to repeat.

    Raises:
        Conflict: `start.data_newer`, written by a newer version; nothing was changed.
        Invalid: `start.data_foreign`, not our database; `start.database_url`, not an address of PostgreSQL.
        Unavailable: `start.migration_failed`, `start.database_damaged`, `start.disk_full`; nothing was changed.
    """
    known = revisions(migrations)
    if settings.database_url:
        from storage import migrate_shared  # its driver and queue are not installed where SQLite serves

        migrate_shared.prepare(settings.database_url, migrations, known)
        return
    path = settings.db_file
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = revision(path)
    if found is None:
        create(path, known[-1])
    elif found not in known:
        raise Conflict("start.data_newer", folder=str(settings.data), revision=found)
    elif found != known[-1]:
        upgrade(path, found, known[-1], migrations, CrashPoints(settings.crash_at))


def revision(path: Path) -> str | None:
    """The revision of a database, or None where there is none yet.

    Raises:
        Invalid: `start.data_foreign`.
        Unavailable: `start.database_damaged`.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    connection = sqlite3.connect(path, timeout=5.0)
    try:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not names:
            return None
        if "alembic_version" not in names:
            raise Invalid("start.data_foreign", field="ZHIXING_DATA", path=str(path))
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else "?"
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error):
            raise Invalid("start.data_foreign", field="ZHIXING_DATA", path=str(path)) from error
        raise Unavailable("start.database_damaged", path=str(path), reason=str(error)) from error
    finally:
        connection.close()


def create(path: Path, stamp: str) -> None:
    """Make all tables in one transaction, so that a cut-off start leaves none of them."""
    engine = sqlite_engine(path, size=1)
    try:
        with engine.begin() as c:
            SQLModel.metadata.create_all(c)
            guard(c)
            c.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
            c.execute(text("INSERT INTO alembic_version (version_num) VALUES (:v)"), {"v": stamp})
    finally:
        engine.dispose()
    path.chmod(0o600)


def upgrade(path: Path, old: str, new: str, migrations: Path = MIGRATIONS, crash: CrashPoints | None = None) -> None:
    """Migrate a copy, prove it whole, put it in the original's place; the original stays as `<name>.<revision>`.

    Raises:
        Unavailable: see `prepare`.
    """
    copy, kept = path.with_suffix(".migrating"), path.with_suffix(f".{old}.db")
    free, need = shutil.disk_usage(path.parent).free, 2 * path.stat().st_size + 50_000_000
    if free < need:
        raise Unavailable("start.disk_full", folder=str(path.parent), free=free // 1_048_576, need=need // 1_048_576)
    log.info("migrating the data from revision %s to %s", old, new)
    reached = (crash or CrashPoints()).reached
    try:
        _remove(copy)
        before = _copy(path, copy)
        reached("migrate.copied")
        run(copy, new, migrations)
        reached("migrate.run")
        _prove(copy, before, new)
        settle(copy)
        settle(path)
        _sync(copy)
        reached("migrate.proved")
        _remove(kept)
        os.link(path, kept)
        reached("migrate.kept")
        copy.replace(path)
        reached("migrate.replaced")
        _sync(path.parent)
    except Exception as error:
        # whatever a migration raises: the original has not been touched and must stay usable
        log.exception("the migration to revision %s failed", new)
        _remove(copy)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unavailable("start.migration_failed", path=str(path), reason=reason) from error
    log.info("the data is at revision %s; what it was before is kept as %s", new, kept)


def run(path: Path, target: str, migrations: Path = MIGRATIONS) -> None:
    """Apply the migrations up to `target` to one database file, all in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    engine = sqlite_engine(path, size=1)
    try:
        with engine.begin() as c:
            config.attributes["connection"] = c
            command.upgrade(config, target)
            guard(c)
    finally:
        engine.dispose()


def _copy(path: Path, copy: Path) -> dict[str, int]:
    """Copy a database with what its log still holds; returns the counts of KEPT."""
    source, target = sqlite3.connect(path, timeout=5.0), sqlite3.connect(copy)
    try:
        source.backup(target)
        return _counts(target)
    finally:
        source.close()
        target.close()
        copy.chmod(0o600)


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    kept = [name for name in KEPT if name in names]
    return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in kept}  # noqa: S608 - names of ours


def _prove(path: Path, before: dict[str, int], target: str) -> None:
    connection = sqlite3.connect(path)
    try:
        result = connection.execute("PRAGMA integrity_check").fetchone()[0]
        after = _counts(connection)
    finally:
        connection.close()
    lost = [f"{name}: {n} -> {after.get(name)}" for name, n in before.items() if after.get(name) != n]
    if result != "ok" or lost or revision(path) != target:
        raise Unavailable("start.database_damaged", path=str(path), reason=", ".join(lost) or str(result))


def settle(path: Path) -> None:
    """Empty the log into the file and remove it: a log must never meet another file of the same name."""
    connection = sqlite3.connect(path, timeout=5.0)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        mode = connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
    finally:
        connection.close()
    if mode != "delete":
        raise Unavailable("db.locked")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
