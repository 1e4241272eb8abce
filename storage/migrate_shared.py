"""Brings a PostgreSQL database to this version: one process at a time, all in one transaction or nothing.

Beside our tables it makes procrastinate's, the triggers that keep the audit log from being changed, and those that
tell other processes of changed rows.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

import storage.tables  # noqa: F401 - registers every table in the metadata
from storage.errors import Conflict, Invalid, Unavailable
from storage.postgres import LOCK_SCHEMA, address, away, engine_for

log = logging.getLogger(__name__)

# Tables that processes keep in memory. The columns limit it to changes that matter to others; `{}` is any.
WATCHED = {
    "access": "",
    "apikey": "revoked_at, expires_at, scopes",
    "bot": "",
    "botstate": "",
    "hook": "",
    "provider": "",
    "secret": "",
    "session": "revoked_at, expires_at, verified_at, role, version",
    "setting": "",
    "user": "version, disabled_at, role, name, lang, theme",
}
MEMORY = ("memory", "memory_vector")  # these tell of which memory
_TOLD = """
CREATE OR REPLACE FUNCTION zhixing_told() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('zhixing_rows', coalesce(current_setting('zhixing.origin', true), '') || ' ' || TG_TABLE_NAME);
    RETURN NULL;
END $$
"""
_TOLD_MEMORY = """
CREATE OR REPLACE FUNCTION zhixing_told_memory() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('zhixing_rows', coalesce(current_setting('zhixing.origin', true), '') || ' ' || TG_TABLE_NAME
        || ' ' || store_id) FROM (SELECT DISTINCT store_id FROM changed) AS stores;
    RETURN NULL;
END $$
"""

_REFUSED = """
CREATE OR REPLACE FUNCTION zhixing_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'append only'; END $$
"""
_GUARD = """
CREATE OR REPLACE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION zhixing_append_only()
"""


def prepare(url: str, migrations: Path, known: list[str]) -> None:
    """Make the tables, or bring them to this version. Safe to repeat, and safe beside other processes that do.

    Raises:
        Conflict: `start.data_newer`. Invalid: `start.data_foreign`.
        Unavailable: `start.database_unreachable`, `start.migration_failed`; nothing was changed.
    """
    where = address(url)
    engine = engine_for(where, 1)
    shown = f"{where.host or ''}/{where.database or ''}"
    try:
        with engine.begin() as c:
            c.execute(text(f"SELECT set_config('lock_timeout', '0', true), pg_advisory_xact_lock({LOCK_SCHEMA})"))
            _tables(c, shown, migrations, known)
            _queue(c)
            _triggers(c)
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0][:300] if str(error.orig) else type(error.orig).__name__
        if away(error) or type(error.orig).__name__ == "OperationalError":
            raise Unavailable("start.database_unreachable", address=shown, reason=reason) from error
        raise Unavailable("start.migration_failed", path=shown, reason=reason) from error
    finally:
        engine.dispose()


def _tables(c: Connection, shown: str, migrations: Path, known: list[str]) -> None:
    names = set(inspect(c).get_table_names())
    if "alembic_version" not in names:
        if "conversation" in names or "job" in names:
            raise Invalid("start.data_foreign", field="DATABASE_URL", path=shown)
        SQLModel.metadata.create_all(c)
        c.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        c.execute(text("INSERT INTO alembic_version (version_num) VALUES (:v)"), {"v": known[-1]})
        return
    found = str(c.execute(text("SELECT version_num FROM alembic_version")).scalar() or "?")
    if found not in known:
        raise Conflict("start.data_newer", folder=shown, revision=found)
    if found != known[-1]:
        log.info("migrating the database from revision %s to %s", found, known[-1])
        upgrade(c, known[-1], migrations)


def upgrade(c: Connection, target: str, migrations: Path) -> None:
    """Apply the migrations up to `target` in the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = c
    command.upgrade(config, target)


def _queue(c: Connection) -> None:
    """procrastinate's own tables."""
    if c.execute(text("SELECT to_regclass('procrastinate_jobs')")).scalar() is not None:
        return
    from procrastinate.schema import SchemaManager

    raw = c.connection.driver_connection
    if raw is not None:
        raw.execute(SchemaManager.get_schema())


def _triggers(c: Connection) -> None:
    """Tell other processes of changed rows. Made anew only where they are not as they should be: it locks tables."""
    statements = [_TOLD, _TOLD_MEMORY, _REFUSED, _GUARD]
    for table, columns in WATCHED.items():
        of = f" OF {columns}" if columns else ""
        statements.append(
            f'CREATE OR REPLACE TRIGGER zhixing_told AFTER INSERT OR UPDATE{of} OR DELETE ON "{table}"'
            " FOR EACH STATEMENT EXECUTE FUNCTION zhixing_told()"
        )
    for table in MEMORY:
        for act, rows in (("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")):
            statements.append(
                f'CREATE OR REPLACE TRIGGER zhixing_told_{act} AFTER {act.upper()} ON "{table}"'
                f" REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION zhixing_told_memory()"
            )
    digest = hashlib.sha256("\n".join(statements).encode()).hexdigest()[:16]
    now = c.execute(text("SELECT obj_description(to_regproc('zhixing_told'), 'pg_proc')")).scalar()
    if now == digest:
        return
    for statement in statements:
        c.exec_driver_sql(statement)
    c.exec_driver_sql(f"COMMENT ON FUNCTION zhixing_told() IS '{digest}'")
