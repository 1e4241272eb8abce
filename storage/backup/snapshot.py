"""What goes into a backup: a consistent copy of the database, and the files as they are."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.backup.archive import Member
from storage.backup.manifest import DATABASE, FOLDERS, KEY, Manifest, good_name
from storage.errors import Unavailable
from storage.migrate import revision
from storage.settings import VERSION, Settings

# Made from an installed package, the same on every machine, and large.
MADE_AGAIN = re.compile(r"index/e5-[^/]*\.onnx(\..*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A copy of the database, proved whole, and what is known about it."""

    copy: Path
    manifest: Manifest


def take_snapshot(settings: Settings, copy: Path, at: int) -> Snapshot:
    """Copy the database as it is at one moment, beside a running server, and prove the copy whole.

    One step of SQLite's online backup: it reads one snapshot and holds no writer up. More steps would begin anew
    at every write of another connection.

    Raises:
        Unavailable: `db.damaged`; OSError, sqlite3.Error: the disk.
    """
    copy.unlink(missing_ok=True)
    source = sqlite3.connect(f"file:{settings.db_file}?mode=ro", uri=True, timeout=5.0)
    target = sqlite3.connect(copy)
    try:
        copy.chmod(0o600)
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE").fetchone()
        tables, audit = look_whole(target, str(settings.db_file))
    finally:
        source.close()
        target.close()
    stamp = revision(copy) or ""
    manifest = Manifest(version=VERSION, revision=stamp, at=at, files={}, tables=tables, audit=audit)
    return Snapshot(copy=copy, manifest=manifest)


def look_whole(c: sqlite3.Connection, path: str) -> tuple[dict[str, int], tuple[int, str]]:
    """Every page, every reference; the rows of each table and the newest entry of the audit log.

    Raises:
        Unavailable: `db.damaged`.
    """
    try:
        result = str(c.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if result != "ok" or c.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise Unavailable("db.damaged", path=path, reason=result[:200])
        tables = count_rows(c)
        last = (
            c.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone() if "audit" in tables else None
        )
    except sqlite3.DatabaseError as error:
        raise Unavailable("db.damaged", path=path, reason=str(error)[:200]) from error
    return tables, (int(last[0]), str(last[1])) if last else (0, "")


def count_rows(c: sqlite3.Connection) -> dict[str, int]:
    """Rows by table. Not of virtual ones (full-text search): what they hold lies in tables of their own."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
    quoted = {row[0]: '"' + row[0].replace('"', '""') + '"' for row in c.execute(query)}
    return {name: int(c.execute(f"SELECT count(*) FROM {place}").fetchone()[0]) for name, place in quoted.items()}  # noqa: S608 - quoted names of the database itself


def members(settings: Settings, snapshot: Snapshot) -> Iterator[Member]:
    """Everything to keep: the database's copy, the master key, settings, files, index."""
    yield Member(name=DATABASE, path=snapshot.copy)
    yield Member(name=KEY, path=settings.master_key_file)
    env = settings.data / "zhixing.env"
    if env.is_file():
        yield Member(name="zhixing.env", path=env)
    places = {"files": settings.files_dir, "index": settings.index_dir, "config": settings.config_dir}
    for folder in FOLDERS:
        for name, path in _walk(folder, places[folder]):
            if good_name(name) and not MADE_AGAIN.fullmatch(name):
                yield Member(name=name, path=path)


def _walk(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """All regular files below a folder, in order; links are not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(f"{name}/{entry.name}", Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield f"{name}/{entry.name}", Path(entry.path)
