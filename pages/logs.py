"""`/logs`: what the program noted, the newest first, filtered, live while one looks at the newest page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from nicegui import events, ui

from pages.frame import Panel
from pages.parts.badge import badge, moment
from pages.parts.button import button
from pages.parts.copying import copy_button
from pages.parts.markup import Markup, box, span, tag
from pages.parts.state import empty, failed
from pages.visitor import Visitor
from security.logbook import Entry, LogbookActions, Wanted
from storage.errors import AppError, Invalid

SECONDS = 2.0
PAGE = 100
SHOWN = ("", "info", "warning", "error")
STATE = {"debug": "off", "info": "off", "warning": "warn", "error": "bad", "critical": "bad"}
LOGGERS = ("", "storage", "security", "agent", "channels", "routes", "pages", "nicegui", "uvicorn")
LONG = 300
_VALUE = "(e) => emit(e.target.value)"


def read_wanted(level: str, logger: str, q: str, before: str) -> Wanted:
    """From an address; what is not understood is left out."""
    number = int(before) if before.isdecimal() and len(before) < 15 else 0
    return Wanted(level=level if level in SHOWN else "", logger=logger[:60], search=q[:100], before=number)


def address(wanted: Wanted) -> str:
    """The page's address with what is not the default, to be pasted to a colleague."""
    found = {"level": wanted.level, "logger": wanted.logger, "q": wanted.search, "before": wanted.before or ""}
    query = urlencode({name: value for name, value in found.items() if value})
    return f"/logs?{query}" if query else "/logs"


def mount(panel: Panel, logbook: LogbookActions) -> None:
    """Register `/logs`."""

    @ui.page("/logs")
    async def page(level: str = "", logger: str = "", q: str = "", before: str = "") -> None:
        v = panel.enter()
        with panel.frame(v, "place.logs", place="/logs", css=("operations.css",)) as frame:
            if not panel.may(v, "log.view"):
                return
            with frame.actions:
                state = span("", "small muted", role="status")
            await LogsPage(panel, v, logbook, read_wanted(level, logger, q, before), state).build()


@dataclass
class LogsPage:
    """One open page."""

    panel: Panel
    v: Visitor
    logbook: LogbookActions
    wanted: Wanted
    state: Markup
    _seen: object = None

    async def build(self) -> None:
        """The filters, then the entries."""
        v, act = self.v, self.panel.act
        with box("bar filters"):
            self._select("level", SHOWN, self.wanted.level)
            self._select("logger", LOGGERS, self.wanted.logger)
            with box("grow", data_search=True):
                search = tag("input", "", "input", type="search", value=self.wanted.search, autocomplete="off")
            search.attr(aria_label=v.t("logs.search"), placeholder=v.t("logs.search"))
            search.on("input", act(v, self.pick, "search"), js_handler=_VALUE, throttle=0.4, leading_events=False)
        self.place = box("card logs")
        self.foot = box("bar pages")
        await self.look()
        ui.timer(SECONDS, self.tick)

    def _select(self, name: str, options: Sequence[str], chosen: str) -> None:
        v = self.v
        made = tag("select", "", "input", aria_label=v.t(f"logs.{name}"), data_testid=f"logs-{name}")
        with made:
            for value in options if chosen in options else (*options, chosen):
                key = f"logs.{name}.{value or 'all'}"
                text = v.t(key) if v.words.has(v.lang, key) else value
                tag("option", text, value=value).attr(selected=True if value == chosen else None)
        made.on("change", self.panel.act(v, self.pick, name), js_handler=_VALUE)

    async def pick(self, what: str, event: events.GenericEventArguments) -> None:
        """Another filter; the list begins at its newest again."""
        if not isinstance(event.args, str) or len(event.args) > 100:
            raise Invalid("chat.event", field=what)
        await self.go(replace(self.wanted, before=0, **{what: event.args}))

    async def go(self, wanted: Wanted) -> None:
        """Show another part."""
        self.wanted, self._seen = wanted, None
        ui.navigate.history.replace(address(wanted))
        await self.look()

    async def tick(self) -> None:
        """Look again if something was written."""
        if not self.wanted.before and self.panel.gate.alive(self.v.who):
            await self.look()

    async def look(self) -> None:
        """Read, and show what changed."""
        v, wanted = self.v, self.wanted
        try:
            stamp = await self.logbook.stamp(v.who)
            if self._seen == stamp and not wanted.before:
                return
            entries = await self.logbook.newest(v.who, wanted, limit=PAGE)
        except AppError as error:
            self.place.clear()
            with self.place:
                failed(v, error, self.panel.act(v, self.look))
            return
        if v.client.is_deleted or wanted != self.wanted:
            return
        self._seen = stamp
        self.state.set_text(v.t("logs.paused" if wanted.before else "logs.live"))
        self._show(entries)

    def _show(self, entries: Sequence[Entry]) -> None:
        v = self.v
        self.place.clear()
        with self.place:
            if not entries:
                filtered = self.wanted != Wanted()
                with empty(v.t("logs.none" if filtered else "logs.empty"), v.t("logs.empty.hint")):
                    if filtered:
                        button(v.t("logs.clear"), self.panel.act(v, self.go, Wanted()))
            for entry in entries:
                self._entry(entry)
        self.foot.clear()
        with self.foot:
            if self.wanted.before:
                button(v.t("logs.newest"), self.panel.act(v, self.go, replace(self.wanted, before=0)))
            if len(entries) == PAGE:
                older = replace(self.wanted, before=entries[-1].at)
                button(v.t("logs.older"), self.panel.act(v, self.go, older), data_testid="logs-older")

    def _entry(self, entry: Entry) -> None:
        v = self.v
        with box("line logline"):
            badge(v, STATE.get(entry.level, "off"), v.t(f"logs.level.{entry.level}") if entry.level in STATE else "")
            with box("grow"):
                if entry.error or entry.more or len(entry.message) > LONG:
                    with tag("details"):
                        tag("summary", entry.message[:LONG] or "–", "wrap")
                        self._details(entry)
                else:
                    box("wrap", entry.message or "–")
                box("small mono faint", entry.logger)
            with box("age small faint"):
                moment(v, entry.at, "exact")

    def _details(self, entry: Entry) -> None:
        v = self.v
        if len(entry.message) > LONG:
            tag("pre", entry.message, "pre")
        if entry.more:
            with tag("dl", "", "facts left"):
                for name, value in entry.more.items():
                    tag("dt", name)
                    tag("dd", value[:2000], "mono")
        if entry.error:
            tag("pre", entry.error, "pre")
        copy_button(v, "\n".join(part for part in (entry.message, entry.error) if part))
