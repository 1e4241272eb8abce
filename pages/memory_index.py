"""`/memory/index`: which embedder finds by meaning, how far its vectors are, and the change to another one."""

from __future__ import annotations

from nicegui import ui

from agent.memory.actions import MemoryActions
from agent.memory.shown import MemoryState
from pages.frame import Panel
from pages.memory_words import memory_views
from pages.parts.badge import badge
from pages.parts.form import Form, Values
from pages.parts.markup import Markup, box, span, tag
from pages.parts.state import failed, note
from pages.visitor import Visitor
from storage.errors import AppError

HERE = "/memory/index"
SECONDS = 1.5


def mount(panel: Panel, actions: MemoryActions) -> None:
    """Register `/memory/index`."""

    @ui.page(HERE)
    async def page() -> None:
        v = panel.enter()
        with panel.frame(v, "place.memory", place="/memory", css=("memory.css",)):
            if not panel.may(v, "memory.own"):
                return
            memory_views(v, HERE)
            tag("p", v.t("memory.index.lead"), "lead")
            place = box("card")
            state = await actions.state(v.who)
            seen: list[MemoryState] = []

            async def look() -> None:
                if not panel.gate.alive(v.who):
                    return
                try:
                    now = await actions.state(v.who)
                except AppError as error:
                    place.clear()
                    with place:
                        failed(v, error)
                    return
                if not v.client.is_deleted and (not seen or seen[-1] != now):
                    seen[:] = [now]
                    _state(v, place, now)

            await look()
            ui.timer(SECONDS, look)
            if v.who.may("memory.manage"):
                _choice(panel, v, actions, state)


def _state(v: Visitor, place: Markup, state: MemoryState) -> None:
    whole = state.total > 0 and state.done >= state.total
    place.clear()
    with place:
        with tag("h2", v.t("memory.index.now")):
            if state.moving_to:
                badge(v, "run", v.t("memory.index.moving"))
            elif not state.embedder:
                badge(v, "off", v.t("memory.index.words"))
            else:
                badge(
                    v,
                    "ok" if whole or not state.total else "run",
                    v.t("memory.index.ok" if whole else "memory.index.on"),
                )
        with tag("dl", "", "facts left"):
            tag("dt", v.t("memory.index.serves"))
            tag("dd", state.embedder or v.t("memory.index.words"), "mono" if state.embedder else "")
            if state.moving_to:
                tag("dt", v.t("memory.index.next"))
                tag("dd", state.moving_to, "mono")
            if state.total:
                tag("dt", v.t("memory.index.vectors"))
                tag("dd", v.t("memory.index.done", done=f"{state.done:,}", total=f"{state.total:,}"))
        if state.total and not whole and (state.embedder or state.moving_to):
            tag(
                "progress",
                "",
                "bar-line",
                max=str(state.total),
                value=str(state.done),
                aria_label=v.t("memory.index.vectors"),
            )
        if state.refused:
            note("bad", v.t("memory.index.refused", name=state.refused))
        if state.moving_to:
            note("ok", v.t("memory.index.meanwhile"))
        elif not state.embedder:
            note("warn", v.t("memory.index.words.what"))


def _choice(panel: Panel, v: Visitor, actions: MemoryActions, state: MemoryState) -> None:
    async def send(values: Values, _do: str) -> None:
        wanted = values["model"] if values["embedder"] == "transformers" else values["embedder"]
        await actions.set_embedder(v.who, wanted)
        panel.say(v, v.t("memory.index.chosen"))

    own = state.wanted if state.wanted not in state.choices else ""
    with box("card"):
        tag("h2", v.t("memory.index.choose"))
        with Form(panel, v, send, css="fields form") as form:
            options = [(name, v.t(f"memory.embedder.{name}")) for name in (*state.choices, "transformers")]
            form.choice(
                "embedder", v.t("memory.index.embedder"), options, value="transformers" if own else state.wanted
            )
            form.text(
                "model",
                v.t("memory.index.model"),
                value=own,
                optional=True,
                help=v.t("memory.index.model.help"),
                placeholder="BAAI/bge-m3",
            )
            with box("formend"):
                form.submit(v.t("memory.index.change"))
        span(v.t("memory.index.cost"), "small muted")
