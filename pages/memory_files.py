"""`/memory/files`: take a memory along as open JSON lines, bring one in, hand out or erase a person's data."""

from __future__ import annotations

import io
from urllib.parse import urlencode

from nicegui import events, ui

from agent.memory.actions import MINE, MemoryActions
from agent.memory.parts import MemoryParts
from agent.memory.shown import Place
from pages.frame import Panel
from pages.memory_words import memory_views, place_name
from pages.parts.button import link
from pages.parts.download import hand_over
from pages.parts.form import Form, Values
from pages.parts.markup import Markup, box, tag
from pages.parts.state import note
from pages.parts.upload import upload
from pages.visitor import Visitor
from storage.errors import Invalid, TooLarge

HERE = "/memory/files"
MOST_BYTES = 48_000_000


def mount(panel: Panel, memory: MemoryParts) -> None:
    """Register `/memory/files`."""
    actions = memory.actions

    @ui.page(HERE)
    async def page() -> None:
        v = panel.enter()
        with panel.frame(v, "place.memory", place="/memory", css=("memory.css",)):
            if not panel.may(v, "memory.own"):
                return
            memory_views(v, HERE)
            places = await actions.places(v.who)
            with box("stack"):
                _export(panel, v, memory, places)
                _import(panel, v, actions, places)
                if v.who.may("memory.manage"):
                    _person(panel, v, memory)


def _options(v: Visitor, places: list[Place]) -> list[tuple[str, str]]:
    return [(str(place.id), f"{place_name(v, place)} · {place.rows:,}") for place in places]


def _export(panel: Panel, v: Visitor, memory: MemoryParts, places: list[Place]) -> None:
    async def send(values: Values, _do: str) -> None:
        hand_over(v, await memory.takeaway.memory(v.who, _place(values)))

    with box("card"):
        tag("h2", v.t("memory.export"))
        tag("p", v.t("memory.export.what"), "muted")
        with Form(panel, v, send, css="fields form") as form:
            form.choice("of", v.t("memory.of"), _options(v, places), value=str(MINE))
            with box("formend"):
                form.submit(v.t("memory.export.do"))


def _import(panel: Panel, v: Visitor, actions: MemoryActions, places: list[Place]) -> None:
    chosen = {"of": MINE}

    async def choose(event: events.GenericEventArguments) -> None:
        if not isinstance(event.args, str) or not event.args.isdecimal():
            raise Invalid("memory.no_place", field="of")
        chosen["of"] = int(event.args[:15])

    async def arrived(_name: str, event: events.UploadEventArguments) -> None:
        if event.file.size() > MOST_BYTES:
            raise TooLarge("memory.import_size", most=200_000)
        text = (await event.file.read()).decode("utf-8", "replace")
        result.clear()
        taken = await actions.import_(v.who, chosen["of"], io.StringIO(text))
        with result:
            note("ok", v.t("memory.import.done", n=f"{taken:,}"))

    async def refused() -> None:
        raise TooLarge("memory.import_size", most=200_000)

    with box("card"):
        tag("h2", v.t("memory.import"))
        tag("p", v.t("memory.import.what"), "muted")
        with box("field form"):
            tag("label", v.t("memory.import.into"), for_="import-of")
            with tag("select", "", "input", id="import-of") as made:
                for value, text in _options(v, places):
                    tag("option", text, value=value)
            made.on("change", panel.act(v, choose), js_handler="(e) => emit(e.target.value)")
        with box("formend"):
            upload(
                panel, v, v.t("memory.import.do"), arrived, most=MOST_BYTES, accept=".jsonl,.json,.txt", refused=refused
            )
        result: Markup = box()


def _person(panel: Panel, v: Visitor, memory: MemoryParts) -> None:
    """What a person may ask of us by law: a copy of everything, and its end."""

    async def send(values: Values, do: str) -> None:
        person = values["person"]
        if not person:
            raise Invalid("memory.person", field="person")
        if do == "export":
            hand_over(v, await memory.takeaway.person(v.who, person))
        else:
            ui.navigate.to(f"/memory/forget?{urlencode({'by': 'person', 'what': person})}")

    with box("card"):
        tag("h2", v.t("memory.person"))
        tag("p", v.t("memory.person.what"), "muted")
        with Form(panel, v, send, css="fields form") as form:
            form.text("person", v.t("memory.forget.person"), help=v.t("memory.person.help"))
            with box("formend"):
                form.submit(v.t("memory.person.export"), "export")
                form.submit(v.t("memory.person.erase"), "erase", css="danger")
        link(v.t("memory.person.list"), "/memory", "quiet small")


def _place(values: Values) -> int:
    text = values["of"]
    if not text.isdecimal() or len(text) > 14:
        raise Invalid("memory.no_place", field="of")
    return int(text)
