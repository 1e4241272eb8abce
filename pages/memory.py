"""`/memory`: what does it know, about whom, from where? Search as the agent would, the time line, all that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from nicegui import ui

from agent.memory.actions import MINE, MemoryActions
from agent.memory.parts import MemoryParts
from agent.memory.shown import Place
from pages import knowledge, memory_files, memory_forget, memory_index, memory_row
from pages.frame import Panel
from pages.memory_words import KINDS, item_line, memory_views, place_name, place_select, why
from pages.parts.button import button, link
from pages.parts.dialog import dialog
from pages.parts.form import Form, Values
from pages.parts.markup import box, span, tag
from pages.parts.state import empty, failed
from pages.visitor import Visitor
from storage.errors import AppError

HERE = "/memory"
PAGE = 50
MOST_FOUND = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What the address asks for."""

    of: int = MINE
    q: str = ""
    kind: str = ""
    month: str = ""
    history: bool = False
    before: int = 0

    def address(self) -> str:
        """The page's address with what is not the default, to be pasted to a colleague."""
        found = {
            "of": self.of or "",
            "q": self.q,
            "kind": self.kind,
            "month": self.month,
            "history": "1" if self.history else "",
            "before": self.before or "",
        }
        query = urlencode({name: value for name, value in found.items() if value})
        return f"{HERE}?{query}" if query else HERE


def read_wanted(of: str, q: str, kind: str, month: str, history: str, before: str) -> Wanted:
    """From an address; what is not understood is left out."""
    return Wanted(
        of=number(of),
        q=q.strip()[:500],
        kind=kind if kind in KINDS else "",
        month=month[:7],
        history=history == "1",
        before=number(before),
    )


def number(text: str) -> int:
    """A number from an address, 0 for anything else."""
    return int(text) if text.isdecimal() and len(text) < 15 else 0


def mount(panel: Panel, memory: MemoryParts) -> None:
    """Register `/memory` and the pages below it."""
    actions = memory.actions

    @ui.page(HERE)
    async def page(
        of: str = "", q: str = "", kind: str = "", month: str = "", history: str = "", before: str = ""
    ) -> None:
        v = panel.enter()
        wanted = read_wanted(of, q, kind, month, history, before)
        with panel.frame(v, "place.memory", place=HERE, css=("memory.css",)) as frame:
            if not panel.may(v, "memory.own"):
                return
            memory_views(v, HERE)
            places = await actions.places(v.who)
            with frame.actions:
                button(v.t("memory.add"), panel.act(v, _add, panel, v, actions, wanted))
            _filters(v, places, wanted)
            if wanted.q:
                await _found(panel, v, actions, wanted)
            else:
                await _kept(v, actions, wanted, places)

    memory_row.mount(panel, actions)
    memory_forget.mount(panel, actions)
    memory_files.mount(panel, memory)
    memory_index.mount(panel, actions)
    knowledge.mount(panel, memory.knowledge)


def _filters(v: Visitor, places: Sequence[Place], wanted: Wanted) -> None:
    with tag("form", "", "bar filters", method="get", action=HERE, role="search"):
        if len(places) > 1:
            place_select(v, places, wanted.of)
        with box("grow", data_search=True):
            search = tag("input", "", "input", type="search", name="q", value=wanted.q, autocomplete="off")
        search.attr(aria_label=v.t("memory.search"), placeholder=v.t("memory.search"), maxlength="500")
        if not wanted.q:
            with tag("select", "", "input", name="kind", aria_label=v.t("memory.kind")):
                tag("option", v.t("memory.kind.all"), value="")
                for name in KINDS:
                    made = tag("option", v.t(f"memory.kind.{name}"), value=name)
                    made.attr(selected=True if name == wanted.kind else None)
            with tag("label", "", "choice"):
                tag("input", type="checkbox", name="history", value="1").attr(defaultChecked=wanted.history)
                span(v.t("memory.with_history"))
        tag("button", v.t("memory.show"), "btn pri", type="submit")


async def _found(panel: Panel, v: Visitor, actions: MemoryActions, wanted: Wanted) -> None:
    """What the agent would be given for these words, best first."""
    place = box("stack")

    async def look() -> None:
        place.clear()
        with place:
            try:
                hits = await actions.search(v.who, wanted.of, wanted.q, limit=MOST_FOUND)
            except AppError as error:
                failed(v, error, panel.act(v, look))
                return
            fit = sum(hit.fits for hit in hits)
            if not hits:
                with empty(v.t("memory.found.none"), v.t("memory.found.none.hint")):
                    link(v.t("memory.all"), replace(wanted, q="").address())
                return
            with box("card"):
                with tag("h2", v.t("memory.found", n=len(hits), fit=fit)):
                    tag("a", v.t("memory.all"), "r", href=replace(wanted, q="").address())
                for hit in hits:
                    with item_line(v, hit.item):
                        if not hit.fits:
                            box("small faint", v.t("memory.unfit"))
                        why(v, hit)

    await look()


async def _kept(v: Visitor, actions: MemoryActions, wanted: Wanted, places: Sequence[Place]) -> None:
    """The time line, and what is kept, the newest first."""
    months = await actions.months(v.who, wanted.of)
    rows = await actions.items(
        v.who,
        wanted.of,
        kind=wanted.kind,
        history=wanted.history,
        month=wanted.month,
        before=wanted.before or None,
        limit=PAGE,
    )
    if months:
        _line(v, months, wanted)
    if not rows:
        narrowed = wanted != Wanted(of=wanted.of)
        with empty(v.t("memory.none" if narrowed else "memory.empty"), "" if narrowed else v.t("memory.empty.hint")):
            if narrowed:
                link(v.t("memory.all"), Wanted(of=wanted.of).address())
        return
    place = next((place for place in places if place.id == wanted.of), None)
    with box("card"):
        with tag("h2", place_name(v, place) if place is not None else v.t("place.memory")):
            if place is not None:
                span(v.t("memory.holds", n=f"{place.rows:,}", facts=f"{place.facts:,}"), "r")
        for item in rows:
            item_line(v, item)
    with box("bar pages"):
        if wanted.before:
            link(v.t("memory.newest"), replace(wanted, before=0).address())
        if len(rows) == PAGE:
            link(v.t("memory.older"), replace(wanted, before=rows[-1].id).address())


def _line(v: Visitor, months: Sequence[tuple[str, int]], wanted: Wanted) -> None:
    """A bar a month; each leads to what was said in it."""
    most = max(count for _, count in months)
    shown = months[-36:]
    with box("card"):
        with tag("h2", v.t("memory.timeline")):
            if wanted.month:
                tag("a", v.t("memory.all_months"), "r", href=replace(wanted, month="", before=0).address())
        with box("months", role="list"):
            for month, count in shown:
                label = v.t("memory.month", month=month, n=count)
                with box("month", role="listitem"):
                    made = tag("a", "", "monthbar", href=replace(wanted, month=month, before=0).address())
                    made.attr(aria_label=label, title=label)
                    if month == wanted.month:
                        made.attr(aria_current="true")
                    with made:
                        span("", "fill").style(f"height:{max(4, round(56 * count / most))}px")
                    span(month[2:], "faint")


async def _add(panel: Panel, v: Visitor, actions: MemoryActions, wanted: Wanted) -> None:
    async def send(values: Values, _do: str) -> None:
        made = await actions.add(v.who, wanted.of, values["text"])
        box_.close()
        ui.navigate.to(f"/memory/row/{made}")

    with dialog(v.t("memory.add")) as box_, Form(panel, v, send, css="fields") as form:
        form.area("text", v.t("memory.add.text"), help=v.t("memory.add.help"), autofocus=True)
        with box("formend"):
            form.submit(v.t("memory.add.do"))
            box_.cancel(v)
