"""After a restore nothing acts by itself: a backup is a journey back in time, and the world has gone on meanwhile."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, inspect, text

from storage.audit import Audit
from storage.clock import Clock
from storage.principal import SYSTEM, TENANT

SETTING = "restore.review"
# What is under way belongs to a past that may have happened already. Values by table; `where` picks the open ones.
OPEN = (
    ("job", "status IN ('todo', 'doing', 'waiting')", "ended_at", {"status": "cancelled", "reason": "restore.ended"}),
    ("delivery", "status IN ('pending', 'sending')", "ended_at", {"status": "unknown", "error": "restore.unknown"}),
    ("approval", "status = 'asked'", "decided_at", {"status": "expired"}),
)


def pause_everything(c: Connection, clock: Clock, audit: Audit, *, made_at: int, name: str) -> dict[str, int]:
    """Pause whatever can act, end what was under way as unknown, end all sessions; write it down.

    Every table with a column `paused_at` holds things that act (bots, hooks, schedules …).

    Returns:
        How many of each were paused or ended.
    """
    now, found = clock.ms(), inspect(c)
    counts: dict[str, int] = {}
    paused: dict[str, list[int]] = {}
    tables = sorted(found.get_table_names())
    for table in tables:
        columns = {column["name"] for column in found.get_columns(table)}
        if {"id", "paused_at"} <= columns:
            ids = [int(row[0]) for row in c.execute(text(f'SELECT id FROM "{table}" WHERE paused_at IS NULL'))]  # noqa: S608 - a table's own name
            if ids:
                c.execute(text(f'UPDATE "{table}" SET paused_at = :now WHERE paused_at IS NULL'), {"now": now})  # noqa: S608 - a table's own name
                paused[table], counts[table] = ids, len(ids)
    for table, where, when, values in OPEN:
        if table not in tables:
            continue
        sets = ", ".join(f"{key} = :{key}" for key in values)
        ended = c.execute(text(f"UPDATE {table} SET {sets}, {when} = :now WHERE {where}"), {**values, "now": now})  # noqa: S608 - constants above
        if ended.rowcount:
            counts[table] = ended.rowcount
    counts["session"] = c.execute(text("DELETE FROM session")).rowcount
    state = {"at": now, "made_at": made_at, "name": name, "paused": paused, "counts": counts}
    keep(c, state, now)
    audit.record(c, SYSTEM, "backup.restore", name, after={"made_at": made_at, **counts})
    return counts


def state_of(c: Connection) -> dict[str, Any] | None:
    """What a restore paused and nobody has reviewed yet."""
    query = text("SELECT value FROM setting WHERE tenant = :tenant AND key = :key")
    row = c.execute(query, {"tenant": TENANT, "key": SETTING}).first()
    try:
        found = json.loads(row[0]) if row else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def keep(c: Connection, state: dict[str, Any] | None, now: int) -> None:
    """Set or forget the review's state."""
    mine = {"tenant": TENANT, "key": SETTING}
    c.execute(text("DELETE FROM setting WHERE tenant = :tenant AND key = :key"), mine)
    if state is not None:
        insert = "INSERT INTO setting (tenant, key, value, updated_at) VALUES (:tenant, :key, :value, :now)"
        c.execute(text(insert), {**mine, "value": json.dumps(state), "now": now})
