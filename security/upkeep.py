"""What is looked after by night, after a change, and from minute to minute."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from security.backup_plan import due
from security.backups import BackupActions
from security.checklist import ChecklistActions
from storage.anchor import Anchor
from storage.audit import Audit
from storage.clock import Clock
from storage.clockwork import Clockwork
from storage.database import Database
from storage.errors import Conflict
from storage.principal import SYSTEM, TENANT
from storage.reserve import Reserve
from storage.tables.system import Setting

log = logging.getLogger(__name__)
setting_t = Setting.__table__  # type: ignore[attr-defined]
STORE = "upkeep.nightly"
NIGHT = "04:15"
# After acts on these nouns the checklist is run again, once things have been quiet for a moment.
NOUNS = ("account", "backup", "bot", "hook", "key", "model", "security", "server", "setting", "user", "vault")
QUIET_MS = 5_000


@dataclass(kw_only=True)
class Upkeep:
    """Ties the clockwork to backups, checklist and audit log.

    Attributes:
        backups: None where the database is not ours to back up.
    """

    db: Database
    clock: Clock
    audit: Audit
    clockwork: Clockwork
    checks: ChecklistActions[Any]
    anchor: Anchor
    backups: BackupActions | None
    reserve: Reserve

    def __post_init__(self) -> None:
        self._changed, self._little = 0, False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Begin. Call it last, when everything else stands."""
        self._loop = asyncio.get_running_loop()
        self.audit.on_record = self._recorded
        await self.anchor.start()
        if self.backups is not None:
            await self.backups.load()
            self.clockwork.every(60, "backups", self.backups.tick)
        self.clockwork.every(1, "anchor", self.anchor.note)
        self.clockwork.every(10, "room", self.room)
        self.clockwork.every(2, "checklist after a change", self.after_change)
        self.clockwork.every(60, "checklist by night", self.nightly)
        self.clockwork.start()
        if not any(self.checks.snapshot_times().values()):
            self._changed = self.clock.ms()  # nobody has looked yet: soon after the first start somebody does

    async def stop(self) -> None:
        """The last entries are noted too."""
        self.audit.on_record = lambda _: None
        await self.anchor.note()
        if self.backups is not None:
            await asyncio.to_thread(self.backups.close)

    def _recorded(self, action: str) -> None:
        """In the writer's thread."""
        loop = self._loop
        if loop is not None and action.partition(".")[0] in NOUNS and not loop.is_closed():
            loop.call_soon_threadsafe(self._mark)

    def _mark(self) -> None:
        self._changed = self.clock.ms()

    async def after_change(self) -> None:
        """Probe again after a change, without what takes long."""
        if not self._changed or self.clock.ms() - self._changed < QUIET_MS:
            return
        self._changed = 0
        try:
            await self.checks.run(SYSTEM)
        except Conflict:
            self._mark()  # somebody is at it: after them once more

    async def room(self) -> None:
        """Little room on the disk is told at once, not by night; at its end the reserve is given back."""
        little = await asyncio.to_thread(self.reserve.look)
        if little != self._little:
            self._little = little
            await self.checks.run(SYSTEM, ["data.space"])

    async def nightly(self) -> None:
        """Probe everything once a night, or as soon as the machine is on again."""
        last = await self.db.read(_last)
        if last == 0:  # the first night is still to come; the quick run after the start is enough until then
            await self.db.write(self._done)
            return
        if not due(NIGHT, last, self.clock.now()):
            return
        await self.db.write(self._done)
        try:
            await self.checks.nightly()
        except Conflict:
            log.info("the checklist was just being run")

    def _done(self, c: Connection) -> None:
        now = self.clock.ms()
        c.execute(delete(setting_t).where(setting_t.c.tenant == TENANT, setting_t.c.key == STORE))
        c.execute(insert(setting_t).values(tenant=TENANT, key=STORE, value=json.dumps(now), updated_at=now))


def _last(c: Connection) -> int:
    query = select(setting_t.c.value).where(setting_t.c.tenant == TENANT, setting_t.c.key == STORE)
    text = str(c.execute(query).scalar() or "0")
    return int(text) if text.isdigit() else 0
