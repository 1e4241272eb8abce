"""`/bots/events`: who is told of what, and in which words?"""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from channels.event_actions import EventActions, EventRow
from pages.botpicks import bot_views
from pages.frame import Panel
from pages.parts.badge import badge
from pages.parts.button import link
from pages.parts.form import Form, Values
from pages.parts.markup import box, span, tag
from pages.parts.state import note
from pages.visitor import Visitor
from storage.words import LANGS

HERE = "/bots/events"


def mount(panel: Panel, events: EventActions) -> None:
    """Register `/bots/events`; `?edit=<event>` opens the words of one."""

    @ui.page(HERE)
    async def page(edit: str = "") -> None:
        v = panel.enter()
        with panel.frame(v, "events.title", place="/bots", css=("panel-build.css",)):
            rows = await events.list(v.who)
            row = next((row for row in rows if row.name == edit), None)
            if row is not None and v.who.may("bot.manage"):
                _edit(panel, v, events, row)
                return
            bot_views(v, HERE)
            tag("p", v.t("events.intro"), "muted")
            _list(v, rows)


def _list(v: Visitor, rows: Sequence[EventRow]) -> None:
    with box("card"):
        for row in rows:
            with box("line", data_event=row.name):
                if row.bots:
                    badge(v, "ok", v.t("events.told"))
                else:
                    badge(v, "off", v.t("events.untold"))
                with box("grow"):
                    with box("bar"):
                        span(v.t(f"bots.event.{row.name}"), "strong")
                        span(row.name, "mono faint small")
                        if row.own:
                            span(v.t("events.own"), "tag")
                    box("small muted", ", ".join(row.bots) if row.bots else v.t("events.nobody"))
                if v.who.may("bot.manage"):
                    link(v.t("events.words"), f"{HERE}?edit={row.name}", "small")
    tag("p", v.t("events.rules"), "small muted")


def _edit(panel: Panel, v: Visitor, events: EventActions, row: EventRow) -> None:
    with box("formpage stack"):
        tag("a", v.t("events.back"), "ic ic-back backlink", href=HERE)
        tag("h2", v.t(f"bots.event.{row.name}"), "formtitle")
        with box("card small muted"):
            span(v.t("events.names"))
            with box("bar"):
                for name in row.names:
                    tag("code", "{{" + name + "}}", "mono wrap")
        for lang in LANGS:
            _language(panel, v, events, row, lang)


def _language(panel: Panel, v: Visitor, events: EventActions, row: EventRow, lang: str) -> None:
    async def send(values: Values, do: str) -> None:
        text = values.get("text", "")
        if do == "save":
            await events.save(v.who, row.name, lang, text)
            form.sent()
            panel.say(v, v.t("events.saved"))
            return
        if do == "reset":
            await events.save(v.who, row.name, lang, "")
            form.sent()
            ui.navigate.to(f"{HERE}?edit={row.name}")
            return
        tried = await events.try_out(v.who, row.name, lang, text)
        results.clear()
        with results:
            if tried.missing:
                note("warn", v.t("events.missing", names=", ".join(tried.missing)))
            tag("b", tried.title)
            tag("pre", tried.text, "pre")

    with box("card"), Form(panel, v, send, name=f"event-{row.name}-{lang}", css="botform") as form:
        form.area("text", v.t(f"events.lang.{lang}"), value=row.templates[lang], spellcheck="false")
        results = box("results stack", role="status")
        with box("formend"):
            form.submit(v.t("frame.save"), "save")
            form.submit(v.t("events.try"), "try", css="")
            if lang in row.own:
                form.submit(v.t("events.reset"), "reset", css="quiet")
