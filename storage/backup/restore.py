"""Restore into a fresh folder, and the trial that proves a backup without keeping it.

Everything happens in `<folder>/.restoring`; once it is whole and paused a mark is set, and only then the parts move
to their places, the database last. Whoever is cut off before the mark begins again, after it goes on.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from storage import migrate
from storage.anchor import anchor_files
from storage.audit import Audit, audit_key
from storage.backup.archive import read_archive, sync
from storage.backup.manifest import DATABASE, KEY, Manifest
from storage.backup.review import pause_everything
from storage.backup.snapshot import look_whole
from storage.clock import Clock
from storage.database import sqlite_engine
from storage.errors import AppError, Conflict, Invalid, Unavailable
from storage.settings import Settings
from storage.vault import Vault

WORK = ".restoring"
MARK = "whole.json"
SPARE = 200 * 1_048_576
IGNORED = {WORK, "lost+found"}
Reached = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """What a restore or a trial found.

    Attributes:
        paused: how many bots, schedules … were paused or ended for review.
    """

    manifest: Manifest
    paused: dict[str, int] = field(default_factory=dict)


def restore(
    archive: Path, key: str, folder: Path, key_file: Path, clock: Clock, *, reached: Reached = lambda _: None
) -> Restored:
    """Restore an archive into a fresh data folder. Blocking; call it without a server on that folder.

    Args:
        key: the recovery key, as `read_key` gives it.
        folder: missing or empty.
        key_file: where the master key goes; a file that is there must hold the same key.

    Raises:
        Conflict: `restore.not_empty`, `restore.key_taken`, `start.data_newer`.
        Invalid, TooLarge: what `read_archive` says. Unavailable: `start.disk_full`, `db.damaged`, `vault.wrong_key`.
    """
    if not archive.is_file():
        raise Invalid("restore.no_file", "file", path=str(archive))
    work = folder / WORK
    _fresh(folder, key_file)
    if (work / MARK).is_file():
        done = json.loads((work / MARK).read_text("utf-8"))
        finish(folder)
        raise Conflict("restore.was_done", folder=str(folder), name=str(done.get("name", "")))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o700)
        new = work / "new"
        new.mkdir(mode=0o700)
        manifest = read_archive(archive, key, new, most_bytes=_room(folder), reached=reached)
        vault = _prove(new, manifest, clock)
        reached("restore.verified")
        _place_key(new / KEY, key_file)
        paused = _pause(new / DATABASE, vault, clock, manifest, archive.name)
        reached("restore.paused")
        _mark(work, {"name": archive.name, "at": clock.ms()})
    except BaseException as error:
        shutil.rmtree(work, ignore_errors=True)
        if isinstance(error, OSError):
            raise Unavailable("restore.disk", folder=str(folder), reason=error.strerror or "") from error
        raise
    reached("restore.marked")
    for path in anchor_files(Settings(data=folder, key_file=key_file)):
        path.unlink(missing_ok=True)  # of a log that stood here before: it does not fit the past
    finish(folder, reached=reached)
    return Restored(manifest=manifest, paused=paused)


def trial(archive: Path, key: str, folder: Path, clock: Clock) -> Restored:
    """Restore into a temporary folder, prove everything, and remove it again.

    Raises:
        As `restore`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True, mode=0o700)
        manifest = read_archive(archive, key, folder, most_bytes=_room(folder))
        _prove(folder, manifest, clock)
        return Restored(manifest=manifest)
    except OSError as error:
        raise Unavailable("restore.disk", folder=str(folder), reason=error.strerror or "") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unfinished(folder: Path) -> bool:
    """True where a restore was cut off before everything was there.

    One that was cut off afterwards is brought to its end.
    """
    work = folder / WORK
    if (work / MARK).is_file():
        finish(folder)
    return work.is_dir()


def finish(folder: Path, *, reached: Reached = lambda _: None) -> None:
    """Move what is whole to its place. Safe to repeat, from wherever it was cut off."""
    work, new = folder / WORK, folder / WORK / "new"
    for name in ("zhixing.env", "config", "files", "index", "db"):
        if (new / name).exists():
            (new / name).replace(folder / name)
            reached("restore.moving")
    sync(folder)
    shutil.rmtree(new, ignore_errors=True)
    (work / MARK).unlink(missing_ok=True)
    work.rmdir()
    sync(folder)


def _fresh(folder: Path, key_file: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise Invalid("start.data_not_folder", field="ZHIXING_DATA", folder=str(folder))
    inside = {key_file.name} if key_file.parent.resolve() == folder.resolve() else set()
    if {entry.name for entry in folder.iterdir()} - IGNORED - inside and not (folder / WORK / MARK).is_file():
        raise Conflict("restore.not_empty", folder=str(folder))


def _room(folder: Path) -> int:
    return max(shutil.disk_usage(folder).free - SPARE, 0)


def _prove(new: Path, manifest: Manifest, clock: Clock) -> Vault:
    """Pages, references, rows, secrets and the audit log of what was taken out; returns the vault of its key."""
    found = migrate.revision(new / DATABASE) if (new / DATABASE).is_file() else None
    if found is None or not (new / KEY).is_file():
        raise Invalid("backup.damaged", "file")
    if found not in migrate.revisions():
        raise Conflict("start.data_newer", folder="", revision=found)
    c = sqlite3.connect(new / DATABASE)
    try:
        tables, last = look_whole(c, DATABASE)
    finally:
        c.close()
    if tables != dict(manifest.tables) or last != manifest.audit:
        raise Invalid("backup.damaged", "file")
    vault = Vault(_read_key(new / KEY), clock, source=KEY)
    engine = sqlite_engine(new / DATABASE, size=1)
    try:
        with engine.connect() as c2, c2.begin():
            vault.check(c2)
            _open_all(vault, c2)
            chain = Audit(clock, audit_key(c2, vault)).verify(c2)
            if chain.broken_at is not None:
                raise Unavailable("audit.broken", row=chain.broken_at)
    finally:
        engine.dispose()
    migrate.settle(new / DATABASE)
    return vault


def _open_all(vault: Vault, c: object) -> None:
    for row in c.execute(text("SELECT tenant, name FROM secret")).all():  # type: ignore[attr-defined]
        vault.open(c, row.tenant, row.name)  # type: ignore[arg-type]


def _read_key(path: Path) -> bytes:
    try:
        key = base64.b64decode(path.read_text("ascii").strip(), validate=True)
    except ValueError as error:
        raise Invalid("backup.damaged", "file") from error
    if len(key) != 32:
        raise Invalid("backup.damaged", "file")
    return key


def _place_key(source: Path, target: Path) -> None:
    """Put the master key where it belongs; another one that is there is never replaced.

    Raises:
        Conflict: `restore.key_taken`.
    """
    key = _read_key(source)
    if target.exists():
        try:
            same = base64.b64decode(target.read_text("ascii").strip()) == key
        except ValueError:
            same = False
        if not same:
            raise Conflict("restore.key_taken", path=str(target))
    else:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = target.with_name(target.name + ".part")
        part.unlink(missing_ok=True)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(base64.b64encode(key) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        sync(target.parent)
    shutil.rmtree(source.parent)


def _pause(path: Path, vault: Vault, clock: Clock, manifest: Manifest, name: str) -> dict[str, int]:
    engine = sqlite_engine(path, size=1)
    try:
        with engine.begin() as c:
            audit = Audit(clock, audit_key(c, vault))
            counts = pause_everything(c, clock, audit, made_at=manifest.at, name=name)
    finally:
        engine.dispose()
    migrate.settle(path)
    return counts


def _mark(work: Path, state: dict[str, object]) -> None:
    for path in sorted((work / "new").rglob("*")):
        if path.is_dir() or path.name == Path(DATABASE).name:
            sync(path)
    part = work / f"{MARK}.part"
    part.write_text(json.dumps(state), "utf-8")
    sync(part)
    part.replace(work / MARK)
    sync(work)


__all__ = ["AppError", "Restored", "finish", "restore", "trial", "unfinished"]
