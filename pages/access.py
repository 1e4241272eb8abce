"""`/bots/access`: who asked to talk with a bot, decided in bulk; who was let in or refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from nicegui import ui

from channels.actions import AccessRow, BotActions
from pages.botpicks import bot_views
from pages.frame import Panel
from pages.parts.badge import badge, moment
from pages.parts.form import Form, Values
from pages.parts.markup import box, span, tag
from pages.parts.state import empty
from pages.visitor import Visitor

HERE = "/bots/access"
STATUSES = ("asked", "allowed", "refused")
_STATE = {"asked": "warn", "allowed": "ok", "refused": "off"}
Redraw = Callable[[], Awaitable[None]]


def mount(panel: Panel, bots: BotActions) -> None:
    """Register `/bots/access`; `?status=` and `?bot=` narrow the list."""

    @ui.page(HERE)
    async def page(status: str = "asked", bot: str = "") -> None:
        v = panel.enter()
        shown = status if status in STATUSES else "asked"
        with panel.frame(v, "access.title", place="/bots", css=("panel-build.css",)):
            bot_views(v, HERE)
            _statuses(v, shown, bot)
            place = box("stack")

            async def show() -> None:
                rows = await bots.access_requests(v.who, status=shown, bot=bot)
                place.clear()
                with place:
                    if rows:
                        _list(panel, v, bots, rows, show)
                    else:
                        empty(v.t(f"access.empty.{shown}"), v.t("access.empty.hint"))

            await show()


def _statuses(v: Visitor, shown: str, bot: str) -> None:
    with tag("nav", "", "segments", aria_label=v.t("access.status")):
        for status in STATUSES:
            more = f"&bot={bot}" if bot else ""
            made = tag("a", v.t(f"access.status.{status}"), "seg", href=f"{HERE}?status={status}{more}")
            if status == shown:
                made.attr(aria_current="true")


def _list(panel: Panel, v: Visitor, bots: BotActions, rows: Sequence[AccessRow], show: Redraw) -> None:
    async def send(values: Values, do: str) -> None:
        ids = [row.id for row in rows if values.get(f"row-{row.id}") == "1"]
        if do.endswith("-all"):
            ids = [row.id for row in rows]
        if not ids:
            panel.say(v, v.t("access.none_picked"))
            return
        done = await bots.decide(v.who, ids, do.startswith("allow"))
        panel.say(v, v.t("access.done", n=done))
        await show()

    manage = v.who.may("bot.manage")
    with box("card"), Form(panel, v, send, css="accessform") as form:
        for row in rows:
            with box("line"):
                badge(v, _STATE.get(row.status, "unknown"), v.t(f"access.status.{row.status}"))
                with box("grow"):
                    if manage:
                        form.check(f"row-{row.id}", row.name or row.subject)
                    else:
                        span(row.name or row.subject)
                    with box("small muted bar"):
                        span(row.bot)
                        span(row.subject, "mono wrap")
                with box("small muted nowrap"):
                    moment(v, row.decided_at or row.asked_at)
        if manage:
            with box("formend"):
                form.submit(v.t("access.allow"), "allow")
                form.submit(v.t("access.refuse"), "refuse", css="danger")
                if len(rows) > 1:
                    form.submit(v.t("access.allow_all", n=len(rows)), "allow-all", css="")
