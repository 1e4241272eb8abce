"""`/memory/forget`: forget by search, source, time or person; what would go is shown first."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from nicegui import ui

from agent.memory.actions import MINE, MemoryActions
from agent.memory.forget import Preview, Wish
from pages.frame import Panel
from pages.memory_words import KINDS, memory_views, place_select
from pages.parts.badge import moment
from pages.parts.button import button
from pages.parts.dialog import confirm
from pages.parts.markup import Markup, box, span, tag
from pages.parts.state import empty, failed, note
from pages.visitor import Visitor
from security.markdown import visible
from storage.errors import AppError, Invalid

HERE = "/memory/forget"
WAYS = ("query", "time", "source", "person", "everything")


def mount(panel: Panel, actions: MemoryActions) -> None:
    """Register `/memory/forget`."""

    @ui.page(HERE)
    async def page(of: str = "", by: str = "query", what: str = "", since: str = "", until: str = "") -> None:
        v = panel.enter()
        with panel.frame(v, "place.memory", place="/memory", css=("memory.css",)):
            if not panel.may(v, "memory.own"):
                return
            memory_views(v, HERE)
            tag("p", v.t("memory.forget.lead"), "lead")
            place = int(of) if of.isdecimal() and len(of) < 15 else MINE
            by = by if by in WAYS else "query"
            await _form(v, actions, place, by, what[:500], since[:10], until[:10])
            shown = box("stack")
            if what or since or until or (by == "everything" and of):
                with shown:
                    try:
                        wish = read_wish(actions.memory.zone, by, what.strip()[:500], since, until)
                        await _dry_run(panel, v, actions, place, wish, shown)
                    except AppError as error:
                        failed(v, error)


def read_wish(zone: ZoneInfo, by: str, what: str, since: str, until: str) -> Wish:
    """What an address asks to forget.

    Raises:
        Invalid: `memory.day`, not a day.
    """
    if by == "time":
        return Wish(since=_day(zone, since, "since"), until=_day(zone, until, "until", end=True))
    if by == "source":
        return Wish(source=what)
    if by == "person":
        return Wish(person=what)
    return Wish(everything=True) if by == "everything" else Wish(query=what)


def _day(zone: ZoneInfo, text: str, field: str, *, end: bool = False) -> int:
    if not text:
        return 0
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=zone)
    except ValueError:
        raise Invalid("memory.day", field=field) from None
    return int((day.replace(hour=23, minute=59, second=59) if end else day).timestamp() * 1000)


async def _form(v: Visitor, actions: MemoryActions, place: int, by: str, what: str, since: str, until: str) -> None:
    places = await actions.places(v.who)
    manage = v.who.may("memory.manage")
    with box("card"):
        with tag("nav", "", "segments", aria_label=v.t("memory.forget.by")):
            for way in WAYS if manage else (w for w in WAYS if w != "person"):
                query = urlencode({"by": way, **({"of": place} if place else {})})
                made = tag("a", v.t(f"memory.forget.by.{way}"), "seg", href=f"{HERE}?{query}")
                if way == by:
                    made.attr(aria_current="true")
        with tag("form", "", "bar filters forget", method="get", action=HERE):
            tag("input", type="hidden", name="by", value=by)
            if by != "person" and len(places) > 1:
                with box("field"):
                    tag("label", v.t("memory.of"), for_="forget-of")
                    place_select(v, places, place).attr(id="forget-of")
            elif by == "everything":
                tag("input", type="hidden", name="of", value="0")
            if by == "time":
                for name, value in (("since", since), ("until", until)):
                    with box("field"):
                        tag("label", v.t(f"memory.forget.{name}"), for_=f"forget-{name}")
                        tag("input", "", "input", type="date", name=name, value=value, id=f"forget-{name}")
            elif by != "everything":
                with box("field grow"):
                    tag("label", v.t(f"memory.forget.{by}"), for_="forget-what")
                    tag(
                        "input", "", "input", type="text", name="what", value=what, id="forget-what", autocomplete="off"
                    )
            tag("button", v.t("memory.forget.look"), "btn pri", type="submit")
        tag("p", v.t(f"memory.forget.by.{by}.what"), "small muted")


async def _dry_run(panel: Panel, v: Visitor, actions: MemoryActions, place: int, wish: Wish, shown: Markup) -> None:
    preview = await actions.preview(v.who, place, wish)
    if not preview.total and not preview.messages:
        empty(v.t("memory.forget.none"))
        return

    async def go() -> None:
        gone = await actions.forget(v.who, place, wish)
        shown.clear()
        with shown:
            note("ok", v.t("memory.forget.done", n=gone.total, messages=gone.messages))

    async def ask() -> None:
        confirm(
            panel,
            v,
            title=v.t("memory.forget.sure", n=preview.total),
            text=v.t("memory.forget.sure.what", messages=preview.messages),
            act=v.t("memory.forget.do"),
            handler=go,
            name=str(preview.total),
        )

    with box("card"):
        with tag("h2", v.t("memory.forget.would", n=f"{preview.total:,}")):
            span(v.t("memory.forget.messages", messages=f"{preview.messages:,}"), "r")
        _counts(v, preview)
        for sample in preview.samples:
            with box("line"), box("grow"):
                box("wrap", visible(sample.text))
                with box("small muted bar"):
                    span(v.t(f"memory.kind.{sample.kind}"), "tag")
                    span(visible(sample.speaker))
                    moment(v, sample.at or None)
        if preview.total > len(preview.samples):
            tag("p", v.t("memory.forget.more", n=f"{preview.total - len(preview.samples):,}"), "small muted")
        with box("formend"):
            button(v.t("memory.forget.these", n=f"{preview.total:,}"), panel.act(v, ask), "danger")
        tag("p", v.t("memory.forget.backups"), "small muted")


def _counts(v: Visitor, preview: Preview) -> None:
    with box("bar"):
        for kind in (*KINDS, "chunk"):
            if preview.counts.get(kind):
                span(f"{v.t(f'memory.kind.{kind}')} {preview.counts[kind]:,}", "tag")
