"""The page of one schedule: what it does, when next, how it went, and what may be done with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

from nicegui import ui

from agent.schedules.actions import ScheduleActions
from agent.schedules.views import CUT, RunView, ScheduleView
from agent.schedules.words import span_of
from pages.frame import Frame, Panel
from pages.parts.badge import duration, moment
from pages.parts.button import button, link
from pages.parts.chart import ACCENT, BAD, axes, bars, chart, numbers
from pages.parts.dialog import confirm
from pages.parts.figure import figure
from pages.parts.folds import Folds
from pages.parts.markup import box, span, tag
from pages.parts.state import empty, note
from pages.schedule_dry import show_dry
from pages.schedule_parts import HERE, run_badge, state_badge, time_list, told_badge, when, why
from pages.visitor import Visitor, explain

Redraw = Callable[[], Awaitable[None]]
SECONDS = 3.0
CHARTED = 40
PAGE = 20


async def one_page(panel: Panel, v: Visitor, schedules: ScheduleActions, frame: Frame, name: str) -> None:
    """Everything about one schedule. Raises `NotFound`."""
    row = await schedules.views.get(v.who, name)
    panel.title(v, row.name)
    tag("a", v.t("schedules.back"), "ic ic-back backlink", href=HERE)
    place = box("stack")
    results = box("results stack", role="status")
    history = History(panel, v, schedules, name)

    async def show() -> None:
        row = await schedules.views.get(v.who, name)
        times = await schedules.views.preview(v.who, row.draft.expression, row.draft.zone) if row.state == "on" else []
        if v.client.is_deleted:
            return
        place.clear()
        with place:
            _head(panel, v, schedules, row, refresh, results)
            _figures(v, row)
            with box("grid2"):
                _what(v, row)
                _next(v, row, times)

    async def refresh() -> None:
        await show()
        await history.show()

    async def look() -> None:
        if await history.changed():
            await refresh()

    await show()
    await history.show()
    ui.timer(SECONDS, look, immediate=False)


def _head(
    panel: Panel, v: Visitor, schedules: ScheduleActions, row: ScheduleView, refresh: Redraw, results: ui.element
) -> None:
    with box("bar schedule-head"):
        tag("h2", row.name, "formtitle")
        state_badge(v, row)
        span(v.t(f"schedules.kind.{row.draft.kind}"), "tag")
        box("sp")
        _acts(panel, v, schedules, row, refresh, results)
    if row.state == "waits":
        with note("warn", v.t("schedules.waiting.one")):
            pass
    if row.state == "paused" and row.paused_why:
        what, remedy = explain(v.words, v.lang, row.paused_why, {"name": row.owner_name, "right": "schedule.manage"})
        note("bad", v.sentence(what, remedy))
    if row.managed_by:
        note("off", v.t("schedules.from_file", file=row.managed_by))


def _acts(
    panel: Panel, v: Visitor, schedules: ScheduleActions, row: ScheduleView, refresh: Redraw, results: ui.element
) -> None:
    async def run() -> None:
        await schedules.run_now(v.who, row.name)
        panel.say(v, v.t("schedules.started", name=row.name))
        await refresh()

    async def dry() -> None:
        tried = await schedules.dry_run(v.who, row.draft, name=row.name)
        results.clear()
        with results:
            show_dry(v, tried)

    async def pause() -> None:
        await schedules.pause(v.who, row.name, paused=row.state != "paused")
        await refresh()

    async def allow() -> None:
        await schedules.allow(v.who, row.name)
        panel.say(v, v.t("schedules.allowed", name=row.name))
        await refresh()

    async def remove() -> None:
        await schedules.remove(v.who, row.name)
        ui.navigate.to(HERE)

    async def ask() -> None:
        title, text = v.t("schedules.remove.ask", name=row.name), v.t("schedules.remove.what")
        confirm(panel, v, title=title, text=text, act=v.t("schedules.remove"), handler=remove, name=row.name)

    manage = v.who.may("schedule.manage")
    if row.state == "waits" and manage:
        button(v.t("schedules.allow"), panel.act(v, allow), "pri")
    elif v.who.may("schedule.run"):
        button(v.t("schedules.run_now"), panel.act(v, run), "pri")
    if not manage:
        return
    button(v.t("schedules.dry"), panel.act(v, dry))
    button(v.t("schedules.resume" if row.state == "paused" else "schedules.pause"), panel.act(v, pause))
    if not row.managed_by and not row.from_chat:
        link(v.t("schedules.edit"), f"{HERE}?edit={quote(row.name)}")
    if not row.managed_by:
        button(v.t("schedules.remove"), panel.act(v, ask), "danger")


def _figures(v: Visitor, row: ScheduleView) -> None:
    with box("grid3"):
        share = "–" if row.success is None else f"{100 * row.success:.1f}"
        unit = "" if row.success is None else "%"
        figure(v.t("schedules.col.success"), share, unit, v.t("schedules.runs", n=row.runs))
        took = duration(row.last.ms if row.last is not None else None).split(" ", 1)
        figure(v.t("schedules.took"), took[0], took[1] if len(took) > 1 else "", v.t("schedules.took.last"))
        figure(v.t("schedules.failures"), str(row.failures), "", v.t("schedules.failures.row"))


def _what(v: Visitor, row: ScheduleView) -> None:
    draft = row.draft
    with box("card"):
        tag("h2", v.t("schedules.what"))
        with tag("dl", "", "facts schedule-facts"):
            _fact(v, "when")
            with tag("dd"):
                when(v, row)
            if draft.kind == "command":
                _fact(v, "command", draft.task.command, "mono")
            elif draft.kind == "http":
                _fact(v, "call", f"{draft.task.method} {draft.task.url}", "mono")
            elif draft.kind == "workflow":
                _fact(v, "steps", str(draft.task.steps.count("- id:")))
            else:
                _fact(v, "text", draft.task.text[:300])
            told = " · ".join(part for part in (draft.bot, "" if row.from_chat else draft.target) if part)
            _fact(v, "told", told or v.t("schedules.told.nobody"))
            _fact(v, "owner", row.owner_name)
            _fact(v, "missed", v.t(f"schedules.missed.{draft.missed}"))
            _fact(v, "overlap", v.t(f"schedules.overlap.{draft.overlap}"))
            _fact(v, "retries", v.t("schedules.retries.fact", n=draft.retries, timeout=span_of(draft.timeout)))
            if draft.expires_at is not None:
                _fact(v, "expires")
                with tag("dd"):
                    moment(v, draft.expires_at, "exact")


def _fact(v: Visitor, name: str, value: str = "", css: str = "") -> None:
    tag("dt", v.t(f"schedules.fact.{name}"))
    if value:
        tag("dd", value, css)


def _next(v: Visitor, row: ScheduleView, times: Sequence[int]) -> None:
    with box("card"):
        tag("h2", v.t("schedules.next"))
        if not times:
            tag("p", v.t(f"schedules.next.{row.state}"), "muted")
            return
        time_list(v, times, row.draft.zone)


class History:
    """Runs, latest first, kept up to date while one is under way, and how long they took."""

    def __init__(self, panel: Panel, v: Visitor, schedules: ScheduleActions, name: str) -> None:
        self.panel, self.v, self.schedules, self.name = panel, v, schedules, name
        self.place = box("stack")
        self._seen: tuple[object, ...] = ()
        self._folds = Folds()
        self._count = PAGE

    async def changed(self) -> bool:
        """True if something has happened since it was drawn."""
        runs = await self.schedules.views.runs(self.v.who, self.name, limit=self._count)
        return _mark(runs) != self._seen

    async def show(self) -> None:
        """Draw the chart and the runs."""
        v = self.v
        runs = await self.schedules.views.runs(v.who, self.name, limit=max(self._count, CHARTED))
        if v.client.is_deleted:
            return
        self._seen = _mark(runs[: self._count])
        self.place.clear()
        with self.place:
            if not runs:
                empty(v.t("schedules.history.empty"), v.t("schedules.history.empty.hint"))
                return
            _chart(v, [run for run in runs[:CHARTED] if run.ms is not None], self._folds)
            with box("card"):
                tag("h2", v.t("schedules.history"))
                for run in runs[: self._count]:
                    self._run(run)
                if len(runs) > self._count or len(runs) == self._count:
                    button(v.t("schedules.history.more"), self.panel.act(v, self._more), "quiet")

    async def _more(self) -> None:
        self._count = min(200, self._count + PAGE)
        await self.show()

    def _run(self, run: RunView) -> None:
        v = self.v
        with box("runrow"):
            with box("line"):
                run_badge(v, run)
                with box("grow small"), box("bar muted"):
                    moment(v, run.planned_at, "exact")
                    if run.ms is not None:
                        span(duration(run.ms))
                    if run.attempt > 1:
                        span(v.t("schedules.attempt", n=run.attempt))
                    if run.cause == "person":
                        span(v.t("schedules.by", name=run.by))
                    if run.state == "waiting" and run.retry_at is not None:
                        with span(v.t("schedules.again")):
                            moment(v, run.retry_at)
                told_badge(v, run)
                if run.state in ("queued", "running", "waiting") and v.who.may("schedule.run"):
                    button(v.t("schedules.cancel"), self.panel.act(v, self._cancel, run.id), "small")
                if run.job_id is not None and v.who.may("trace.view"):
                    link(v.t("schedules.trace"), f"/trace/{run.job_id}", "small quiet")
            what, remedy = why(v, run)
            if what:
                box("small", what)
                box("small muted", remedy)
            if run.output:
                self._output(run)

    def _output(self, run: RunView) -> None:
        v = self.v

        async def opened() -> None:
            whole = await self.schedules.views.run(v.who, run.id)
            if not text.is_deleted:
                text.set_text(whole.output)

        with self._folds.fold(f"run {run.id}", "more") as details:
            tag("summary", v.t("schedules.output"), "small")
            text = tag("pre", run.output, "pre output")
        if len(run.output) >= CUT:
            details.on("toggle", self.panel.act(v, opened))

    async def _cancel(self, run_id: int) -> None:
        await self.schedules.cancel(self.v.who, run_id)
        await self.show()


def _mark(runs: Sequence[RunView]) -> tuple[object, ...]:
    return tuple((run.id, run.state, run.attempt, run.delivery) for run in runs)


def _chart(v: Visitor, runs: Sequence[RunView], folds: Folds) -> None:
    if len(runs) < 2:
        return
    ordered = list(reversed(runs))
    good = [(run.planned_at, (run.ms or 0) / 1000 if run.state == "ok" else None) for run in ordered]
    bad = [(run.planned_at, (run.ms or 0) / 1000 if run.state != "ok" else None) for run in ordered]
    options = axes(unit=" s") | {
        "series": [
            bars(v.t("schedules.run.ok"), good, ACCENT),
            bars(v.t("schedules.run.failed"), bad, BAD),
        ]
    }
    with box("card charts-one"):
        tag("h2", v.t("schedules.chart"))
        chart(v, v.t("schedules.chart"), options)
        heads = (v.t("schedules.col.planned"), v.t("schedules.col.state"), v.t("schedules.took"))
        rows = [(run.planned_at, v.t(f"schedules.run.{run.state}", n=run.count), duration(run.ms)) for run in ordered]
        numbers(v, heads, rows, folds.fold("chart"))
