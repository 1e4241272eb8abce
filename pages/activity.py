"""`/activity`: what is running, and what ran?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlencode

from nicegui import events, ui

from agent.open_tasks import OpenTasks
from agent.trace import TraceActions
from pages.activity_now import Now
from pages.activity_table import ActivityTable, row_view
from pages.figures import activity_views
from pages.frame import Panel
from pages.parts.button import button, link
from pages.parts.markup import Markup, box, span, tag
from pages.parts.state import empty, failed
from pages.visitor import Visitor
from storage.errors import AppError, Invalid

SECONDS = 2.0
PAGE = 40
DELIVERIES = ("", "failed", "unknown", "pending")
STATUSES = ("", "open", "waiting", "done", "failed", "refused", "cancelled")
_VALUE = "(e) => emit(e.target.value)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """What is listed; stands in the address, so that it can be pasted to a colleague."""

    status: str = ""
    delivery: str = ""
    bot: str = ""
    search: str = ""
    before: int | None = None

    @property
    def address(self) -> str:
        """The page's address with what is not the default."""
        found = {
            "status": self.status,
            "delivery": self.delivery,
            "bot": self.bot,
            "q": self.search,
            "before": self.before or "",
        }
        query = urlencode({name: value for name, value in found.items() if value})
        return f"/activity?{query}" if query else "/activity"


def read_filter(status: str, bot: str, q: str, before: str, delivery: str = "") -> Filter:
    """From an address; what is not understood is left out."""
    number = int(before) if before.isdecimal() and len(before) < 19 else None
    return Filter(
        status=status if status in STATUSES else "",
        delivery=delivery if delivery in DELIVERIES else "",
        bot=bot[:80],
        search=q[:100],
        before=number,
    )


def mount(panel: Panel, trace: TraceActions, tasks: OpenTasks) -> None:
    """Register /activity. Called once by app.py with what the page uses."""

    @ui.page("/activity")
    async def page(status: str = "", bot: str = "", q: str = "", before: str = "", delivery: str = "") -> None:
        v = panel.enter()
        with panel.frame(v, "activity.title", place="/activity", css=("trace.css", "operations.css")) as frame:
            if not panel.may(v, "trace.view"):
                return
            with frame.actions:
                state = span("", "small muted", role="status")
            activity_views(v, "/activity")
            shown = ActivityPage(panel, v, trace, tasks, read_filter(status, bot, q, before, delivery), state)
            await shown.build()


class ActivityPage:
    """One open list. The newest page is read again every two seconds; older ones stand still."""

    def __init__(
        self, panel: Panel, v: Visitor, trace: TraceActions, tasks: OpenTasks, chosen: Filter, state: Markup
    ) -> None:
        self.panel, self.v, self.trace, self.chosen, self.state = panel, v, trace, chosen, state
        self.tasks = tasks
        self.bots: list[str] = [chosen.bot] if chosen.bot else []
        self.table: ActivityTable | None = None
        self._rows: list[dict[str, object]] | None = None

    async def build(self) -> None:
        """The filters, then the list."""
        v, act = self.v, self.panel.act
        self.now = Now(self.panel, v, self.tasks, self.stop)
        with box("bar filters"):
            self.status = tag("select", "", "input", aria_label=v.t("activity.status"), data_testid="activity-status")
            with self.status:
                for name in STATUSES:
                    key = "activity.status.all" if not name else f"activity.status.{name}"
                    text = v.t(key) if v.words.has(v.lang, key) else v.t(f"task.state.{name}")
                    tag("option", text, value=name).attr(selected=True if name == self.chosen.status else None)
            self.status.on("change", act(v, self.pick, "status"), js_handler=_VALUE)
            self.sent = tag("select", "", "input", aria_label=v.t("activity.delivery"), data_testid="activity-delivery")
            with self.sent:
                for name in DELIVERIES:
                    text = v.t(f"delivery.state.{name}" if name else "activity.delivery.all")
                    tag("option", text, value=name).attr(selected=True if name == self.chosen.delivery else None)
            self.sent.on("change", act(v, self.pick, "delivery"), js_handler=_VALUE)
            self.bot = tag("select", "", "input", aria_label=v.t("activity.bot"), data_testid="activity-bot")
            self.bot.on("change", act(v, self.pick, "bot"), js_handler=_VALUE)
            with box("grow", data_search=True):
                self.search = tag("input", "", "input", type="search", value=self.chosen.search, autocomplete="off")
            self.search.attr(aria_label=v.t("activity.search"), placeholder=v.t("activity.search"))
            self.search.on("input", act(v, self.pick, "search"), js_handler=_VALUE, throttle=0.4, leading_events=False)
        self.place = box("card")
        self.foot = box("bar pages")
        await self.look()
        ui.timer(SECONDS, self.tick)

    async def pick(self, what: str, event: events.GenericEventArguments) -> None:
        """Another filter; the list begins at its newest again."""
        if not isinstance(event.args, str) or len(event.args) > 100:
            raise Invalid("chat.event", field=what)
        if event.args not in {"status": STATUSES, "delivery": DELIVERIES}.get(what, (event.args,)):
            raise Invalid("chat.event", field=what)
        await self.go(replace(self.chosen, before=None, **{what: event.args}))

    async def go(self, chosen: Filter) -> None:
        """Show another part of the list."""
        self.chosen, self._rows, self.table = chosen, None, None
        ui.navigate.history.replace(chosen.address)
        await self.look()

    async def tick(self) -> None:
        """Read the newest page again."""
        if not self.panel.gate.alive(self.v.who):
            return
        await self.now.look()
        if self.chosen.before is None:
            await self.look()

    async def look(self) -> None:
        """Read, and show what changed."""
        v, chosen = self.v, self.chosen
        try:
            found = await self.trace.recent(
                v.who,
                limit=PAGE,
                before=chosen.before,
                status=chosen.status,
                delivery=chosen.delivery,
                bot=chosen.bot,
                search=chosen.search,
            )
        except AppError as error:
            if self._rows is None:
                self.place.clear()
                with self.place:
                    failed(v, error, self.panel.act(v, self.look))
            self.state.set_text(v.explain(error)[0])
            return
        if v.client.is_deleted or chosen != self.chosen:
            return
        rows = [row_view(v, row) for row in found]
        self._bots({row.bot for row in found if row.bot})
        self.state.set_text(v.t("activity.live" if chosen.before is None else "activity.paused"))
        if rows != self._rows:
            self._show(rows)

    def _show(self, rows: list[dict[str, object]]) -> None:
        v, fresh = self.v, self._rows is None
        self._rows = rows
        if self.table is not None and rows:
            self.table.take(rows)
        else:
            self.place.clear()
            self.table = None
            with self.place:
                if rows:
                    may = v.who.may("task.manage")
                    self.table = ActivityTable(v, rows, may_cancel=may, on_cancel=self.panel.act(v, self.cancel))
                else:
                    self._nothing()
        if fresh or len(rows) < PAGE:
            self._pages(rows)

    def _nothing(self) -> None:
        v = self.v
        if self.chosen == Filter():
            with empty(v.t("activity.empty"), v.t("activity.empty.hint")):
                link(v.t("activity.empty.act"), "/chat", "pri")
            return
        with empty(v.t("activity.none"), v.t("activity.none.hint")):
            button(v.t("activity.clear"), self.panel.act(v, self.reset))

    async def reset(self) -> None:
        """No filter."""
        for made, value in ((self.status, ""), (self.sent, ""), (self.bot, ""), (self.search, "")):
            made.attr(value=value)
        await self.go(Filter())

    def _pages(self, rows: list[dict[str, object]]) -> None:
        v = self.v
        self.foot.clear()
        with self.foot:
            if self.chosen.before is not None:
                button(v.t("activity.newest"), self.panel.act(v, self.go, replace(self.chosen, before=None)))
            if len(rows) == PAGE:
                button(v.t("activity.older"), self.panel.act(v, self.older), data_testid="activity-older")

    async def older(self) -> None:
        """The page after the last row that is shown now."""
        last = self._rows[-1]["id"] if self._rows else None
        if isinstance(last, int):
            await self.go(replace(self.chosen, before=last))

    def _bots(self, seen: set[str]) -> None:
        """Every bot met so far can be chosen."""
        new = [*self.bots, *sorted(seen - set(self.bots))][:100]
        if new == self.bots and self.bot.default_slot.children:
            return
        self.bots = new
        self.bot.clear()
        with self.bot:
            tag("option", self.v.t("activity.bot.all"), value="")
            for name in new:
                shown = self.v.t("place.chat") if name == "web" else name
                tag("option", shown, value=name).attr(selected=True if name == self.chosen.bot else None)

    async def cancel(self, event: events.GenericEventArguments) -> None:
        """Stop a task of the list."""
        if isinstance(event.args, bool) or not isinstance(event.args, int) or not 0 < event.args < 2**62:
            raise Invalid("chat.event", field="id")
        await self.stop(event.args)

    async def stop(self, number: int) -> None:
        """End a task; its sender is told."""
        done = await self.trace.cancel(self.v.who, number)
        self.panel.say(self.v, self.v.t("activity.cancelled" if done else "activity.ended"))
        await self.now.look()
        await self.look()
