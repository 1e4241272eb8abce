"""The whole ASGI application: front, gate, headers, and the pages behind them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from agent.attachments import Attachments
from agent.open_tasks import OpenTasks
from house import House
from routes.hot import Hot
from security.throttle import Throttle
from storage.settings import ROOT


def panel_app(house: House, announce: Callable[[str], None]) -> Any:
    """The whole ASGI application: front, gate, headers, NiceGUI. Imports NiceGUI, which takes most of the start."""
    os.environ["NICEGUI_STORAGE_PATH"] = str(house.settings.data / ".nicegui")
    os.environ["MARKDOWN_CONTENT_CACHE_SIZE"] = "50"
    from fastapi import FastAPI
    from nicegui import core, ui

    from pages import (
        account,
        activity,
        approvals,
        audit,
        backup,
        botlog,
        bots,
        chat,
        events,
        figures,
        health,
        hooks,
        keys,
        logs,
        memory,
        models,
        overview,
        people,
        proof,
        schedules,
        security,
        server,
        settings,
        skills,
        trace,
    )
    from pages import setup as setup_page
    from pages.frame import Panel
    from pages.health_needs import health_needs
    from pages.health_watch import Watch
    from pages.needs import bot_needs, file_needs, model_needs
    from pages.schedule_bots import bot_choices
    from pages.schedule_needs import schedule_needs
    from routes.api.application import Uses, api_app
    from routes.assets import Assets
    from routes.echo import EchoRoute
    from routes.front import Front, nicegui_pages
    from routes.headers import Headers
    from routes.hooks import HookRoute
    from routes.login import Login
    from routes.measured import Timed
    from routes.metrics import MetricsRoute
    from routes.plain_page import PlainPages
    from routes.webhooks import WebhookRoute

    assets = Assets(ROOT / "assets")
    panel = Panel(house.gate, house.words, house.settings, assets)
    overview.mount(
        panel,
        house.trace,
        house.eyes.figures,
        health_needs(house.eyes.health, house.checks),
        model_needs(house.models),
        approvals.approval_needs(house.acting.decisions),
        bot_needs(house.bot_actions),
        file_needs(house.provisioning),
        schedule_needs(house.schedules.actions),
    )
    chat.mount(
        panel,
        house.chat,
        house.trace,
        house.models.choices,
        house.background,
        Attachments(chat=house.chat, files_dir=house.settings.files_dir),
        house.acting.decisions,
    )
    approvals.mount(panel, house.acting.decisions)
    skills.mount(panel, house.acting.tools)
    trace.mount(panel, house.trace, house.clock)
    watch = Watch(token=house.eyes.scrape_token, bundles=house.eyes.bundles, ports=house.eyes.ports)
    health.mount(panel, house.eyes.health, house.eyes.symptoms, watch)
    logs.mount(panel, house.eyes.logbook)
    activity.mount(panel, house.trace, OpenTasks(db=house.db))
    figures.mount(panel, house.eyes.figures, house.trace.overview)
    bots.mount(panel, house.bot_actions)
    botlog.mount(panel, house.told.log, house.bot_actions)
    events.mount(panel, house.told.actions)
    hooks.mount(panel, house.hook_actions)
    models.mount(panel, house.models, house.usage)
    if house.memory is not None:
        memory.mount(panel, house.memory)
    schedules.mount(panel, house.schedules.actions, bot_choices(house.bot_actions))
    account.mount(panel, house.account)
    people.mount(panel, house.people)
    security.mount(panel, house.checks)
    proof.mount(panel, house.step_up)
    keeping = house.keeping
    backup.mount(panel, keeping.backups, keeping.backup_settings, keeping.restored)
    audit.mount(panel, house.audit_view, keeping.export, keeping.anchor, house.step_up)
    server.mount(panel, house.checks, house.addresses)
    keys.mount(panel, house.keys)
    settings.mount(panel, house.addresses, house.outgoing, keeping.rotation)
    setup_page.mount(panel, house.setup, house.account, house.models, house.bot_actions)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        code = await house.start()
        announce(code)
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
    uses = Uses(
        tasks=house.tasks,
        talks=house.talks,
        messages=house.messages,
        schedules=house.schedules.actions,
        bots=house.bot_actions,
        models=house.models,
        usage=house.usage,
        memory=house.memory.actions if house.memory is not None else None,
        trace=house.trace,
        checks=house.checks,
        audit=house.audit_view,
        keys=house.keys,
        tokens=house.tokens,
        readiness=house.readiness,
        load=lambda: (house.dispatcher.waiting(), len(house.runner.running)),
    )
    hot = Hot(
        api=api_app(uses, bearer=house.bearer, words=house.words, clock=house.clock, background=house.background),
        webhooks=Timed(WebhookRoute(house.bots, house.words), house.eyes.metrics),
        hooks=Timed(HookRoute(house.receiver, house.words), house.eyes.metrics),
        metrics=MetricsRoute(house.eyes.metrics, house.eyes.scrape_token.digest),
        echo=EchoRoute(house.eyes.echo),
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
