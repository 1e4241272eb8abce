"""The keeping parts, built together: backups, what follows a restore, the audit log's anchor, key rotation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from security.audit_export import AuditExport
from security.backup_settings import BackupSettings
from security.backups import BackupActions
from security.checklist import ChecklistActions
from security.egress import Egress
from security.key_rotation import KeyRotation
from security.restored import RestoredActions
from security.step_up import StepUp
from security.upkeep import Upkeep
from storage.anchor import Anchor
from storage.audit import Audit
from storage.background import Background
from storage.clock import Clock
from storage.clockwork import Clockwork
from storage.crash import CrashPoints
from storage.database import Database
from storage.reserve import Reserve
from storage.settings import Settings
from storage.vault import Vault


class Safekeeping:
    """All of them on one database.

    Args:
        resumed: makes bots act again that a restore had paused.
        alone: the database is ours alone, a file: else its owner backs it up.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        db: Database,
        vault: Vault,
        audit: Audit,
        clock: Clock,
        egress: Egress,
        step_up: StepUp,
        background: Background,
        checks: ChecklistActions[Any],
        resumed: Callable[[], Awaitable[None]],
        alone: bool = True,
    ) -> None:
        self.anchor = Anchor(settings, db, clock, audit)
        self.backups = BackupActions(
            settings=settings,
            db=db,
            vault=vault,
            audit=audit,
            clock=clock,
            egress=egress,
            step_up=step_up,
            alone=alone,
        )
        self.backup_settings = BackupSettings(
            db=db,
            vault=vault,
            audit=audit,
            clock=clock,
            egress=egress,
            step_up=step_up,
            folder=settings.backups_dir,
            data=settings.data,
        )
        self.restored = RestoredActions(db=db, audit=audit, clock=clock, step_up=step_up, resumed=resumed)
        self.export = AuditExport(db=db, audit=audit, clock=clock, folder=settings.data / ".exports")
        self.rotation = KeyRotation(
            db=db,
            vault=vault,
            audit=audit,
            step_up=step_up,
            path=settings.master_key_file,
            crash=CrashPoints(settings.crash_at),
        )
        self.upkeep = Upkeep(
            db=db,
            clock=clock,
            audit=audit,
            clockwork=Clockwork(background),
            checks=checks,
            anchor=self.anchor,
            backups=self.backups if alone else None,
            reserve=Reserve(settings.data),
        )
