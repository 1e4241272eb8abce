"""`/schedules`: what runs next, what failed? With the page of one schedule, its form, and the calendar."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

from nicegui import ui

from agent.schedules.actions import ScheduleActions
from agent.schedules.draft import KINDS
from agent.schedules.scenarios import scenarios
from agent.schedules.views import Coming, ScheduleView
from pages import schedule_calendar
from pages.frame import Frame, Panel
from pages.parts.badge import moment
from pages.parts.button import button
from pages.parts.dialog import dialog
from pages.parts.markup import box, icon, span, tag
from pages.parts.state import empty, note
from pages.schedule_form import ScheduleForm
from pages.schedule_one import one_page
from pages.schedule_parts import CALENDAR, HERE, run_badge, schedule_views, state_badge, to, when, why
from pages.visitor import Visitor
from storage.errors import NotFound

SECONDS = 10.0
NEXT = 10
CSS = ("panel-build.css", "operations.css", "schedules.css")
Bots = Callable[[Visitor], Awaitable[Sequence[tuple[str, str]]]]
"""Names and types of the bots that can be told."""


def mount(panel: Panel, schedules: ScheduleActions, bots: Bots) -> None:
    """Register `/schedules` and its calendar; `?name=`, `?edit=` and `?new=` are addresses of their own."""
    schedule_calendar.mount(panel, schedules)

    @ui.page(HERE)
    async def page(name: str = "", edit: str = "", new: str = "", scenario: str = "") -> None:
        v = panel.enter()
        with panel.frame(
            v, "place.schedules", place=HERE, css=("panel-build.css", "operations.css", "schedules.css")
        ) as f:
            manage = v.who.may("schedule.manage")
            if name:
                await one_page(panel, v, schedules, f, name)
            elif manage and (edit or new in KINDS):
                row = await schedules.views.get(v.who, edit) if edit else None
                await _form(panel, v, schedules, bots, row, kind=new, scenario=scenario)
            elif new:
                raise NotFound("schedule.unknown", name=new[:60])
            else:
                await _list(panel, v, schedules, f, manage)


async def _form(
    panel: Panel,
    v: Visitor,
    schedules: ScheduleActions,
    bots: Bots,
    row: ScheduleView | None,
    *,
    kind: str,
    scenario: str,
) -> None:
    with box("formpage stack"):
        tag("a", v.t("schedules.back"), "ic ic-back backlink", href=to(row.name) if row else HERE)
        tag("h2", row.name if row else v.t("schedules.new"), "formtitle")
        if row is not None and row.managed_by:
            note("off", v.t("schedules.from_file", file=row.managed_by))
            return
        form = ScheduleForm(panel, v, schedules, await bots(v), row, kind=kind, scenario=scenario)
        await form.build()


async def _list(panel: Panel, v: Visitor, schedules: ScheduleActions, frame: Frame, manage: bool) -> None:
    async def add() -> None:
        await _add(v)

    if manage:
        with frame.actions:
            button(v.t("schedules.new"), panel.act(v, add), "pri")
    schedule_views(v, HERE)
    place = box("stack")

    async def show() -> None:
        rows = await schedules.views.list(v.who)
        coming = await schedules.views.upcoming(v.who, NEXT)
        if v.client.is_deleted:
            return
        place.clear()
        with place:
            if not rows:
                with empty(v.t("schedules.empty"), v.t("schedules.empty.hint")):
                    if manage:
                        button(v.t("schedules.new"), panel.act(v, add), "pri")
                return
            _waiting(panel, v, schedules, rows, show)
            _line(v, coming)
            _table(panel, v, schedules, rows, show)

    await show()
    ui.timer(SECONDS, show, immediate=False)


def _waiting(
    panel: Panel,
    v: Visitor,
    schedules: ScheduleActions,
    rows: Sequence[ScheduleView],
    show: Callable[[], Awaitable[None]],
) -> None:
    """Commands that wait for an admin, each with exactly what would run."""
    waiting = [row for row in rows if row.state == "waits"]
    if not waiting:
        return

    async def allow(name: str) -> None:
        await schedules.allow(v.who, name)
        panel.say(v, v.t("schedules.allowed", name=name))
        await show()

    with box("card"):
        tag("h2", v.t("schedules.waiting"))
        tag("p", v.t("schedules.waiting.hint"), "small muted")
        for row in waiting:
            with box("line"):
                state_badge(v, row)
                with box("grow"):
                    tag("a", row.name, "plain strong", href=to(row.name))
                    box("mono small", row.draft.task.command)
                if v.who.may("schedule.manage"):
                    button(v.t("schedules.allow"), panel.act(v, allow, row.name), "pri")


def _line(v: Visitor, coming: Sequence[Coming]) -> None:
    """The next runs on a line of time, and as a list."""
    with box("card"):
        with tag("h2", v.t("schedules.next")), span("", "r"):
            tag("a", v.t("schedules.calendar"), href=CALENDAR)
        if not coming:
            tag("p", v.t("schedules.next.none"), "muted")
            return
        first, last = coming[0].at, coming[-1].at
        whole = max(1, last - first)
        with box("timeline", aria_hidden="true"):
            for run in coming:
                tag("i", "", "dot").style(f"left:{100 * (run.at - first) / whole:.2f}%").attr(title=run.schedule)
        with box("timeline-ends small muted", aria_hidden="true"):
            moment(v, first, "exact")
            moment(v, last, "exact")
        with tag("ol", "", "nextruns"):
            for run in coming:
                with tag("li"):
                    moment(v, run.at)
                    tag("a", run.schedule, "plain cut", href=to(run.schedule))


_COLUMNS = (
    ("state", ""),
    ("name", ""),
    ("last", ""),
    ("success", "num hide-phone"),
    ("next", "num"),
    ("act", "num"),
)


def _table(
    panel: Panel,
    v: Visitor,
    schedules: ScheduleActions,
    rows: Sequence[ScheduleView],
    show: Callable[[], Awaitable[None]],
) -> None:
    async def run(name: str) -> None:
        await schedules.run_now(v.who, name)
        panel.say(v, v.t("schedules.started", name=name))
        await show()

    with (
        box("card"),
        box("scroll-x", tabindex="0", role="region", aria_label=v.t("place.schedules")),
        tag("table", "", "t"),
    ):
        with tag("thead"), tag("tr"):
            for name, css in _COLUMNS:
                with tag("th", "", css, scope="col"):
                    span(v.t(f"schedules.col.{name}"), "sr" if name == "act" else "")
        with tag("tbody"):
            for row in sorted(rows, key=_worst_first):
                with tag("tr"):
                    with tag("td"):
                        state_badge(v, row)
                    with tag("td", "", "schedule-name"):
                        _name(v, row)
                    with tag("td"):
                        _last(v, row)
                    share = "–" if row.success is None else f"{100 * row.success:.1f} %"
                    tag("td", share, "num nowrap hide-phone", title=v.t("schedules.runs", n=row.runs))
                    with tag("td", "", "num"):
                        if row.next_at is None:
                            span("–", "faint")
                        else:
                            moment(v, row.next_at)
                    with tag("td", "", "num"):
                        if v.who.may("schedule.run") and row.state != "waits":
                            label = f"{v.t('schedules.run_now')}: {row.name}"
                            button(v.t("schedules.run_now"), panel.act(v, run, row.name), "small", aria_label=label)


def _worst_first(row: ScheduleView) -> tuple[int, str]:
    if row.failures:
        return 0, row.name
    return {"waits": 1, "on": 2, "paused": 3, "over": 4}[row.state], row.name


def _name(v: Visitor, row: ScheduleView) -> None:
    with box("bar"):
        tag("a", row.name, "plain strong", href=to(row.name))
        span(v.t(f"schedules.kind.{row.draft.kind}"), "tag")
        if row.managed_by:
            with span("", "tag", title=v.t("schedules.from_file", file=row.managed_by)):
                icon("lock")
                span(row.managed_by)
    with box("small muted"):
        when(v, row)


def _last(v: Visitor, row: ScheduleView) -> None:
    if row.last is None:
        span(v.t("schedules.never"), "faint")
        return
    with box("bar"):
        run_badge(v, row.last)
        moment(v, row.last.ended_at or row.last.started_at or row.last.planned_at)
    reason, _ = why(v, row.last)
    if reason and row.last.state in ("failed", "waiting"):
        box("small muted schedule-why", reason)


async def _add(v: Visitor) -> None:
    """What is to be scheduled: one thing, or a whole scenario."""
    with dialog(v.t("schedules.new"), broad=True):
        with box("picks"):
            for kind in KINDS:
                with tag("a", "", "pick", href=f"{HERE}?new={kind}"):
                    tag("b", v.t(f"schedules.kind.{kind}"))
                    span(v.t(f"schedules.kind.{kind}.what"), "small")
        tag("h3", v.t("schedules.scenarios"), "dialog-sub")
        with box("picks"):
            for item in scenarios():
                with tag("a", "", "pick", href=f"{HERE}?new=workflow&scenario={quote(item.id)}"):
                    tag("b", item.name[v.lang])
                    span(item.what[v.lang], "small")
