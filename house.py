"""Builds every part of the process and ties them, in order. No logic: each part owns its own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping, Sequence
from functools import partial

from agent.acting import Acting
from agent.actions import ChatActions
from agent.aside import Answer, Aside
from agent.loop import AgentLoop
from agent.memory.parts import MemoryParts, build_parts
from agent.models.actions import ModelActions
from agent.models.breaker import Breaker
from agent.models.cache import AnswerCache
from agent.models.chain import answer
from agent.models.provider import read_entry as read_provider
from agent.models.router import ModelRouter
from agent.models.usage import Spending
from agent.models.usage_actions import UsageActions
from agent.recollection import Recollection
from agent.schedules.parts import ScheduleParts, build_schedules
from agent.summaries import Summaries
from agent.talks import TalkActions
from agent.tasks import TaskActions
from agent.tools.base import Toolbox
from agent.tools.fetch import fetch_tool
from agent.tools.files import file_tools
from agent.tools.message import message_tool
from agent.tools.now import time_tool
from agent.tools.plan import plan_tool
from agent.tools.post import post_tool
from agent.tools.recollection import recall_tool, remember_tool
from agent.tools.schedule import SCHEDULE_TOOLS, ScheduleTools
from agent.trace import TraceActions
from channels.actions import BotActions
from channels.bot_entry import read_entry as read_bot
from channels.callbacks import Callbacks
from channels.decisions import Decisions
from channels.files import WorkspaceFiles
from channels.homes import BotHomes
from channels.intake import Intake, WithAttachments
from channels.messages import MessageActions
from channels.pushes import Pushes
from channels.registry import Bots
from channels.sender import Sender
from channels.standing import MayTalk
from channels.streaming import Streaming
from channels.targets import address_of
from channels.webhook.actions import HookActions
from channels.webhook.receiver import HookReceiver
from routes.event_parts import EventParts
from routes.eyes import Eyes
from routes.hot import Readiness
from security.account import AccountActions
from security.addresses import Addresses
from security.audit_view import AuditActions
from security.backup_rows import facts as backup_facts
from security.bearer import Bearer
from security.checklist import ChecklistActions
from security.egress_client import EgressClient
from security.exposure import Exposure, record_exposure
from security.gate import Gate
from security.guessing import Guessing
from security.keys import KeyActions
from security.outgoing import Outgoing
from security.passwords import Passwords
from security.people import PeopleActions
from security.probes.facts import Door, Facts
from security.probes.layers import CHECKS
from security.safekeeping import Safekeeping
from security.sessions import Sessions
from security.setup import Setup
from security.sign_in import SignIn
from security.step_up import StepUp
from security.tokens import Tokens
from storage.approvals import Approvals
from storage.audit import Audit, audit_key, guard
from storage.background import Background
from storage.clock import Clock
from storage.crash import CrashPoints
from storage.follow import Follow
from storage.ledger import Ledger
from storage.outbox import Outbox
from storage.principal import SYSTEM
from storage.provision import ConfigFile, Provisioning, each
from storage.rotation import read_master_key
from storage.runner import Runner
from storage.settings import Settings
from storage.sharing import open_sharing
from storage.vault import Vault
from storage.words import Words

DRAIN_SECONDS, LOOK_SECONDS = 8.0, 3.0


class House:
    """Every part of the process, built in order. Nothing runs until `start`."""

    def __init__(
        self,
        settings: Settings,
        *,
        words: Words,
        environ: Mapping[str, str],
        exposure: Exposure,
        port: int = 0,
        serving: bool = True,
    ) -> None:
        self.settings, self.words, self.exposure = settings, words, exposure
        self.port = port or settings.port
        self.clock, self.background = Clock(), Background()
        self.sharing = open_sharing(settings, self.background)
        self.db, self.live, self.follow = self.sharing.db, self.sharing.live, Follow(self.sharing.bus, self.background)
        with self.db.reader.connect() as c:
            key = read_master_key(settings.master_key_file, c)
            self.vault = Vault(key, self.clock, source=str(settings.master_key_file))
            self.vault.check(c)
            self.audit = Audit(self.clock, audit_key(c, self.vault))
        self.egress = EgressClient(allow_local_vendors=settings.allow_local_vendors)
        db, clock, vault, audit = self.db, self.clock, self.vault, self.audit

        # security
        self.passwords, self.guessing = Passwords(), Guessing(clock)
        self.sessions = Sessions(db, clock)
        self.addresses = Addresses(db, clock, audit, hosts=settings.hosts, proxies=settings.proxies)
        self.outgoing = Outgoing(db, clock, audit, self.egress)
        self.sign_in = SignIn(db, clock, vault, audit, self.passwords, self.guessing, self.sessions)
        self.setup = Setup(
            db, clock, audit, self.passwords, self.guessing, self.sessions, fixed_code=settings.setup_code
        )
        self.account = AccountActions(
            db=db,
            vault=vault,
            audit=audit,
            clock=clock,
            passwords=self.passwords,
            guessing=self.guessing,
            sessions=self.sessions,
            sign_in=self.sign_in,
        )
        self.step_up = StepUp(
            db=db,
            clock=clock,
            audit=audit,
            passwords=self.passwords,
            guessing=self.guessing,
            sessions=self.sessions,
            sign_in=self.sign_in,
        )
        self.people = PeopleActions(
            db=db,
            vault=vault,
            audit=audit,
            clock=clock,
            passwords=self.passwords,
            sessions=self.sessions,
            step_up=self.step_up,
        )
        self.gate = Gate(
            sessions=self.sessions, setup=self.setup, addresses=self.addresses, background=self.background, clock=clock
        )

        # the ledger, and who fills and empties it
        self.ledger = Ledger(db, clock, CrashPoints(settings.crash_at))
        self.outbox = Outbox(self.ledger)
        self.files = WorkspaceFiles(root=settings.files_dir)
        approvals = Approvals(self.ledger, audit)
        decisions = Decisions(approvals=approvals, outbox=self.outbox, words=words)
        self.bots = Bots(
            db=db,
            vault=vault,
            clock=clock,
            egress=self.egress,
            ledger=self.ledger,
            background=self.background,
            live=self.live,
            words=words,
            local=settings.allow_local_vendors,
            clicked=decisions.clicked,
            spoken=decisions.spoken,
            read=self.files.read,
        )
        decisions.config = self.bots.config
        self.sender = Sender(
            outbox=self.outbox, bots=self.bots, background=self.background, clock=clock, live=self.live
        )
        self.homes: BotHomes | None = None
        if not self.sharing.alone:
            leases, bus = self.sharing.leases, self.sharing.bus
            self.homes = BotHomes(db, self.bots, self.sender, leases, bus, self.follow, self.background)
        self.ledger.on_deliveries = self.sender.submit if self.homes is None else self.homes.submit
        find = self.bots.channel if self.homes is None else self.homes.channel
        self.streaming = Streaming(db, self.live, self.background, find, self.bots.any_streams)
        self.bot_actions = BotActions(db=db, vault=vault, audit=audit, clock=clock, bots=self.bots)
        self.receiver = HookReceiver(db, vault, clock, self.ledger)
        self.hook_actions = HookActions(db, vault, audit, clock, self.receiver)

        # the agent
        self.breaker = Breaker(clock)
        self.router = ModelRouter(db=db, vault=vault, egress=self.egress, clock=clock, words=words)
        self.spending = Spending(db=db, clock=clock, background=self.background, limits=self.router.limits)
        self.cache = AnswerCache(clock, self.router.caches)
        self.models = ModelActions(
            db=db, vault=vault, audit=audit, clock=clock, router=self.router, breaker=self.breaker, words=words
        )
        self.usage = UsageActions(db=db, audit=audit, clock=clock, router=self.router, spending=self.spending)
        ask = partial(answer, clock=clock, breaker=self.breaker, spending=self.spending, cache=self.cache)
        aside = Aside(self.router, ask)
        self.memory: MemoryParts | None = None
        recollection: Recollection | None = None
        if settings.embedder != "off":
            self.memory = build_parts(
                db=db,
                clock=clock,
                background=self.background,
                audit=audit,
                words=words,
                ask=aside,
                index_dir=settings.index_dir,
                files_dir=settings.files_dir,
                embedder=settings.embedder,
            )
            self.memory.forgetter.on_forgotten.append(self.cache.clear)
            recollection = Recollection(self.memory.store, self.memory.said, self.memory.extractor)
        tools = [time_tool(clock), plan_tool(), fetch_tool(self.egress), *file_tools()]
        tools += [message_tool(Pushes(bots=self.bots).send), post_tool(self.egress)]
        if self.memory is not None:
            tools += [remember_tool(self.memory.store, clock), recall_tool(self.memory.store, clock)]
        tools += ScheduleTools(lambda: self.schedules.actions, words).tools()
        self.acting = Acting(approvals=approvals, words=words, tools=tools)
        self.loop = AgentLoop(
            router=self.router,
            answer=ask,
            toolbox=self.acting.toolbox,
            words=words,
            files_dir=settings.files_dir,
            recollection=recollection,
            summaries=Summaries(db, self.background, aside),
            permission=self.acting.permission,
        )
        handler = WithAttachments(intake=Intake(db=db, bots=self.bots, files=self.files), inner=self.loop)
        self.runner = Runner(self.ledger, self.live, {"message": handler})
        self.runner.on_started.append(self.streaming.begun)
        self.schedules = self._scheduled(ask)
        self.runner.handlers["schedule"] = self.schedules.handler
        self.dispatcher = self.sharing.dispatcher(self.ledger, self.runner, self.background)
        self.chat = ChatActions(db=db, ledger=self.ledger, live=self.live, runner=self.runner, clock=clock, words=words)
        self.trace = TraceActions(
            db=db,
            ledger=self.ledger,
            outbox=self.outbox,
            runner=self.runner,
            live=self.live,
            clock=clock,
            words=words,
        )
        self.provisioning = Provisioning(
            settings.config_dir,
            (
                ConfigFile(name="llm.yaml", key="providers", apply=self._providers),
                ConfigFile(name="channels.yaml", key="channels", apply=self._channels),
                ConfigFile(name="scheduler.yaml", key="jobs", apply=self.schedules.provide),
            ),
            environ,
            alone=self.sharing.alone,
        )
        self.readiness = Readiness(db)
        self.checks = ChecklistActions(
            db,
            audit,
            clock,
            CHECKS,
            Facts(
                settings=settings,
                exposure=exposure,
                door=Door(host=settings.host, port=self.port, tls=settings.tls_cert is not None),
                db=db,
                clock=clock,
                vault=vault,
                audit=audit,
                addresses=self.addresses,
                egress=self.egress,
                passwords=self.passwords,
                guessing=self.guessing,
                sessions=self.sessions,
                setup=self.setup,
                attested=lambda name: self.checks.attested(name),
                backup=partial(db.read, backup_facts) if self.sharing.alone else None,
                anchor=lambda c: self.keeping.anchor.check(c).state,
            ),
        )
        self._kept()
        self.told = EventParts(
            ledger=self.ledger,
            outbox=self.outbox,
            bots=self.bots,
            audit=audit,
            guessing=self.guessing,
            checks=self.checks,
            spending=self.spending,
            router=self.router,
            background=self.background,
            words=words,
        )
        self.schedules.join(self.ledger)
        self._remote()
        self.eyes = self._seen(serving=serving)
        self._follow()

    def _scheduled(self, ask: Answer) -> ScheduleParts:
        """Schedules. Their prompts are answered without anybody's memory: they are nobody's conversation."""
        loop = AgentLoop(
            router=self.router,
            answer=ask,
            toolbox=Toolbox([tool for tool in self.acting.toolbox.all() if tool.name not in SCHEDULE_TOOLS]),
            words=self.words,
            files_dir=self.settings.files_dir,
            permission=self.acting.permission,
        )
        return build_schedules(
            db=self.db,
            clock=self.clock,
            vault=self.vault,
            audit=self.audit,
            words=self.words,
            background=self.background,
            ledger=self.ledger,
            outbox=self.outbox,
            runner=self.runner,
            egress=self.egress,
            loop=loop,
            router=self.router,
            answer=ask,
            address_of=address_of,
            may_talk=MayTalk(bots=self.bots),
            folder=self.settings.data / "jobs",
            hidden=(self.settings.data, self.settings.master_key_file.parent),
        )

    def _follow(self) -> None:
        """What this process keeps in memory follows what others write. Alone there is nobody to follow."""
        follow = self.follow.tables
        follow("sessions", ("session", "user"), self.sessions.sweep)
        follow("addresses", ("setting",), self.addresses.load)
        follow("tools", ("toolpolicy",), self.acting.policies.load)
        follow("events", ("eventtemplate",), self.told.events.reload)
        follow("models", ("provider", "setting", "secret"), self.router.reload)
        follow("checklist", ("setting",), self.checks.load)
        follow("scrape token", ("setting",), self.eyes.scrape_token.load)
        if (memory := self.memory) is not None:
            for table in ("memory", "memory_vector"):
                self.sharing.bus.hear_rows(table, lambda which: memory.store.changed_elsewhere(int(which)))

    def _kept(self) -> None:
        """Backups, the audit log's anchor, the master key's rotation, and who looks after them."""
        self.keeping = Safekeeping(
            settings=self.settings,
            db=self.db,
            vault=self.vault,
            audit=self.audit,
            clock=self.clock,
            egress=self.egress,
            step_up=self.step_up,
            background=self.background,
            checks=self.checks,
            resumed=self._resumed,
            alone=self.sharing.alone,
        )

    async def _resumed(self) -> None:
        """What a restore had paused may act again."""
        for row in await self.bot_actions.list(SYSTEM):
            await self.bots.reload(SYSTEM.tenant, row.name)
        self.schedules.actions.changed()

    def _remote(self) -> None:
        """What other programs use: tasks, conversations, messages, keys; and who calls back at a task's end."""
        db, clock = self.db, self.clock
        self.messages = MessageActions(db=db, audit=self.audit, clock=clock, outbox=self.outbox)
        self.tasks = TaskActions(
            db=db,
            vault=self.vault,
            clock=clock,
            ledger=self.ledger,
            runner=self.runner,
            live=self.live,
            words=self.words,
            destination=self.messages.place,
            models=lambda tenant: [choice.ref for choice in self.router.choices(tenant)],
        )
        self.talks = TalkActions(self.tasks)
        self.callbacks = Callbacks(
            db=db,
            vault=self.vault,
            clock=clock,
            egress=self.egress,
            background=self.background,
            told=self.tasks.told,
        )
        self.tasks.on_callback = self.callbacks.wake
        self.runner.on_ended.append(lambda job, ending: self.callbacks.wake())
        self.keys = KeyActions(db=db, audit=self.audit, clock=clock, step_up=self.step_up)
        self.tokens = Tokens(self.sign_in, self.sessions, self.vault, clock)
        self.bearer = Bearer(db, clock, self.tokens)
        self.audit_view = AuditActions(db=db, audit=self.audit, anchor=self.keeping.anchor)

    def _seen(self, *, serving: bool) -> Eyes:
        """Metrics, health tests and what else shows how the process does."""
        eyes = Eyes(
            facts=self.checks.facts,
            background=self.background,
            words=self.words,
            serving=serving,
            models=self.models,
            memory=self.memory.store if self.memory is not None else None,
            bots=self.bot_actions,
            files=self.provisioning,
            runner=self.runner,
            sender=self.sender,
            spending=self.spending,
            readiness=self.readiness,
            checks=self.checks,
        )
        self.schedules.clockwork.late = eyes.metrics.schedule_lateness.observe
        return eyes

    async def _providers(self, file: str, entries: Sequence[Mapping[str, object]]) -> None:
        await self.models.provision(file, each(file, entries, read_provider))

    async def _channels(self, file: str, entries: Sequence[Mapping[str, object]]) -> None:
        changed = await self.bot_actions.provision(file, each(file, entries, read_bot))
        if self.readiness.started:  # before, all bots are started together
            for name in changed:
                await self.bots.reload(SYSTEM.tenant, name)

    async def start(self) -> str:
        """Start all parts, those first on which others depend. Returns the one-time setup code, if one is needed."""
        await self.sharing.bus.start()
        await self.db.write(guard)
        await record_exposure(self.db, self.audit, self.clock, self.exposure)
        await self.checks.load()
        await self.eyes.load()
        await self.sessions.load()
        await self.addresses.load()
        await self.outgoing.load()
        await self.router.reload()
        await self.acting.start(self.background)
        await self.provisioning.look()
        if self.memory is not None:
            await self.memory.start()
        await self.bots.start()
        self.streaming.start()
        if self.homes is None:
            await self.sender.start()
        else:
            await self.homes.start()
            await self.sharing.leases.start()
        await self.told.start()
        await self.dispatcher.start()
        self.callbacks.start()
        self.schedules.clockwork.start()
        self.gate.start()
        await self.eyes.listener.start()
        _ = self.background.spawn("config files", self._look())
        await self.keeping.upkeep.start()
        code = await self.setup.start()
        self.readiness.started = True
        gc.collect()
        gc.freeze()  # what lives as long as the process is not looked at again
        return code

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.provisioning.look()

    async def stop(self) -> None:
        """Take nothing new, let what runs end within bounds, write what waits."""
        self.readiness.started = False
        await self.eyes.stop()
        self.schedules.clockwork.stop()
        await self.dispatcher.stop(DRAIN_SECONDS)
        await self.told.stop()
        if self.homes is not None:
            await self.homes.stop()
        await self.sender.stop()
        self.streaming.stop()
        await self.bots.stop()
        await self.spending.flush()
        if self.memory is not None:
            await self.memory.stop()
        await self.keeping.upkeep.stop()
        await self.sharing.leases.stop()
        await self.sharing.bus.stop()
        await self.background.stop()
        await self.egress.close()
        self.db.close()
