"""`/memory/knowledge`: documents that answers are made from: upload, progress, replace, index anew, delete."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import events, ui

from agent.memory.knowledge import DocumentRow, Knowledge
from agent.memory.parsers.sniff import SUFFIXES
from pages.frame import Panel
from pages.memory_words import memory_views
from pages.parts.badge import badge, moment
from pages.parts.button import button
from pages.parts.dialog import confirm
from pages.parts.download import byte_size
from pages.parts.markup import Markup, box, span, tag
from pages.parts.state import empty, failed
from pages.parts.upload import upload
from pages.visitor import Visitor, explain
from security.markdown import visible
from storage.errors import AppError, Invalid, TooLarge

HERE = "/memory/knowledge"
SECONDS = 1.0
STATE = {"waiting": "run", "parsing": "run", "indexing": "run", "ready": "ok", "failed": "bad"}
PAGE = 50
_VALUE = "(e) => emit(e.target.value)"
ACCEPT = ",".join(SUFFIXES)


def mount(panel: Panel, knowledge: Knowledge) -> None:
    """Register `/memory/knowledge`."""

    @ui.page(HERE)
    async def page() -> None:
        v = panel.enter()
        with panel.frame(v, "knowledge.title", place="/memory", css=("memory.css",)):
            if not panel.may(v, "knowledge.manage"):
                return
            memory_views(v, HERE)
            tag("p", v.t("knowledge.lead"), "lead")
            await KnowledgePage(panel, v, knowledge).build()


class KnowledgePage:
    """One open page; the list is read again every second while something is going on."""

    def __init__(self, panel: Panel, v: Visitor, knowledge: Knowledge) -> None:
        self.panel, self.v, self.knowledge = panel, v, knowledge
        self.bot, self.search, self.page = "", "", 0
        self._seen: Sequence[DocumentRow] | None = None

    async def build(self) -> None:
        """Upload and filter, then the list."""
        v, act = self.v, self.panel.act
        bots = await self.knowledge.bots(v.who)
        with box("card"), box("bar filters"):
            if bots:
                with box("field"):
                    tag("label", v.t("knowledge.for"), for_="knowledge-for")
                    with tag("select", "", "input", id="knowledge-for") as made:
                        tag("option", v.t("knowledge.for.all"), value="")
                        for name in bots:
                            tag("option", v.t("knowledge.for.bot", name=name), value=name)
                    made.on("change", act(v, self._choose), js_handler=_VALUE)
            upload(
                self.panel,
                v,
                v.t("knowledge.upload"),
                self._arrived,
                most=self.knowledge.limits.bytes,
                accept=ACCEPT,
                multiple=True,
                refused=self._refused,
            )
            span(v.t("knowledge.kinds", most=self.knowledge.limits.bytes // 1_000_000), "small muted")
        with box("bar filters"), box("grow", data_search=True):
            search = tag("input", "", "input", type="search", autocomplete="off")
            search.attr(aria_label=v.t("knowledge.search"), placeholder=v.t("knowledge.search"))
            search.on(
                "input",
                act(v, self._find),
                js_handler=_VALUE,
                throttle=0.3,
                leading_events=False,
            )
        self.place = box("stack")
        await self.look()
        ui.timer(SECONDS, self.look)

    async def _choose(self, event: events.GenericEventArguments) -> None:
        self.bot = _text(event)

    async def _find(self, event: events.GenericEventArguments) -> None:
        self.search, self.page, self._seen = _text(event).strip().lower(), 0, None
        await self.look()

    async def _refused(self) -> None:
        raise TooLarge("knowledge.bytes", most=self.knowledge.limits.bytes // 1_000_000)

    async def _arrived(self, name: str, event: events.UploadEventArguments) -> None:
        if event.file.size() > self.knowledge.limits.bytes:
            await self._refused()
        await self.knowledge.add(self.v.who, name, await event.file.read(), bot=self.bot)
        await self.look()

    async def look(self) -> None:
        """Read, and draw what changed."""
        v = self.v
        if not self.panel.gate.alive(v.who):
            return
        try:
            rows = await self.knowledge.list(v.who)
        except AppError as error:
            self.place.clear()
            with self.place:
                failed(v, error, self.panel.act(v, self.look))
            return
        if v.client.is_deleted or rows == self._seen:
            return
        self._seen = rows
        self._draw(rows)

    def _draw(self, rows: Sequence[DocumentRow]) -> None:
        v = self.v
        found = [row for row in rows if self.search in row.name.lower()]
        shown = found[self.page * PAGE : (self.page + 1) * PAGE]
        self.place.clear()
        with self.place:
            if not shown:
                empty(v.t("knowledge.none" if rows else "knowledge.empty"), "" if rows else v.t("knowledge.empty.hint"))
                return
            with box("card"):
                with tag("h2", v.t("knowledge.documents")):
                    span(v.t("knowledge.count", n=f"{len(found):,}"), "r")
                for row in shown:
                    self._row(row)
            if len(found) > PAGE:
                with box("bar pages"):
                    if self.page:
                        button(v.t("memory.newest"), self.panel.act(v, self._turn, -1))
                    if len(found) > (self.page + 1) * PAGE:
                        button(v.t("memory.older"), self.panel.act(v, self._turn, 1))

    async def _turn(self, by: int) -> None:
        self.page, self._seen = max(0, self.page + by), None
        await self.look()

    def _row(self, row: DocumentRow) -> None:
        v = self.v
        with box("line"):
            badge(v, STATE[row.status], v.t(f"knowledge.state.{row.status}"))
            with box("grow"):
                with box("bar"):
                    span(visible(row.name), "strong wrap")
                    if row.bot:
                        span(v.t("knowledge.for.bot", name=row.bot), "tag")
                    if row.version > 1:
                        span(v.t("knowledge.version", n=row.version), "tag")
                with box("small muted bar"):
                    span(byte_size(row.size))
                    if row.chunks:
                        span(v.t("knowledge.pieces", n=f"{row.chunks:,}"))
                    moment(v, row.updated_at)
                _progress(v, row)
                if row.status == "failed":
                    what, remedy = explain(v.words, v.lang, row.error, row.params)
                    box("small bad-text", what)
                    box("small muted", remedy)
            self._acts(row)

    def _acts(self, row: DocumentRow) -> None:
        v, act = self.v, self.panel.act

        async def anew() -> None:
            await self.knowledge.reindex(v.who, row.id)
            await self.look()

        async def remove() -> None:
            await self.knowledge.remove(v.who, row.id)
            await self.look()

        async def ask() -> None:
            confirm(
                self.panel,
                v,
                title=v.t("knowledge.remove.ask", name=visible(row.name)),
                text=v.t("knowledge.remove.what"),
                act=v.t("knowledge.remove"),
                handler=remove,
            )

        async def take() -> None:
            name, path = await self.knowledge.file_of(v.who, row.id)
            with v.client:
                ui.download.file(path, name)

        with box("bar acts"):
            label = visible(row.name)
            button(v.t("knowledge.take"), act(v, take), "small", aria_label=f"{v.t('knowledge.take')}: {label}")
            button(v.t("knowledge.anew"), act(v, anew), "small", aria_label=f"{v.t('knowledge.anew')}: {label}")
            button(
                v.t("knowledge.remove"), act(v, ask), "small danger", aria_label=f"{v.t('knowledge.remove')}: {label}"
            )


def _progress(v: Visitor, row: DocumentRow) -> Markup | None:
    """How far it is: pages while it is read, vectors while it is indexed."""
    if row.status == "parsing" and row.pages:
        done, of, text = row.done, row.pages, v.t("knowledge.read", done=row.done, of=row.pages)
    elif row.status == "indexing":
        done, of = row.vectors, row.chunks
        text = v.t("knowledge.indexed", done=f"{row.vectors:,}", of=f"{row.chunks:,}")
    else:
        return None
    with box("small muted") as made:
        span(text)
        tag("progress", "", "bar-line", max=str(of), value=str(done), aria_label=text)
    return made


def _text(event: events.GenericEventArguments) -> str:
    if not isinstance(event.args, str) or len(event.args) > 200:
        raise Invalid("knowledge.name", field="file")
    return event.args
