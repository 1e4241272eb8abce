"""The newest entry of the audit log, noted outside of the database: whoever cuts off the log's end is found out.

The note is one line of JSON with a MAC, beside the master key, or in the data folder where that place cannot be
written. It is renewed about a second after an entry, and it only ever moves forward.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from storage.audit import Audit, audit_t
from storage.clock import Clock
from storage.database import Database
from storage.principal import SYSTEM, Principal
from storage.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchored:
    """How the log fits the note.

    state: `ok`; `missing` (no note, but entries); `forged` (its MAC does not fit); `cut` (the noted entry is gone or
    another one); `empty` (no entries yet). `id` and `at` are the note's.
    """

    state: str
    id: int = 0
    at: int = 0


def anchor_files(settings: Settings) -> tuple[Path, Path]:
    """Where the note may lie: beside the key, named after the data folder; else in the data folder."""
    name = hashlib.sha256(str(settings.data.absolute()).encode()).hexdigest()[:12]
    return settings.master_key_file.with_name(f"audit-{name}.head"), settings.data / "audit.head"


class Anchor:
    """Writes and checks the note. Blocking file work happens in threads."""

    def __init__(self, settings: Settings, db: Database, clock: Clock, audit: Audit) -> None:
        self.db, self.clock, self.audit = db, clock, audit
        self.files = anchor_files(settings)
        self._noted = -1
        self._told = False

    @property
    def path(self) -> Path:
        """Where the note is, or will be."""
        beside, inside = self.files
        if beside.exists() or not inside.exists():
            return beside if beside.exists() or os.access(beside.parent, os.W_OK) else inside
        return inside

    def check(self, c: Connection) -> Anchored:
        """Compare the log with the note. For a reader's thread."""
        raw = _read(self.path)
        last = _last(c)
        if raw is None:
            return Anchored(state="missing" if last else "empty")
        text, mac = raw
        if not hmac.compare_digest(self.audit.seal(text).encode(), mac.encode()):
            return Anchored(state="forged")
        noted = json.loads(text)
        found = c.execute(select(audit_t.c.hash).where(audit_t.c.id == noted["id"])).scalar()
        state = "ok" if found == noted["hash"] else "cut"
        return Anchored(state=state, id=int(noted["id"]), at=int(noted["at"]))

    async def start(self) -> None:
        """Begin a note where there is none; the log says so, because removing the note is how one would hide a cut."""
        if (await self.db.read(self.check)).state == "missing":
            await self.renew(SYSTEM)
        await self.note()

    async def note(self) -> None:
        """Bring the note up to date if there are new entries. Cheap when there are none."""
        written = self.audit.written
        if written == self._noted:
            return
        state = (await self.db.read(self.check)).state
        if state in ("cut", "forged"):
            if not self._told:
                log.error("the audit log does not fit its anchor (%s): %s", state, self.path)
            self._told = True
            return
        await self._write()
        self._noted, self._told = written, False

    async def renew(self, who: Principal) -> None:
        """Begin anew from the log as it is now, after somebody has looked into why it does not fit. Recorded."""
        before = await self.db.read(self.check)
        told = {"state": before.state, "id": before.id}
        await self.db.write(lambda c: self.audit.record(c, who, "audit.anchor", self.path.name, before=told))
        await self._write()
        self._noted = self.audit.written

    async def _write(self) -> None:
        last = await self.db.read(_last)
        if last is None:
            return
        text = json.dumps({"id": last[0], "hash": last[1], "at": self.clock.ms()})
        await asyncio.to_thread(_replace, self.path, json.dumps([text, self.audit.seal(text)]))


def _last(c: Connection) -> tuple[int, str] | None:
    row = c.execute(select(audit_t.c.id, audit_t.c.hash).order_by(audit_t.c.id.desc()).limit(1)).first()
    return None if row is None else (int(row.id), str(row.hash))


def _read(path: Path) -> tuple[str, str] | None:
    """The note and its MAC; one that cannot be read counts as forged."""
    try:
        text, mac = json.loads(path.read_text("utf-8"))
        json.loads(text)
        return str(text), str(mac)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return "{}", ""


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        log.warning("the audit log's anchor could not be written: %s", error)
