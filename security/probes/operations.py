"""Operations: the audit log, the clock, dependencies, the process's own rights, sessions, and what people must do."""

from __future__ import annotations

import asyncio
import os
import re
from importlib import metadata
from pathlib import Path

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from security.checklist import Check, Finding, fail, ok, unknown, warn
from security.probes.facts import Facts
from security.sessions import session_t
from security.user_rows import user_t
from storage.audit import audit_t

DAY = 86_400_000
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)\s*(;[^\\]*)?", re.MULTILINE)
# Below these, known holes are open.
FLOORS = {
    "nicegui": "3.18.0",
    "starlette": "0.49.1",
    "python-socketio": "5.16.2",
    "python-engineio": "4.13.2",
    "aiohttp": "3.14.3",
    "cryptography": "46.0.7",
    "pyjwt": "2.12.0",
    "python-multipart": "0.0.31",
}


class _Undo(Exception):
    """Takes back what a probe wrote."""


async def audit(facts: Facts) -> Finding:
    """The whole chain of the audit log fits, row after row."""
    result = await facts.db.read(facts.audit.verify)
    if result.broken_at is not None:
        return fail("broken", row=result.broken_at, rows=result.rows)
    anchor = await facts.db.read(facts.anchor)
    if anchor in ("cut", "forged"):
        return fail("cut" if anchor == "cut" else "forged", rows=result.rows)
    if anchor == "missing":
        return warn("unanchored", rows=result.rows)
    return ok("whole", rows=result.rows) if result.rows else unknown("empty")


async def audit_guard(facts: Facts) -> Finding:
    """The database itself refuses to change or remove a row of the audit log."""
    last = await facts.db.read(lambda c: c.execute(select(func.max(audit_t.c.id))).scalar())
    if last is None:
        return unknown("empty")

    taken = []
    for statement in ("UPDATE audit SET who = who WHERE id = ?", "DELETE FROM audit WHERE id = ?"):

        def run(c: Connection, statement: str = statement) -> None:
            c.exec_driver_sql(statement, (last,))
            raise _Undo

        try:
            await facts.db.write(run)
        except _Undo:
            taken.append(statement.partition(" ")[0])
        except DBAPIError:
            continue
    return fail("taken", what=", ".join(taken)) if taken else ok("refused")


async def clock(facts: Facts) -> Finding:
    """Our clock against what other servers answered with lately."""
    found = facts.egress.clock_skew()
    if found is None:
        return unknown("no_answers")
    seconds = round(found)
    if abs(seconds) >= 30:
        return fail("wrong", seconds=seconds)
    return warn("wrong", seconds=seconds) if abs(seconds) >= 5 else ok("right", seconds=seconds)


async def dependencies(facts: Facts) -> Finding:
    """What is installed is what the lock names, and nothing is below a version with known holes."""
    lock = facts.root / "requirements.txt"
    return await asyncio.to_thread(_dependencies, lock)


def _dependencies(lock: Path) -> Finding:
    if not lock.is_file():
        return unknown("no_lock")
    low = [name for name, least in FLOORS.items() if (found := _installed(name)) and _parts(found) < _parts(least)]
    if low:
        return fail("old", names=", ".join(low))
    pins: dict[str, set[str]] = {}
    for name, version, _ in PIN.findall(lock.read_text(encoding="utf-8")):
        pins.setdefault(name.lower(), set()).add(version)
    if not pins:
        return unknown("no_lock")
    other = [
        f"{name} {found}" for name, versions in pins.items() if (found := _installed(name)) and found not in versions
    ]
    return warn("other", names=", ".join(other)[:300], count=len(other)) if other else ok("as_locked", count=len(pins))


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:4])


async def rights(facts: Facts) -> Finding:
    """The process holds no more of the machine than it needs."""
    return await asyncio.to_thread(_rights, facts.proc, facts.run, facts.exposure.wide)


def _rights(proc: Path, run: Path, wide: bool) -> Finding:
    lines = (proc / "status").read_text(encoding="ascii", errors="replace").splitlines()
    found = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    if "Uid" not in found:
        return unknown("unreadable")
    docker = run / "docker.sock"
    if docker.exists() and os.access(docker, os.W_OK):
        return fail("docker", path=str(docker))
    if found["Uid"][1] == "0":
        return fail("root") if wide else warn("root")
    if int(found.get("CapEff", ["0"])[0], 16):
        return warn("capabilities", mask=found["CapEff"][0])
    if found.get("NoNewPrivs", ["0"])[0] != "1":
        return warn("may_gain") if wide else ok("plain_user", uid=found["Uid"][1])
    return ok("least", uid=found["Uid"][1])


async def people(facts: Facts) -> Finding:
    """Whoever may administer has been here in the last 90 days."""
    able = (user_t.c.disabled_at.is_(None), user_t.c.role.in_(("owner", "admin")))
    seen = select(session_t.c.user_id, func.max(session_t.c.seen_at).label("at")).group_by(session_t.c.user_id)
    rows = await facts.db.read(lambda c: c.execute(select(user_t).where(*able)).all())
    last = {row.user_id: row.at for row in await facts.db.read(lambda c: c.execute(seen).all())}
    logged = await facts.db.read(_last_logins)
    before = facts.clock.ms() - 90 * DAY
    gone = [
        row.name
        for row in rows
        if max(last.get(row.id) or 0, logged.get(f"user:{row.id}", 0), row.created_at or 0) < before
    ]
    if not rows:
        return unknown("nobody")
    return warn("gone", names=", ".join(gone)[:200]) if gone else ok("here", count=len(rows))


def _last_logins(c: Connection) -> dict[str, int]:
    query = select(audit_t.c.who, func.max(audit_t.c.at).label("at")).where(audit_t.c.action == "login.ok")
    return {row.who: row.at for row in c.execute(query.group_by(audit_t.c.who))}


async def patches(facts: Facts) -> Finding:
    """Once a month somebody looks for updates of the system and of this program."""
    return ok("done") if facts.attested("operations.patches") else warn("due")


async def drill(facts: Facts) -> Finding:
    """Once a quarter somebody restores a backup elsewhere and walks through the checklist."""
    return ok("done") if facts.attested("operations.drill") else warn("due")


CHECKS: tuple[Check[Facts], ...] = (
    Check(id="operations.audit", probe=audit, critical=True),
    Check(id="operations.audit_guard", probe=audit_guard),
    Check(id="operations.clock", probe=clock),
    Check(id="operations.dependencies", probe=dependencies),
    Check(id="operations.rights", probe=rights),
    Check(id="operations.people", probe=people),
    Check(id="operations.patches", probe=patches, attest=31),
    Check(id="operations.drill", probe=drill, attest=92),
)
