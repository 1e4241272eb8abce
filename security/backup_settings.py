"""What an admin sets for backups: the recovery key, the plan, the other place."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from security.backup_plan import OWN, STORE_SECRET, Plan, read_plan, write_plan
from security.backup_target import Target, TargetSettings, place_of
from security.egress import Egress
from security.step_up import StepUp
from storage.audit import Audit
from storage.backup.key import new_key
from storage.clock import Clock
from storage.database import Database
from storage.errors import Unavailable
from storage.principal import TENANT, Principal
from storage.vault import Vault


@dataclass(frozen=True, kw_only=True, slots=True)
class BackupSettings:
    """Right: backup.manage. Key and place want a fresh proof (`step_up.needed`).

    Attributes:
        folder: where backups lie. data: the data folder.
    """

    db: Database
    vault: Vault
    audit: Audit
    clock: Clock
    egress: Egress
    step_up: StepUp
    folder: Path
    data: Path

    async def make_key(self, who: Principal) -> str:
        """Make the recovery key; older backups stay readable with the one they were made for.

        Returns:
            The key. It is shown this once and kept nowhere: only its public half stays here.
        """
        self._may(who)
        key, public = await asyncio.to_thread(new_key)
        own, _ = await asyncio.to_thread(new_key)
        now = self.clock.ms()

        def run(c: Connection) -> None:
            plan = read_plan(c)
            if self.vault.open(c, TENANT, OWN) is None:
                self.vault.seal(c, TENANT, OWN, own)
            write_plan(c, replace(plan, recipient=public, key_at=now), now)
            before = {"public": plan.recipient} if plan.recipient else None
            self.audit.record(c, who, "backup.key", "backup", before=before, after={"public": public})

        await self.db.write(run)
        return key

    async def set_plan(self, who: Principal, *, at: str, daily: int, weekly: int, monthly: int) -> None:
        """Set when, and how many are kept.

        Raises:
            Invalid: `backup.time`, `backup.keep`.
        """
        who.require("backup.manage")

        def run(c: Connection) -> None:
            old = read_plan(c)
            new = replace(old, at=at, daily=daily, weekly=weekly, monthly=monthly).checked()
            write_plan(c, new, self.clock.ms())
            self.audit.record(c, who, "backup.plan", "backup", before=_told(old), after=_told(new))

        await self.db.write(run)

    async def set_target(self, who: Principal, target: TargetSettings, secret: str = "") -> None:
        """Set the other place, after it was tried out.

        Args:
            secret: of the store; empty keeps the one that is there.

        Raises:
            Invalid: what `TargetSettings.checked` says. Unavailable: the trial failed.
        """
        self._may(who)
        target.checked()
        had = None if secret else await self.db.read(lambda c: self.vault.open(c, TENANT, STORE_SECRET))
        kept_secret = secret or had or ""
        place = place_of(target, kept_secret, data=self.data, egress=self.egress, clock=self.clock)
        if place is not None:
            await self._try(place)

        def run(c: Connection) -> None:
            old = read_plan(c)
            write_plan(c, replace(old, target=target), self.clock.ms())
            if secret:
                self.vault.seal(c, TENANT, STORE_SECRET, secret)
            if target.kind != "s3":
                self.vault.remove(c, TENANT, STORE_SECRET)
            before, after = _told(old)["target"], _told(replace(old, target=target))["target"]
            self.audit.record(c, who, "backup.target", "backup", before=before, after=after)

        await self.db.write(run)

    async def _try(self, place: Target) -> None:
        """A small file there and away again."""
        name = self.clock.now().strftime("zhixing-%Y%m%d-%H%M%S-0.age")
        path = self.folder / name

        def make() -> None:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_bytes(b"a trial, to be removed at once\n")

        await asyncio.to_thread(make)
        try:
            await place.put(path)
            await place.remove(name)
        except OSError as error:
            raise Unavailable("backup.folder", path=str(path), reason=error.strerror or "") from error
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    def _may(self, who: Principal) -> None:
        who.require("backup.manage")
        self.step_up.require(who)


def _told(plan: Plan) -> dict[str, Any]:
    """For the audit log: a plan holds no secret."""
    t = plan.target
    where = {"folder": t.path, "s3": f"{t.endpoint}/{t.bucket}/{t.prefix}"}.get(t.kind, "")
    return {
        "at": plan.at,
        "keep": [plan.daily, plan.weekly, plan.monthly],
        "target": {"kind": t.kind, "where": where},
    }
