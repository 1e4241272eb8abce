"""Is the database whole? Looked at before anything writes to it: damage is never repaired by emptying.

A file `db/open` stands beside the database while a process serves. Found at the next start, it says that the last one
was cut off: then the pages are looked through, and the log of what was written last has to be there.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

from storage.errors import Unavailable
from storage.settings import Settings

log = logging.getLogger(__name__)
# Beyond this the look takes longer than a start may; the nightly check looks through every size.
MOST_AT_START = 512 * 1_048_576


def mark(settings: Settings) -> Path:
    """The file that says: somebody serves."""
    return settings.db_file.with_name("open")


def look(settings: Settings) -> None:
    """Look after an end that was cut off, and take the mark away. Cheap after a clean end.

    Raises:
        Unavailable: `start.log_missing`, `start.database_damaged`; nothing was changed.
    """
    file, place = settings.db_file, mark(settings)
    if not place.exists() or not file.exists() or settings.database_url:
        return
    if not Path(f"{file}-wal").exists():
        raise Unavailable("start.log_missing", path=str(file), mark=str(place))
    if file.stat().st_size <= MOST_AT_START:
        _pages(file)
    place.unlink(missing_ok=True)


def _pages(file: Path) -> None:
    try:
        # read-only: closing the last writer would empty the log into the file and remove it, sound or not
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5.0)
    except sqlite3.Error as error:
        raise Unavailable("start.database_damaged", path=str(file), reason=str(error)) from error
    try:
        found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        if found != "ok":
            raise Unavailable("start.database_damaged", path=str(file), reason=found.splitlines()[-1][:200])
    except sqlite3.DatabaseError as error:
        raise Unavailable("start.database_damaged", path=str(file), reason=str(error)) from error
    finally:
        connection.close()


def begun(settings: Settings) -> None:
    """From now on an end without `ended` is one that was cut off."""
    place = mark(settings)
    place.touch(mode=0o600)
    handle = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def ended(settings: Settings) -> None:
    """The database was closed in order."""
    mark(settings).unlink(missing_ok=True)


def newest_backup(settings: Settings) -> str:
    """The newest backup's path, for who has to restore; empty if there is none."""
    found = sorted(settings.backups_dir.glob("zhixing-*.age"))
    return str(found[-1]) if found else ""
