"""`/memory/row/<id>`: one memory: from where, since when, how it changed, what is near; edit, pin, replace, forget."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nicegui import ui

from agent.memory.actions import MemoryActions
from agent.memory.forget import Wish
from agent.memory.shown import FoundItem, Item, Place
from agent.sources import conversations_of
from pages.frame import Panel
from pages.memory_words import kind_tag, memory_views, place_name, source_words, speaker_words
from pages.parts.badge import moment
from pages.parts.button import button
from pages.parts.dialog import confirm, dialog
from pages.parts.form import Form, Values
from pages.parts.markup import box, span, tag
from pages.parts.state import note
from pages.visitor import Visitor
from security.markdown import visible

WIDTH, HEIGHT = 760, 320
NEAR = 8
SHORT = 16


def mount(panel: Panel, actions: MemoryActions) -> None:
    """Register `/memory/row/<id>`."""

    @ui.page("/memory/row/{number:int}")
    async def page(number: int) -> None:
        v = panel.enter()
        with panel.frame(v, "memory.row", place="/memory", css=("memory.css",), id=number):
            if not panel.may(v, "memory.own"):
                return
            memory_views(v, "")
            item, place = await actions.one(v.who, number)
            tag(
                "a", v.t("memory.back"), "ic ic-back backlink", href=f"/memory?of={place.id}" if place.id else "/memory"
            )
            await _card(panel, v, actions, item, place)
            past = await actions.past(v.who, number)
            if len(past) > 1:
                _past(v, past, number)
            near = await actions.related(v.who, number, limit=NEAR)
            if near:
                _picture(v, item, near)


async def _card(panel: Panel, v: Visitor, actions: MemoryActions, item: Item, place: Place) -> None:
    with box("card"):
        with box("bar"):
            kind_tag(v, item)
        tag("p", visible(item.text), "said wrap")
        if item.label >= "t5":
            note("warn", v.t("memory.outside"))
        with tag("dl", "", "facts left"):
            _fact(v, "of", place_name(v, place))
            if item.speaker:
                _fact(v, "speaker", speaker_words(v, item))
            tag("dt", v.t("memory.fact.at"))
            with tag("dd"):
                moment(v, item.at or None, "exact")
            _fact(v, "label", v.t(f"memory.label.{item.label}"))
            tag("dt", v.t("memory.fact.source"))
            with tag("dd"):
                await _source(v, actions, item)
            if item.attribute:
                _fact(v, "about", f"{'' if item.subject.startswith('by:') else item.subject + ' · '}{item.attribute}")
            if item.valid_from:
                tag("dt", v.t("memory.fact.holds"))
                with tag("dd", "", "bar"):
                    moment(v, item.valid_from, "exact")
                    if item.valid_to:
                        span("–")
                        moment(v, item.valid_to, "exact")
        _acts(panel, v, actions, item)


def _fact(v: Visitor, name: str, text: str) -> None:
    tag("dt", v.t(f"memory.fact.{name}"))
    tag("dd", text)


async def _source(v: Visitor, actions: MemoryActions, item: Item) -> None:
    """The source; a link where the visitor may look there."""
    message = item.source.removeprefix("message:")
    if message.isdecimal() and item.source != message and v.who.may("chat.use"):
        places = await conversations_of(actions.db, v.who, [int(message)])
        if int(message) in places:
            tag("a", v.t("memory.source.open"), href=f"/chat/{places[int(message)]}#m{message}")
            return
    span(source_words(v, item))


def _acts(panel: Panel, v: Visitor, actions: MemoryActions, item: Item) -> None:
    def again() -> None:
        ui.navigate.to(f"/memory/row/{item.id}")

    async def pin() -> None:
        await actions.pin(v.who, item.id, not item.pinned)
        again()

    async def edit() -> None:
        async def send(values: Values, _do: str) -> None:
            await actions.edit(v.who, item.id, values["text"])
            again()

        _text(panel, v, "edit", item.text, send)

    async def supersede() -> None:
        async def send(values: Values, _do: str) -> None:
            made = await actions.supersede(v.who, item.id, values["text"])
            ui.navigate.to(f"/memory/row/{made}")

        _text(panel, v, "supersede", "", send)

    async def forget() -> None:
        wish = Wish(ids=(item.id,))
        place = (await actions.one(v.who, item.id))[1].id
        shown = await actions.preview(v.who, place, wish)

        async def go() -> None:
            await actions.forget(v.who, place, wish)
            ui.navigate.to(f"/memory?of={place}" if place else "/memory")

        text = v.t("memory.forget.one.what", n=shown.total, messages=shown.messages)
        confirm(panel, v, title=v.t("memory.forget.one"), text=text, act=v.t("memory.forget.do"), handler=go)

    if item.kind == "chunk":
        return
    with box("bar acts"):
        button(v.t("memory.edit"), panel.act(v, edit))
        if item.kind != "turn" and item.state == "now":
            button(v.t("memory.supersede"), panel.act(v, supersede))
        button(v.t("memory.unpin" if item.pinned else "memory.pin"), panel.act(v, pin))
        button(v.t("memory.forget.do"), panel.act(v, forget), "danger")


def _text(panel: Panel, v: Visitor, what: str, value: str, send: object) -> None:
    with dialog(v.t(f"memory.{what}")) as made, Form(panel, v, send, css="fields") as form:  # type: ignore[arg-type]
        form.area("text", v.t("memory.add.text"), value=value, help=v.t(f"memory.{what}.help"), autofocus=True)
        with box("formend"):
            form.submit(v.t(f"memory.{what}.do"))
            made.cancel(v)


def _past(v: Visitor, past: Sequence[Item], here: int) -> None:
    """How it changed, the oldest first."""
    with box("card"):
        tag("h2", v.t("memory.past"))
        with tag("ol", "", "past-line"):
            for item in past:
                with tag("li", "", "here" if item.id == here else ""):
                    with box("small muted"):
                        moment(v, item.valid_from or item.at, "exact")
                    tag("a", visible(item.text)[:200], "plain wrap", href=f"/memory/row/{item.id}")
                    with box("bar small"):
                        kind_tag(v, item)


def _picture(v: Visitor, item: Item, near: Sequence[FoundItem]) -> None:
    """What is near in words and meaning: the nearer, the closer and the thicker the line. The list says the same."""
    scores = [hit.score for hit in near]
    least, most = min(scores), max(scores)
    shares = [(score - least) / (most - least) if most > least else 1.0 for score in scores]
    x, y = WIDTH / 2, HEIGHT / 2
    with box("card"):
        tag("h2", v.t("memory.related"))
        picture = tag("svg", "", "near", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img")
        with picture.attr(aria_label=v.t("memory.related.picture")):
            spots = []
            for n, share in enumerate(shares):
                angle = 2 * math.pi * (n + 0.5) / len(near) - math.pi / 2
                far = 0.82 + 0.18 * (1 - share)
                spots.append(
                    (x + math.cos(angle) * far * (WIDTH / 2 - 110), y + math.sin(angle) * far * (HEIGHT / 2 - 26))
                )
            for (px, py), share in zip(spots, shares, strict=True):
                width = f"{1 + 3 * share:.1f}"
                tag("line", x1=f"{x:.0f}", y1=f"{y:.0f}", x2=f"{px:.0f}", y2=f"{py:.0f}").attr(stroke_width=width)
            for hit, (px, py) in zip(near, spots, strict=True):
                _node(px, py, visible(hit.item.text), hit.item.state != "now")
            _node(x, y, visible(item.text), False, middle=True)
        for hit in near:
            with box("line memory-row"):
                with box("grow"):
                    if hit.item.kind == "chunk" and not v.who.may("memory.manage"):
                        box("wrap", visible(hit.item.text)[:200])
                    else:
                        tag("a", visible(hit.item.text)[:200], "plain wrap", href=f"/memory/row/{hit.item.id}")
                    with box("bar small muted"):
                        kind_tag(v, hit.item)
                        moment(v, hit.item.at or None)
                span(f"{hit.score:.2f}", "mono faint")


def _node(x: float, y: float, text: str, past: bool, *, middle: bool = False) -> None:
    short = " ".join(text.split())
    short = short[:SHORT] + ("…" if len(short) > SHORT else "")
    css = "node middle" if middle else "node past" if past else "node"
    wide = 12 + sum(13 if ord(c) > 0x2E80 else 7 for c in short)
    with tag("g", "", css):
        tag("title", text[:200])
        tag("rect", x=f"{x - wide / 2:.0f}", y=f"{y - 14:.0f}", width=f"{wide:.0f}", height="28", rx="6")
        tag("text", short, x=f"{x:.0f}", y=f"{y + 4:.0f}").attr(text_anchor="middle")
