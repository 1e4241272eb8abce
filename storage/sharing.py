"""What a process works on: its own SQLite, or a PostgreSQL that it shares with others. Chosen once, at start."""

from __future__ import annotations

from dataclasses import dataclass

from storage.background import Background
from storage.bus import Bus, SharedBus
from storage.database import SqliteDatabase
from storage.dispatch import LocalDispatcher
from storage.leases import AlwaysGranted, Leases, SharedLeases
from storage.ledger import Ledger
from storage.live import Live
from storage.postgres import PostgresDatabase
from storage.runner import Runner
from storage.settings import Settings
from storage.shared_dispatch import SharedDispatcher
from storage.shared_live import SharedLive


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharing:
    """The parts that differ. `alone` is True on SQLite."""

    db: SqliteDatabase | PostgresDatabase
    bus: Bus
    leases: Leases
    live: Live
    alone: bool

    def dispatcher(self, ledger: Ledger, runner: Runner, background: Background) -> LocalDispatcher | SharedDispatcher:
        """Who runs the next job, tied to the ledger."""
        made: LocalDispatcher | SharedDispatcher
        if isinstance(self.db, PostgresDatabase):
            made = SharedDispatcher(ledger, runner, background, self.db, self.bus)
            ledger.enlist = made.enlist
        else:
            made = LocalDispatcher(ledger, runner, background)
        ledger.on_job = made.submit
        return made


def open_sharing(settings: Settings, background: Background) -> Sharing:
    """Open the database that the settings name. `storage.migrate.prepare` has made its tables.

    Raises:
        Invalid: `start.database_url`. Unavailable: `start.no_postgres_driver`.
    """
    if not settings.database_url:
        return Sharing(db=SqliteDatabase(settings.db_file), bus=Bus(), leases=AlwaysGranted(), live=Live(), alone=True)
    db = PostgresDatabase(settings.database_url)
    bus = SharedBus(db.conninfo, db.origin, background)
    leases = SharedLeases(db, db.origin, background, bus)
    return Sharing(db=db, bus=bus, leases=leases, live=SharedLive(bus), alone=False)
