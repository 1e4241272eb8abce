"""Replacing the master key from the panel, while everything runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from security.step_up import StepUp
from storage import rotation
from storage.audit import Audit
from storage.crash import CrashPoints
from storage.database import Database
from storage.errors import AppError
from storage.principal import Principal
from storage.vault import Vault


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRotation:
    """Right: server.manage, freshly proved."""

    db: Database
    vault: Vault
    audit: Audit
    step_up: StepUp
    path: Path
    crash: CrashPoints

    async def rotate(self, who: Principal) -> int:
        """Make a new master key and seal everything with it, in one transaction. Old backups hold their own key.

        Returns:
            How many secrets were sealed anew.

        Raises:
            Unavailable: `vault.key_unwritable`, `vault.damaged`; the old key stays.
        """
        who.require("server.manage")
        self.step_up.require(who)
        old, key = self.vault.key, await asyncio.to_thread(rotation.begin, self.path)
        self.crash.reached("rotate.written")

        def run(c: Connection) -> int:
            before = self.vault.key_id
            count = rotation.reseal(c, self.vault, key)
            after = {"key": self.vault.key_id, "secrets": count}
            self.audit.record(c, who, "vault.rotate", "master key", before={"key": before}, after=after)
            return count

        try:
            count = await self.db.write(run)
        except (AppError, SQLAlchemyError, OSError, ValueError):
            # the database alone knows whether it was committed after all; a start would ask it the same
            self.vault.use(old)
            await self.db.read(lambda c: rotation.settle(self.path, c))
            raise
        self.crash.reached("rotate.sealed")
        await asyncio.to_thread(rotation.end, self.path)
        self.crash.reached("rotate.replaced")
        return count
