"""Rows of backups, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from security.probes.facts import BackupFacts
from storage.database import new_id
from storage.errors import NotFound
from storage.principal import TENANT
from storage.settings import VERSION
from storage.tables.backups import Backup

backup_t = Backup.__table__  # type: ignore[attr-defined]
MOST_SHOWN = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class BackupRow:
    """One backup as listed. `here`: its file is in the folder of backups."""

    id: int
    kind: str
    status: str
    name: str
    size: int
    hash: str
    rows: int
    files: int
    version: str
    error: str
    started_at: int
    ended_at: int | None
    away: int | None
    away_error: str
    tested_at: int | None
    test_error: str
    here: bool


def shown(row: Row[Any], folder: Path) -> BackupRow:
    """The row with what the disk says."""
    names = [name for name in BackupRow.__dataclass_fields__ if name != "here"]
    here = bool(row.name) and row.removed_at is None and (folder / row.name).is_file()
    return BackupRow(**{name: getattr(row, name) for name in names}, here=here)


def newest(c: Connection, *, most: int = MOST_SHOWN) -> list[Row[Any]]:
    """The newest first."""
    query = select(backup_t).where(backup_t.c.tenant == TENANT).order_by(backup_t.c.id.desc()).limit(most)
    return list(c.execute(query))


def standing(c: Connection) -> list[Row[Any]]:
    """Finished ones whose file was not removed, the newest first."""
    done = (backup_t.c.tenant == TENANT, backup_t.c.status == "done", backup_t.c.removed_at.is_(None))
    return list(c.execute(select(backup_t).where(*done).order_by(backup_t.c.id.desc()).limit(2000)))


def get(c: Connection, backup_id: int) -> Row[Any]:
    """One of them.

    Raises:
        NotFound: `backup.missing`.
    """
    row = c.execute(select(backup_t).where(backup_t.c.id == backup_id, backup_t.c.tenant == TENANT)).first()
    if row is None:
        raise NotFound("backup.missing")
    return row


def begin(c: Connection, kind: str, name: str, now: int) -> int:
    """A row for one that is being made."""
    values = {"tenant": TENANT, "kind": kind, "status": "running", "name": name, "started_at": now, "version": VERSION}
    return new_id(c.execute(insert(backup_t).values(**values)))


def change(c: Connection, backup_id: int, **values: object) -> None:
    """Set columns."""
    c.execute(update(backup_t).where(backup_t.c.id == backup_id).values(**values))


def cut_off(c: Connection, now: int) -> list[Row[Any]]:
    """Those that an ended process left behind."""
    left = list(c.execute(select(backup_t).where(backup_t.c.tenant == TENANT, backup_t.c.status == "running")))
    for row in left:
        change(c, row.id, status="failed", error="backup.cut_off", ended_at=now)
    return left


def facts(c: Connection) -> BackupFacts | None:
    """What the security checklist asks about."""
    rows = standing(c)
    if not rows:
        return None
    tested = [row.tested_at for row in rows if row.tested_at and not row.test_error]
    return BackupFacts(
        at=rows[0].ended_at or rows[0].started_at,
        size=rows[0].size,
        before=rows[1].size if len(rows) > 1 else 0,
        tested_at=max(tested, default=0),
        off_host=rows[0].away is not None,
    )
