"""Data: secrets, the master key, file modes, disk encryption, the database's own settings, space, backups."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import stat
from pathlib import Path

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from security.checklist import Check, Finding, fail, ok, unknown, warn
from security.probes.facts import Facts
from storage.database import SqliteDatabase
from storage.errors import AppError
from storage.principal import TENANT
from storage.tables.system import Setting

setting_t = Setting.__table__  # type: ignore[attr-defined]
HOUR, DAY = 3_600_000, 86_400_000
OTHERS = stat.S_IRWXG | stat.S_IRWXO
CANARY = "probe:canary"
# What keys look like that vendors give out; values that name a variable are no secrets.
SECRET = re.compile(
    r"sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY-----|xox[abp]-[0-9A-Za-z-]{10,}"
    r"|(?:api[_-]?key|secret|token|password)\"?\s*[:=]\s*\"?(?!\$\{)[A-Za-z0-9+/_=-]{20,}",
    re.IGNORECASE,
)
MOST_FILE = 1_000_000
SAFE_SQLITE = (3, 51, 3)


class _Undo(Exception):
    """Takes back what a probe wrote."""


async def secrets(facts: Facts) -> Finding:
    """A canary is sealed, opened, and cannot be opened under another name; what is kept fits this key."""

    def run(c: Connection) -> None:
        facts.vault.check(c)
        facts.vault.seal(c, TENANT, CANARY, "canary-canary-canary")
        if facts.vault.open(c, TENANT, CANARY) != "canary-canary-canary":
            raise LookupError("canary")
        c.exec_driver_sql("UPDATE secret SET name = 'probe:swapped' WHERE name = 'probe:canary'")
        try:
            facts.vault.open(c, TENANT, "probe:swapped")
        except AppError:
            raise _Undo from None

    try:
        await facts.db.write(run)
    except _Undo:
        return ok("sealed")
    except (AppError, LookupError) as error:
        return fail("broken", why=error.code if isinstance(error, AppError) else type(error).__name__)
    await facts.db.write(lambda c: facts.vault.remove(c, TENANT, "probe:swapped"))
    return fail("swapped")


async def plain(facts: Facts) -> Finding:
    """Nothing that looks like a key stands in the settings or in the files of `config`."""
    rows = await facts.db.read(lambda c: c.execute(select(setting_t.c.key, setting_t.c.value)).all())
    places = [f"setting {row.key}" for row in rows if SECRET.search(row.value[:MOST_FILE])]
    places += await asyncio.to_thread(_in_files, facts.settings.config_dir)
    return fail("found", places=", ".join(places)[:300]) if places else ok("none")


def _in_files(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.glob("*.y*ml"))[:20] if folder.is_dir() else []:
        with path.open(encoding="utf-8", errors="replace") as file:
            if SECRET.search(file.read(MOST_FILE)):
                found.append(path.name)
    return found


async def key_file(facts: Facts) -> Finding:
    """The master key is readable by its owner only, belongs to us, and does not stand in the data folder."""
    path = facts.settings.master_key_file
    return await asyncio.to_thread(_key_file, path, facts.settings.data)


def _key_file(path: Path, data: Path) -> Finding:
    if not path.is_file():
        return fail("missing", path=str(path))
    found = path.stat()
    if found.st_mode & OTHERS:
        return fail("open", path=str(path), mode=f"{stat.S_IMODE(found.st_mode):o}")
    if found.st_uid != os.geteuid():
        return warn("owner", path=str(path), uid=found.st_uid)
    if path.is_symlink() or data.resolve() in path.resolve().parents:
        return warn("inside", path=str(path))
    return ok("apart", path=str(path))


async def fix_key_file(facts: Facts) -> None:
    """Only the owner may read it."""
    await asyncio.to_thread(os.chmod, facts.settings.master_key_file, 0o600)


async def modes(facts: Facts) -> Finding:
    """The data folder, the database and its companions are ours alone."""
    return await asyncio.to_thread(_modes, facts.settings.data)


def _modes(data: Path) -> Finding:
    if not data.is_dir():
        return unknown("missing", path=str(data))
    if data.is_symlink():
        return warn("link", path=str(data))
    wide = [str(path) for path in _private(data) if path.stat().st_mode & OTHERS]
    return fail("open", paths=", ".join(wide[:5]), count=len(wide)) if wide else ok("closed", path=str(data))


def _private(data: Path) -> list[Path]:
    """The folder and what in it must not be read by others; one level is enough, the folder closes the rest."""
    names = ("config", "db", "backups", "logs", "zhixing.env", "master.key")
    return [data, *(data / name for name in names if (data / name).exists()), *data.glob("db/*.db*")]


async def fix_modes(facts: Facts) -> None:
    """Take others' rights away."""

    def run() -> None:
        for path in _private(facts.settings.data):
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~OTHERS)

    await asyncio.to_thread(run)


async def disk(facts: Facts) -> Finding:
    """The device under the data folder, and those under it, as the kernel names them."""
    return await asyncio.to_thread(_disk, facts)


def _disk(facts: Facts) -> Finding:
    device = facts.settings.data.stat().st_dev
    start = facts.block / f"{os.major(device)}:{os.minor(device)}"
    if start.exists():
        seen, queue = 0, [start.resolve()]
        while queue and seen < 50:
            node, seen = queue.pop(), seen + 1
            uuid = node / "dm" / "uuid"
            if uuid.is_file() and uuid.read_text(encoding="ascii", errors="replace").startswith("CRYPT-"):
                return ok("encrypted", device=node.name)
            below = node / "slaves"
            queue += [path.resolve() for path in below.iterdir()] if below.is_dir() else []
    return unknown("declared") if facts.attested("data.disk") else unknown("unseen")


async def database(facts: Facts) -> Finding:
    """What the running database itself says: full sync, one log, no memory map, sound pages."""
    if not isinstance(facts.db, SqliteDatabase):
        return unknown("elsewhere")

    def run(c: Connection) -> dict[str, str]:
        names = ("journal_mode", "synchronous", "mmap_size", "foreign_keys", "quick_check(1)")
        return {name: str(c.exec_driver_sql(f"PRAGMA {name}").scalar()) for name in names}

    try:
        found = await facts.db.write(run)
    except DBAPIError as error:
        return fail("damaged", why=str(error.orig)[:200])
    wanted = {"journal_mode": "wal", "synchronous": "2", "mmap_size": "0", "foreign_keys": "1", "quick_check(1)": "ok"}
    wrong = [f"{name} = {found[name]}" for name, value in wanted.items() if found[name].lower() != value]
    if wrong:
        return fail("settings", what=", ".join(wrong))
    version = sqlite3.sqlite_version
    # older ones can damage the log if two connections reset it at once: only our writer ever does
    return ok("sound" if sqlite3.sqlite_version_info >= SAFE_SQLITE else "sound_old", version=version)


async def space(facts: Facts) -> Finding:
    """Room for what comes."""
    usage = await asyncio.to_thread(shutil.disk_usage, facts.settings.data)
    free, share = usage.free // 1_048_576, usage.free * 100 // max(usage.total, 1)
    if free < 500:
        return fail("little", free=free, share=share)
    return warn("little", free=free, share=share) if share < 5 else ok("enough", free=free, share=share)


async def backup(facts: Facts) -> Finding:
    """A backup is young, not suddenly small, tried out, and not on this disk alone."""
    if facts.backup is None:
        return unknown("not_here")
    found = await facts.backup()
    now = facts.clock.ms()
    if found is None:
        return fail("none")
    hours = (now - found.at) // HOUR
    if hours > 26:
        return fail("old", hours=hours)
    if found.before and found.size * 2 < found.before:
        return fail("shrunk", size=found.size, before=found.before)
    if found.tested_at < now - 8 * DAY:
        return warn("untried")
    return ok("good", hours=hours) if found.off_host else warn("here_only", hours=hours)


CHECKS: tuple[Check[Facts], ...] = (
    Check(id="data.secrets", probe=secrets, critical=True),
    Check(id="data.plain", probe=plain),
    Check(id="data.key_file", probe=key_file, fix=fix_key_file),
    Check(id="data.modes", probe=modes, fix=fix_modes),
    Check(id="data.disk", probe=disk, attest=90),
    Check(id="data.database", probe=database, critical=True),
    Check(id="data.space", probe=space),
    Check(id="data.backup", probe=backup),
)
