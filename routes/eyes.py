"""Builds metrics, health tests, symptoms and support bundle from the house's parts, in one place beside the house."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from agent.figures import FigureActions
from agent.health import AgentHealth
from agent.memory.store import MemoryStore
from agent.models.actions import ModelActions
from agent.models.usage import Spending
from agent.symptoms.actions import SymptomActions
from agent.symptoms.case import BotCase
from channels.actions import BotActions, BotRow
from channels.health import BotHealth
from channels.sender import Sender
from routes.hot import Readiness
from routes.measured import Lookups, measure
from routes.metrics import MetricsListener
from security.bundle import BundleActions, files_told
from security.checklist import ChecklistActions
from security.health.actions import HealthActions
from security.health.data import data_tests
from security.health.echo import Echo
from security.health.machine import machine_tests
from security.health.network import network_tests
from security.health.queue import Day, Queue, queue_tests
from security.health.site import Ports, Remote, Site
from security.logbook import LogbookActions
from security.probes.facts import Facts
from security.scrape import ScrapeToken
from storage.background import Background
from storage.metrics import LogCounter, Metrics
from storage.principal import SYSTEM
from storage.provision import Provisioning
from storage.runner import Runner
from storage.settings import VERSION
from storage.words import Words


class Eyes:
    """How the process is seen: `metrics` and who serves them, `health`, `symptoms`, `figures`, `logbook`, `bundles`.

    Args:
        serving: False in `doctor`.
    """

    def __init__(
        self,
        *,
        facts: Facts,
        background: Background,
        words: Words,
        serving: bool,
        models: ModelActions,
        memory: MemoryStore | None,
        bots: BotActions,
        files: Provisioning,
        runner: Runner,
        sender: Sender,
        spending: Spending,
        readiness: Readiness,
        checks: ChecklistActions[Facts],
    ) -> None:
        self.metrics = Metrics(facts.clock, VERSION)
        self.scrape_token = ScrapeToken(facts.db, facts.clock, facts.audit)
        self._counter = LogCounter(self.metrics)
        port = facts.settings.metrics_port
        self.listener = listener = MetricsListener(self.metrics, background, facts.addresses, port)
        ledger, outbox = runner.ledger, sender.outbox
        measure(self.metrics, ledger=ledger, runner=runner, sender=sender, spending=spending, bots=bots.bots)
        Lookups(
            db=facts.db,
            clock=facts.clock,
            running=lambda: len(runner.running),
            ready=readiness.reasons,
            checks=checks.snapshot,
            health=lambda: self.health.snapshot(),
        ).join(self.metrics)
        db, clock = facts.db, facts.clock
        self.echo = Echo(facts.vault.derive("health echo"), clock)
        self.figures = FigureActions(db=db, clock=clock)
        agent = AgentHealth(db=db, clock=clock, models=models, breaker=models.breaker, memory=memory)
        bot = BotHealth(actions=bots, public=lambda: site.public)

        async def remotes() -> Sequence[Remote]:
            return [*await agent.remotes(), *await bot.remotes()]

        async def day() -> Day:
            found = await self.figures.figures(SYSTEM)
            worst = found.reasons[0][0] if found.reasons else ""
            return Day(done=found.done, failed=found.failed, own_ms=found.own_mean, worst=worst)

        site = Site(
            facts=facts,
            echo=self.echo,
            serving=serving,
            remotes=remotes,
            called=bot.called,
            ports=lambda: Ports(metrics=listener.port, listening=listener.listening, refusal=listener.refusal),
            reopen=listener.start,
            files=lambda: files.states,
        )
        self.health = HealthActions(
            db=db,
            audit=facts.audit,
            clock=clock,
            background=background,
            serving=serving,
            tests=[
                *machine_tests(site),
                *network_tests(site),
                *data_tests(facts),
                *queue_tests(Queue(db=db, clock=clock, day=day, again=outbox.again)),
                *agent.tests(),
                *bot.tests(),
            ],
        )

        async def pulses(_tenant: str) -> list[BotCase]:
            return [_pulse(row) for row in await bots.list(SYSTEM)]

        self.ports = site.ports
        self.logbook = LogbookActions(folder=facts.settings.logs_dir)
        self.symptoms = SymptomActions(db=db, clock=clock, bots=pulses)

        async def metrics() -> object:
            return (await listener.metrics.exposition()).decode()

        async def told() -> object:
            return files_told(files.states)

        self.bundles = BundleActions(
            settings=facts.settings,
            db=db,
            audit=facts.audit,
            clock=clock,
            words=words,
            health=self.health,
            parts={"metrics.txt": metrics, "files.json": told},
        )

    async def load(self) -> None:
        """Read what is kept, and begin to count log records."""
        logging.getLogger().addHandler(self._counter)
        await self.scrape_token.load()
        await self.health.load()

    async def stop(self) -> None:
        """Let go of the metrics port and of the log."""
        logging.getLogger().removeHandler(self._counter)
        await self.listener.stop()


def _pulse(row: BotRow) -> BotCase:
    return BotCase(
        name=row.name,
        type=row.type,
        called=bool(row.callback),
        paused=row.paused,
        connection=row.connection,
        last_in=row.last_in,
        last_error=row.last_error,
        last_error_at=row.last_error_at,
        params=row.error_params,
    )
