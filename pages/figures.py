"""`/activity/figures`: how did it go, against the targets, over time, by bot, model and job?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from nicegui import ui

from agent.figures import BACKLOG, OWN_MS, SPANS, SUCCESS, FigureActions, Figures, Group
from agent.trace import OverviewView
from pages.frame import Panel
from pages.parts.badge import badge, duration
from pages.parts.chart import ACCENT, BAD, SECOND, axes, bars, chart, curve, numbers
from pages.parts.folds import Folds
from pages.parts.markup import box, span, tag
from pages.parts.segments import segments
from pages.parts.state import empty
from pages.parts.views import views
from pages.visitor import Visitor, explain
from storage.principal import Principal

SECONDS = 15.0
BY = ("bots", "models", "jobs")
Overview = Callable[[Principal], Awaitable[OverviewView]]


def activity_views(v: Visitor, here: str) -> None:
    """The two views of the activity pages."""
    items = [("/activity", v.t("activity.view.tasks")), ("/activity/figures", v.t("activity.view.figures"))]
    views(v.t("activity.views"), items, here)


def mount(panel: Panel, figures: FigureActions, overview: Overview) -> None:
    """Register `/activity/figures`. `overview` tells how many tasks wait now."""

    @ui.page("/activity/figures")
    async def page(hours: str = "24") -> None:
        v = panel.enter()
        with panel.frame(v, "figures.title", place="/activity", css=("operations.css",)):
            if not panel.may(v, "overview.view"):
                return
            activity_views(v, "/activity/figures")
            wanted = int(hours) if hours.isdecimal() and len(hours) < 5 and int(hours) in SPANS else 24
            await FiguresPage(panel, v, figures, overview, wanted).build()


class FiguresPage:
    """One open page, drawn anew every fifteen seconds if something changed."""

    def __init__(self, panel: Panel, v: Visitor, figures: FigureActions, overview: Overview, hours: int) -> None:
        self.panel, self.v, self.figures, self.overview, self.hours = panel, v, figures, overview, hours
        self.by, self.folds = BY[0], Folds()
        self._seen: object = None

    async def build(self) -> None:
        """The span, then figures and charts."""
        v = self.v
        with box("spanbar"):
            options = [(str(hours), v.t(f"figures.span.{hours}")) for hours in SPANS]
            segments(self.panel, v, v.t("figures.span"), options, str(self.hours), self.pick)
        self.place = box()
        await self.look()
        ui.timer(SECONDS, self.tick, immediate=False)

    async def pick(self, hours: str) -> None:
        """Another span."""
        self.hours, self._seen = int(hours), None
        ui.navigate.history.replace(f"/activity/figures?hours={hours}")
        await self.look()

    async def choose(self, by: str) -> None:
        """Another grouping."""
        self.by, self._seen = by, None
        await self.look()

    async def tick(self) -> None:
        """Look again."""
        if self.panel.gate.alive(self.v.who):
            await self.look()

    async def look(self) -> None:
        """Read, and draw what changed."""
        v = self.v
        found, waiting = await self.figures.figures(v.who, self.hours), (await self.overview(v.who)).backlog
        seen = (found.done, found.failed, found.own_mean, waiting, self.by, self.hours)
        if seen == self._seen or v.client.is_deleted:
            return
        self._seen = seen
        self.place.clear()
        with self.place:
            self._figures(found, waiting)
            if not found.done + found.failed:
                empty(v.t("figures.empty"), v.t("figures.empty.hint"))
                return
            with box("charts"):
                self._course(found)
                self._own(found)
                self._groups(found)
                self._reasons(found)
            if found.cut:
                tag("p", v.t("figures.cut"), "small muted")

    def _figures(self, found: Figures, waiting: int) -> None:
        v, count = self.v, found.done + found.failed
        success = found.success
        with box("grid4"):
            share = "–" if success is None else f"{100 * success:.1f}"
            _figure(v, "success", share, "%", None if success is None else success >= SUCCESS, n=count)
            mean = duration(found.own_mean).split(" ")
            good = None if found.own_mean is None else found.own_mean < OWN_MS
            _figure(v, "own", mean[0], " ".join(mean[1:]), good)
            tail = duration(found.own_p95).split(" ")
            _figure(v, "p95", tail[0], " ".join(tail[1:]), None, queue=duration(found.queue_p95))
            _figure(v, "backlog", str(waiting), "", waiting < BACKLOG)

    def _course(self, found: Figures) -> None:
        v = self.v
        title = v.t("figures.course", n=found.done + found.failed, failed=found.failed)
        with box("card"):
            tag("h2", title)
            made = axes()
            made["series"] = [
                bars(v.t("figures.done"), [(slot.at, slot.done) for slot in found.slots], ACCENT),
                bars(v.t("figures.failed"), [(slot.at, slot.failed) for slot in found.slots], BAD),
            ]
            chart(v, title, made)
            rows = [(slot.at, str(slot.done), str(slot.failed)) for slot in found.slots]
            numbers(
                v, (v.t("figures.time"), v.t("figures.done"), v.t("figures.failed")), rows, self.folds.fold("course")
            )

    def _own(self, found: Figures) -> None:
        v = self.v
        title = v.t("figures.own_course", goal=OWN_MS)
        with box("card"):
            tag("h2", title)
            made = axes(unit=" ms")
            made["series"] = [
                curve(v.t("figures.mean"), [(slot.at, slot.own_mean) for slot in found.slots], ACCENT, target=OWN_MS),
                curve("p95", [(slot.at, slot.own_p95) for slot in found.slots], SECOND),
            ]
            chart(v, title, made)
            rows = [(slot.at, duration(slot.own_mean), duration(slot.own_p95)) for slot in found.slots]
            numbers(v, (v.t("figures.time"), v.t("figures.mean"), "p95"), rows, self.folds.fold("own"))

    def _groups(self, found: Figures) -> None:
        v = self.v
        groups: Sequence[Group] = getattr(found, self.by)
        names = [_name(v, self.by, group.name) for group in groups]
        title = v.t(f"figures.by.{self.by}")
        with box("card wide"):
            with tag("h2", title):
                span(v.t("figures.by.hint"), "r hide-phone")
            options = [(by, v.t(f"figures.{by}")) for by in BY]
            segments(self.panel, v, v.t("figures.by"), options, self.by, self.choose)
            made = axes(names, sideways=True)
            made["series"] = [
                bars(v.t("figures.done"), [group.done for group in groups], ACCENT),
                bars(v.t("figures.failed"), [group.failed for group in groups], BAD),
            ]
            chart(v, title, made, css=f"chart {'tall' if len(groups) > 5 else 'low' if len(groups) < 3 else ''}")
            heads = [v.t(f"figures.col.{name}") for name in ("name", "count", "success", "own", "p95", "total")]
            rows = [_row(name, group) for name, group in zip(names, groups, strict=True)]
            numbers(v, heads, rows, self.folds.fold("groups"))

    def _reasons(self, found: Figures) -> None:
        if not found.reasons:
            return
        v = self.v
        with box("card wide"):
            tag("h2", v.t("figures.reasons"))
            for code, count in found.reasons:
                with box("line"):
                    badge(v, "bad", v.t("symptom.times", n=count))
                    with box("grow"):
                        box("", explain(v.words, v.lang, code, {})[0])
                        box("small mono faint", code)


def _figure(v: Visitor, name: str, value: str, unit: str, good: bool | None, **params: object) -> None:
    with box("card fig"), box():
        box("k", v.t(f"figures.{name}.name"))
        with box("v"):
            span(value)
            if unit:
                tag("small", unit)
        with box("t goal"):
            if good is not None and value != "–":
                badge(v, "ok" if good else "bad", v.t("figures.met" if good else "figures.missed"))
            span(v.t(f"figures.{name}.goal", **params))


def _row(name: str, group: Group) -> tuple[str, ...]:
    share = "–" if group.success is None else f"{100 * group.success:.1f} %"
    times = (duration(group.own_mean), duration(group.own_p95), duration(group.total_mean))
    return (name, str(group.done + group.failed), share, *times)


def _name(v: Visitor, by: str, name: str) -> str:
    if by == "bots" and name == "web":
        return v.t("place.chat")
    key = f"figures.job.{name}"
    return v.t(key) if by == "jobs" and v.words.has(v.lang, key) else name
