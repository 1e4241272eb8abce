"""Builds what tells bots of events from the house's parts, and ties each source to its part."""

from __future__ import annotations

from typing import Any

from agent.models.budget_watch import BudgetWatch
from agent.models.router import ModelRouter
from agent.models.usage import Spending
from channels.event_actions import EventActions
from channels.event_sources import EventSources
from channels.events import Events
from channels.message_log import LogActions
from channels.registry import Bots
from security.checklist import ChecklistActions
from security.guessing import Guessing
from storage.audit import Audit
from storage.background import Background
from storage.ledger import Ledger
from storage.outbox import Outbox
from storage.words import Words


class EventParts:
    """`events`, their `actions`, their `sources`, and the `log` of messages."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        outbox: Outbox,
        bots: Bots,
        audit: Audit,
        guessing: Guessing,
        checks: ChecklistActions[Any],
        spending: Spending,
        router: ModelRouter,
        background: Background,
        words: Words,
    ) -> None:
        db, clock = ledger.db, ledger.clock
        self.events = Events(db=db, clock=clock, ledger=ledger, bots=bots, background=background, words=words)
        self.log = LogActions(db=db, clock=clock, outbox=outbox)
        self.actions = EventActions(db=db, audit=audit, clock=clock, events=self.events)
        sources = self.sources = EventSources(self.events, bots)
        ledger.in_finish, ledger.in_dead_letter = sources.finished, sources.dead_letter
        audit.in_record, guessing.on_lock = sources.audited, sources.locked
        checks.on_change(lambda row, before: sources.checked(row.title, row.id, row.status))
        spending.in_write = BudgetWatch(clock, router.limits, sources.spent).written

    async def start(self) -> None:
        """Begin to tell: after the sender has begun, before jobs run."""
        await self.events.start()
        self.sources.start()

    async def stop(self) -> None:
        """Tell what was raised, then nothing more."""
        self.sources.stop()
        await self.events.stop()
