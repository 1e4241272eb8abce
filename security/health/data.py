"""The database and what must not be lost: whole, writable, quick, opened by its key, backed up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, text

from security.health.row import Found, HealthTest, bad, good, off, unknown, warn
from security.probes.facts import Facts
from storage.principal import TENANT
from storage.tables.system import Setting

setting_t = Setting.__table__  # type: ignore[attr-defined]

DAY = 86_400_000
SLOW_MS, STALLED_MS = 200, 1000
WAL_MB = 128
OLD_BACKUP_MS = 26 * 3_600_000
BEAT = "health.beat"


def data_tests(facts: Facts) -> list[HealthTest]:
    """Tests of group `data`."""
    return [
        HealthTest(id="data.whole", look=lambda: _whole(facts), seconds=120.0),
        HealthTest(id="data.write", look=lambda: _write(facts), inside=True),
        HealthTest(id="data.key", look=lambda: _key(facts)),
        HealthTest(id="data.backup", look=lambda: _backup(facts)),
    ]


async def _whole(facts: Facts) -> Sequence[Found]:
    """SQLite looks at every page and every reference."""
    if facts.db.dialect != "sqlite":
        return [off("server")]

    def look(c: Connection) -> tuple[list[str], int]:
        said = [str(row[0]) for row in c.execute(text("PRAGMA quick_check(20)"))]
        return said, len(c.execute(text("PRAGMA foreign_key_check")).fetchmany(100))

    said, loose = await facts.db.read(look)
    if said != ["ok"]:
        return [bad("damaged", "/backup", what="; ".join(said)[:300])]
    if loose:
        return [warn("loose", count=loose)]
    path = facts.settings.db_file
    sizes = await asyncio.to_thread(
        lambda: [p.stat().st_size if p.exists() else 0 for p in (path, path.with_name(path.name + "-wal"))]
    )
    size, wal = (round(n / 1_048_576, 1) for n in sizes)
    return [warn("wal", size=size, wal=wal)] if wal > WAL_MB else [good("whole", size=size)]


async def _write(facts: Facts) -> Sequence[Found]:
    """One small write that waits for the disk, as every acknowledgement does."""
    now = facts.clock.ms()

    def beat(c: Connection) -> None:
        c.execute(delete(setting_t).where(setting_t.c.tenant == TENANT, setting_t.c.key == BEAT))
        c.execute(insert(setting_t).values(tenant=TENANT, key=BEAT, value=str(now), updated_at=now))

    took = []
    for _ in range(3):
        began = facts.clock.monotonic()
        await facts.db.write(beat)
        took.append(round((facts.clock.monotonic() - began) * 1000))
    ms = sorted(took)[1]
    if ms > STALLED_MS:
        return [bad("stalled", ms=ms)]
    return [warn("slow", ms=ms)] if ms > SLOW_MS else [good("quick", ms=ms)]


async def _key(facts: Facts) -> Sequence[Found]:
    """The master key opens what it sealed."""
    await facts.db.read(facts.vault.check)
    return [good("opens")]


async def _backup(facts: Facts) -> Sequence[Found]:
    """The newest backup, its age, and whether it was ever restored as a trial."""
    if facts.backup is None:
        return [unknown("not_here")]
    found = await facts.backup()
    if found is None:
        return [warn("none", "/backup")]
    hours = round((facts.clock.ms() - found.at) / 3_600_000)
    if facts.clock.ms() - found.at > OLD_BACKUP_MS:
        return [bad("old", "/backup", hours=hours)]
    if not found.tested_at:
        return [warn("untested", "/backup", hours=hours)]
    return [good("fresh", hours=hours)]
