"""知行 Zhixing: reads settings, builds every part, ties them, serves. `python app.py [serve|doctor|…]`."""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever brings their own Python is told, not shown a trace
    sys.exit("知行需要 Python 3.11 或更新版本。 / Zhixing needs Python 3.11 or newer.")

import argparse
import asyncio
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from sqlalchemy import func, select

from agent.actions import ChatActions
from agent.attachments import Attachments
from agent.loop import AgentLoop
from agent.memory.store import build_memory
from agent.models.actions import ModelActions
from agent.models.breaker import Breaker
from agent.models.cache import AnswerCache
from agent.models.chain import answer
from agent.models.provider import read_entry as read_provider
from agent.models.router import ModelRouter
from agent.models.usage import Spending
from agent.models.usage_actions import UsageActions
from agent.tools.base import Toolbox
from agent.tools.fetch import fetch_tool
from agent.tools.files import file_tools
from agent.tools.now import time_tool
from agent.tools.plan import plan_tool
from agent.tools.recollection import recall_tool, remember_tool
from agent.trace import TraceActions
from channels.actions import BotActions
from channels.bot_entry import read_entry as read_bot
from channels.files import WorkspaceFiles
from channels.intake import Intake, WithAttachments
from channels.registry import Bots
from channels.sender import Sender
from channels.streaming import Streaming
from channels.webhook.actions import HookActions
from channels.webhook.receiver import HookReceiver
from routes.hot import Hot, Readiness
from security.account import AccountActions
from security.addresses import Addresses
from security.checklist import ChecklistActions
from security.egress_client import EgressClient
from security.exposure import Exposure, check_exposure, record_exposure
from security.gate import Gate
from security.guessing import Guessing
from security.passwords import Passwords
from security.people import PeopleActions
from security.probes.facts import Door, Facts
from security.probes.layers import CHECKS
from security.sessions import Sessions
from security.setup import Setup
from security.sign_in import SignIn
from security.throttle import Throttle
from security.tls import uvicorn_options
from storage import migrate, preflight
from storage.audit import Audit, guard
from storage.background import Background
from storage.clock import Clock
from storage.crash import CrashPoints
from storage.database import SqliteDatabase
from storage.dispatch import FolderLock, LocalDispatcher
from storage.errors import AppError
from storage.ledger import Ledger
from storage.live import Live
from storage.logs import Logs
from storage.outbox import Outbox
from storage.principal import SYSTEM
from storage.provision import ConfigFile, Provisioning, each
from storage.runner import Runner
from storage.settings import ROOT, VERSION, Settings, read_settings
from storage.tables.system import Secret
from storage.vault import Vault, master_key
from storage.words import Words

DRAIN_SECONDS = 8.0
LOOK_SECONDS = 3.0


class House:
    """Every part of the process, built in order. Nothing runs until `start`."""

    def __init__(
        self, settings: Settings, *, words: Words, environ: Mapping[str, str], exposure: Exposure, port: int = 0
    ) -> None:
        self.settings, self.words, self.exposure = settings, words, exposure
        self.port = port or settings.port
        self.clock, self.background, self.live = Clock(), Background(), Live()
        self.db = SqliteDatabase(settings.db_file)
        with self.db.reader.connect() as c:
            sealed = c.execute(select(func.count()).select_from(Secret)).scalar_one()
        self.vault = Vault(
            master_key(settings.master_key_file, may_create=not sealed),
            self.clock,
            source=str(settings.master_key_file),
        )
        with self.db.reader.connect() as c:
            self.vault.check(c)
        self.audit = Audit(self.clock, self.vault.derive("audit"))
        self.egress = EgressClient(allow_local_vendors=settings.allow_local_vendors)
        db, clock, vault, audit = self.db, self.clock, self.vault, self.audit

        # security
        self.passwords, self.guessing = Passwords(), Guessing(clock)
        self.sessions = Sessions(db, clock)
        self.addresses = Addresses(db, clock, audit, hosts=settings.hosts, proxies=settings.proxies)
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
        self.people = PeopleActions(
            db=db, vault=vault, audit=audit, clock=clock, passwords=self.passwords, sessions=self.sessions
        )
        self.gate = Gate(
            sessions=self.sessions, setup=self.setup, addresses=self.addresses, background=self.background, clock=clock
        )

        # the ledger, and who fills and empties it
        self.ledger = Ledger(db, clock, CrashPoints(settings.crash_at))
        self.outbox = Outbox(self.ledger)
        self.files = WorkspaceFiles(root=settings.files_dir)
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
            read=self.files.read,
        )
        self.sender = Sender(
            outbox=self.outbox, bots=self.bots, background=self.background, clock=clock, live=self.live
        )
        self.ledger.on_deliveries = self.sender.submit
        self.streaming = Streaming(db, self.live, self.background, self.bots.channel, self.bots.any_streams)
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
        remembers = settings.embedder != "off"
        self.memory = (
            build_memory(db, clock, self.background, settings.index_dir, embedder=settings.embedder)
            if remembers
            else None
        )
        tools = [time_tool(clock), plan_tool(), fetch_tool(self.egress), *file_tools()]
        if self.memory is not None:
            tools += [remember_tool(self.memory, clock), recall_tool(self.memory, clock)]
        self.loop = AgentLoop(
            router=self.router,
            answer=partial(answer, clock=clock, breaker=self.breaker, spending=self.spending, cache=self.cache),
            toolbox=Toolbox(tools),
            words=words,
            files_dir=settings.files_dir,
            memory=self.memory,
        )
        handler = WithAttachments(intake=Intake(db=db, bots=self.bots, files=self.files), inner=self.loop)
        self.runner = Runner(self.ledger, self.live, {"message": handler})
        self.dispatcher = LocalDispatcher(self.ledger, self.runner, self.background)
        self.ledger.on_job = self.dispatcher.submit
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
            ),
            environ,
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
            ),
        )

    async def _providers(self, file: str, entries: Sequence[Mapping[str, object]]) -> None:
        await self.models.provision(file, each(file, entries, read_provider))

    async def _channels(self, file: str, entries: Sequence[Mapping[str, object]]) -> None:
        changed = await self.bot_actions.provision(file, each(file, entries, read_bot))
        if self.readiness.started:  # before, all bots are started together
            for name in changed:
                await self.bots.reload(SYSTEM.tenant, name)

    async def start(self) -> str:
        """Start all parts, those first on which others depend. Returns the one-time setup code, if one is needed."""
        await self.db.write(guard)
        await record_exposure(self.db, self.audit, self.clock, self.exposure)
        await self.checks.load()
        await self.sessions.load()
        await self.addresses.load()
        await self.router.reload()
        await self.provisioning.look()
        if self.memory is not None:
            await self.memory.start()
        await self.bots.start()
        self.streaming.start()
        await self.sender.start()
        await self.dispatcher.start()
        self.gate.start()
        _ = self.background.spawn("config files", self._look())
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
        await self.dispatcher.stop(DRAIN_SECONDS)
        await self.sender.stop()
        self.streaming.stop()
        await self.bots.stop()
        await self.spending.flush()
        if self.memory is not None:
            await self.memory.stop()
        await self.background.stop()
        await self.egress.close()
        self.db.close()


def panel_app(house: House) -> Any:
    """The whole ASGI application: front, gate, headers, NiceGUI. Imports NiceGUI, which takes most of the start."""
    os.environ["NICEGUI_STORAGE_PATH"] = str(house.settings.data / ".nicegui")
    os.environ["MARKDOWN_CONTENT_CACHE_SIZE"] = "50"
    from fastapi import FastAPI
    from nicegui import core, ui

    from pages import account, activity, bots, chat, hooks, models, overview, people, security, trace
    from pages import setup as setup_page
    from pages.frame import Panel
    from pages.needs import bot_needs, file_needs, model_needs
    from routes.assets import Assets
    from routes.front import Front, nicegui_pages
    from routes.headers import Headers
    from routes.hooks import HookRoute
    from routes.login import Login
    from routes.plain_page import PlainPages
    from routes.webhooks import WebhookRoute

    assets = Assets(ROOT / "assets")
    panel = Panel(house.gate, house.words, house.settings, assets)
    overview.mount(
        panel,
        house.trace,
        model_needs(house.models),
        bot_needs(house.bot_actions),
        file_needs(house.provisioning),
    )
    chat.mount(
        panel,
        house.chat,
        house.trace,
        house.models.choices,
        house.background,
        Attachments(chat=house.chat, files_dir=house.settings.files_dir),
    )
    trace.mount(panel, house.trace, house.clock)
    activity.mount(panel, house.trace)
    bots.mount(panel, house.bot_actions)
    hooks.mount(panel, house.hook_actions)
    models.mount(panel, house.models, house.usage)
    account.mount(panel, house.account)
    people.mount(panel, house.people)
    security.mount(panel, house.checks)
    setup_page.mount(panel, house.setup, house.account, house.models, house.bot_actions)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        code = await house.start()
        announce(house, code)
        yield
        await house.stop()

    parent = FastAPI(lifespan=life, openapi_url=None, docs_url=None, redoc_url=None)
    ui.run_with(parent, reconnect_timeout=30, binding_refresh_interval=1.0, tailwind=False)
    core.app.config.quasar_config.setdefault("loadingBar", {})["skipHijack"] = True
    pages = nicegui_pages()
    plain = PlainPages(house.words, house.addresses, ROOT / "assets" / "templates")
    login = Login(
        sign_in=house.sign_in,
        setup=house.setup,
        account=house.account,
        sessions=house.sessions,
        addresses=house.addresses,
        plain=plain,
        known=pages,
        need_origin=False,  # a script without cookies may sign in; no page in a browser can pass for one
    )
    house.gate.refuse = plain.refuse
    hot = Hot(
        webhooks=WebhookRoute(house.bots, house.words),
        hooks=HookRoute(house.receiver, house.words),
        assets=assets,
        forms=login.routes(),
        readiness=house.readiness,
    )
    return Front(
        hot,
        house.gate.guard(Headers(parent)),
        addresses=house.addresses,
        pages=pages,
        encrypted_only=house.exposure.encrypted_only,
        throttle=Throttle(house.clock),
    )


def announce(house: House, code: str) -> None:
    """Tell on the console where to go, and the one-time code until an admin exists."""
    settings = house.settings
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host  # noqa: S104 - shown, not bound
    scheme = "http" if settings.tls_cert is None else "https"
    address = f"{scheme}://{host}:{house.port}"
    lines = ["", f"  知行 Zhixing {VERSION}", f"  打开 / Open:  {address}"]
    if code:
        lines.append(f"  一次性验证码 / One-time setup code:  {code}")
    print("\n".join([*lines, ""]), flush=True)


def serve(settings: Settings, words: Words) -> int:
    """Serve until a signal ends it."""
    preflight.check_data(settings.data)
    preflight.check_space(settings.data)
    preflight.check_config(settings.data)
    exposure = check_exposure(settings, Clock())
    lock = FolderLock(settings.data / "db" / "lock")
    lock.take()
    sockets = preflight.open_port(settings.host, settings.port)
    logs = Logs(settings.logs_dir, console=sys.stderr, level="WARNING")
    logs.start()
    try:
        migrate.prepare(settings)
        port = int(sockets[0].getsockname()[1])
        house = House(settings, words=words, environ=os.environ, exposure=exposure, port=port)
        import uvicorn

        from routes.listener import bounded

        config = uvicorn.Config(
            panel_app(house),
            http=bounded(house.addresses.trusted),
            ws_max_size=1_100_000,
            ws="websockets-sansio",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=10,
            lifespan="on",
            **uvicorn_options(settings.tls_cert, settings.tls_key),
        )
        server = uvicorn.Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ended)  # uvicorn raises the signal once more when it has stopped
        server.run(sockets=sockets)
        return 0 if server.started else 1
    finally:
        logs.stop()
        lock.release()


def _ended(number: int, frame: object) -> None:
    """A signal that has been obeyed already."""


async def create_admin(settings: Settings, words: Words, name: str) -> None:
    """Make an owner from the console; the password is the first line of standard input."""
    password = sys.stdin.readline().rstrip("\r\n")
    migrate.prepare(settings)
    exposure = Exposure(wide=False, how="loopback")
    house = House(settings, words=words, environ=os.environ, exposure=exposure)
    try:
        await house.people.create(SYSTEM, name=name, role="owner", password=password)
    finally:
        house.db.close()


def doctor(settings: Settings, words: Words) -> int:
    """Say what would keep a start from succeeding, or is unsafe."""
    print(f"知行 Zhixing {VERSION} · Python {sys.version.split()[0]} · {settings.data}")
    found = preflight.findings(settings)
    for error in found:
        print(told(error, words), file=sys.stderr)
    if not found:
        print("✓ 没有发现问题 / nothing found")
    return 1 if found else 0


def told(error: AppError, words: Words) -> str:
    """A refusal on the console, in both languages, with its remedy."""
    lines = []
    for lang in ("zh_CN", "en"):
        key = f"error.{error.code}"
        what = words.say(lang, key, **error.params) if words.has(lang, key) else str(error)
        remedy = words.say(lang, f"{key}.remedy", **error.params) if words.has(lang, f"{key}.remedy") else ""
        lines.append(f"✗ {what}" + (f"\n  → {remedy}" if remedy else ""))
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Run one command. Refusals are told plainly, with a remedy, and end with exit code 1."""
    parser = argparse.ArgumentParser(prog="app.py", description="知行 Zhixing")
    commands = parser.add_subparsers(dest="command")
    for name in ("serve", "doctor", "version"):
        commands.add_parser(name)
    admin = commands.add_parser("create-admin")
    admin.add_argument("--name", required=True)
    args = parser.parse_args(argv)
    words = Words(ROOT / "assets" / "locale")
    logging.captureWarnings(True)
    if args.command == "version":
        print(VERSION)
        return 0
    try:
        settings = read_settings()
        if args.command == "doctor":
            return doctor(settings, words)
        if args.command == "create-admin":
            asyncio.run(create_admin(settings, words, args.name))
            return 0
        return serve(settings, words)
    except AppError as error:
        print(told(error, words), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
