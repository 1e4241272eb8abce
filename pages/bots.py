"""`/bots`: which bots are alive, really?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from nicegui import ui

from channels.actions import BotActions, BotRow
from channels.base import Manifest
from pages import access
from pages.botform import BotForm, channel_name, mode_name
from pages.botlive import bot_facts, bot_state
from pages.botpicks import bot_views, channel_picks, free_bot_name, mode_segments, origin_of
from pages.frame import Panel
from pages.parts.button import button, link
from pages.parts.copying import copy_line
from pages.parts.dialog import confirm, dialog
from pages.parts.form import Form, Values
from pages.parts.markup import Markup, box, span, tag
from pages.parts.probes import probe_list
from pages.parts.state import empty, note
from pages.visitor import Visitor
from storage.errors import NotFound

Redraw = Callable[[], Awaitable[None]]
SECONDS = 5.0


def mount(panel: Panel, bots: BotActions) -> None:
    """Register `/bots` and `/bots/access`; `?add=1&type=…&mode=…` and `?edit=<name>` are addresses of their own."""
    access.mount(panel, bots)

    @ui.page("/bots")
    async def page(add: str = "", type: str = "", mode: str = "", edit: str = "") -> None:
        v = panel.enter()
        manage = v.who.may("bot.manage")
        with panel.frame(v, "place.bots", place="/bots", css=("panel-build.css",)) as frame:
            rows = list(await bots.list(v.who))
            if manage and (add or type):
                _add(panel, v, bots, rows, type, mode)
                return
            if manage and edit:
                _edit(panel, v, bots, rows, edit, mode)
                return
            if manage and rows:
                with frame.actions:
                    link(v.t("bots.add"), "/bots?add=1", "pri")
            bot_views(v, "/bots")
            await _cards(panel, v, bots)


async def _cards(panel: Panel, v: Visitor, bots: BotActions) -> None:
    """A card a bot; the live part of each is kept up to date without touching the rest."""
    place = box()
    live: dict[str, Markup] = {}

    async def show() -> None:
        rows = list(await bots.list(v.who))
        place.clear()
        live.clear()
        with place:
            if not rows:
                with empty(v.t("bots.empty"), v.t("bots.empty.hint")):
                    if v.who.may("bot.manage"):
                        link(v.t("bots.add"), "/bots?add=1", "pri")
                return
            with box("grid3"):
                for row in rows:
                    live[row.name] = _card(panel, v, bots, row, show)
                    _live(v, live[row.name], row)

    async def look() -> None:
        rows = list(await bots.list(v.who))
        if {row.name for row in rows} != set(live):
            await show()
            return
        for row in rows:
            _live(v, live[row.name], row)

    await show()
    ui.timer(SECONDS, panel.act(v, look), immediate=False)


def _live(v: Visitor, place: Markup, row: BotRow) -> None:
    place.clear()
    with place:
        with box("bar"):
            bot_state(v, row)
        bot_facts(v, row)
        if row.asking and v.who.may("bot.manage"):
            link(v.t("bots.asking", n=row.asking), f"/bots/access?bot={quote(row.name)}", "small pri")


def _card(panel: Panel, v: Visitor, bots: BotActions, row: BotRow, show: Redraw) -> Markup:
    with box("card bot", data_bot=row.name):
        tag("h2", row.name)
        with box("bar small muted"):
            span(" · ".join(part for part in (channel_name(v, row.type), mode_name(v, row.type, row.mode)) if part))
            if row.managed_by:
                span(v.t("managed.file", file=row.managed_by), "tag", title=v.t("managed.file.help"))
        live = box("stack live")
        result = box("results", role="status")
        if v.who.may("bot.manage"):
            with box("bar acts"):
                _buttons(panel, v, bots, row, result, show)
    return live


def _buttons(panel: Panel, v: Visitor, bots: BotActions, row: BotRow, result: Markup, show: Redraw) -> None:
    async def probe() -> None:
        result.clear()
        found = await bots.probe(v.who, row.name)
        with result:
            probe_list(v, found)

    async def pause() -> None:
        await (bots.resume if row.paused else bots.pause)(v.who, row.name)
        await show()

    async def push() -> None:
        _push(panel, v, bots, row)

    button(v.t("bots.test"), panel.act(v, probe), "small", aria_label=f"{v.t('bots.test')}: {row.name}")
    button(v.t("bots.push"), panel.act(v, push), "small", aria_label=f"{v.t('bots.push')}: {row.name}")
    if row.managed_by:
        return
    link(v.t("bots.settings"), f"/bots?edit={quote(row.name)}", "small")
    text = v.t("bots.resume" if row.paused else "bots.pause")
    button(text, panel.act(v, pause), "small quiet", aria_label=f"{text}: {row.name}")


def _push(panel: Panel, v: Visitor, bots: BotActions, row: BotRow) -> None:
    async def send(values: Values, _do: str) -> None:
        await bots.send_test(v.who, row.name, values.get("target", ""))
        made.close()
        panel.say(v, v.t("bots.pushed"))

    with dialog(v.t("bots.push.title", name=row.name)) as made, Form(panel, v, send, css="fields") as form:
        if row.type == "webhook":
            tag("p", v.t("bots.push.webhook"), "muted")
        else:
            form.text("target", v.t("hooks.target"), help=v.t("hooks.target.help"), css="mono", autofocus=True)
        with box("formend"):
            form.submit(v.t("bots.push"))
            made.cancel(v)


def _add(panel: Panel, v: Visitor, bots: BotActions, rows: list[BotRow], type: str, mode: str) -> None:
    manifests = list(bots.manifests())
    manifest = next((m for m in manifests if m.type == type), None)

    async def saved(_name: str) -> None:
        ui.navigate.to("/bots")

    with box("formpage stack"):
        _back(v)
        if manifest is None:
            tag("h2", v.t("bots.choose"), "formtitle")
            channel_picks(v, manifests, "/bots?add=1")
            return
        tag("h2", v.t("bots.add.type", name=channel_name(v, type)), "formtitle")
        chosen = mode if mode in manifest.modes else manifest.modes[0]
        mode_segments(v, manifest, chosen, "/bots?add=1")
        name = free_bot_name(manifest, rows)
        BotForm(panel, v, bots, manifest, mode=chosen, row=None, name=name, origin=origin_of(v, panel), saved=saved)


def _edit(panel: Panel, v: Visitor, bots: BotActions, rows: list[BotRow], name: str, mode: str) -> None:
    row = next((row for row in rows if row.name == name), None)
    manifest = next((m for m in bots.manifests() if row is not None and m.type == row.type), None)
    if row is None or manifest is None:
        raise NotFound("bot.unknown", name=name[:60])

    async def saved(_name: str) -> None:
        ui.navigate.to("/bots")

    with box("formpage stack"):
        _back(v)
        tag("h2", row.name, "formtitle")
        if row.managed_by:
            note("warn", f"{v.t('managed.file', file=row.managed_by)} {v.t('managed.file.help')}")
            _callback(v, panel, row)
            return
        chosen = mode if mode in manifest.modes else row.mode
        mode_segments(v, manifest, chosen, f"/bots?edit={quote(row.name)}")
        BotForm(panel, v, bots, manifest, mode=chosen, row=row, name=row.name, origin=origin_of(v, panel), saved=saved)
        _remove(panel, v, bots, row, manifest)


def _callback(v: Visitor, panel: Panel, row: BotRow) -> None:
    if row.callback:
        box("label", v.t("bots.callback"))
        copy_line(v, origin_of(v, panel) + row.callback)


def _remove(panel: Panel, v: Visitor, bots: BotActions, row: BotRow, manifest: Manifest) -> None:
    async def remove() -> None:
        await bots.remove(v.who, row.name)
        ui.navigate.to("/bots")

    async def ask() -> None:
        confirm(
            panel,
            v,
            title=v.t("bots.remove.ask", name=row.name),
            text=v.t("bots.remove.what", channel=channel_name(v, manifest.type)),
            act=v.t("bots.remove"),
            handler=remove,
            name=row.name,
        )

    with box("card bar"):
        span(v.t("bots.remove.hint"), "muted grow")
        button(v.t("bots.remove"), panel.act(v, ask), "danger")


def _back(v: Visitor) -> None:
    tag("a", v.t("bots.back"), "ic ic-back backlink", href="/bots")
