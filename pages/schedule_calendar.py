"""`/schedules/calendar`: a month of runs, with the days on which people work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime

from nicegui import ui

from agent.schedules.actions import ScheduleActions
from agent.schedules.cron import ZONE, zone_of
from agent.schedules.views import MonthDay
from pages.frame import Panel
from pages.parts.button import link
from pages.parts.dialog import dialog
from pages.parts.form import Form, Values
from pages.parts.markup import box, span, tag
from pages.parts.state import note
from pages.schedule_parts import CALENDAR, HERE, schedule_views, to
from pages.visitor import Visitor

SHOWN = 3
LISTED = 30
Redraw = Callable[[], Awaitable[None]]


def mount(panel: Panel, schedules: ScheduleActions) -> None:
    """Register the calendar; `?month=2026-12` is a month's own address."""

    @ui.page(CALENDAR)
    async def page(month: str = "") -> None:
        v = panel.enter()
        with panel.frame(v, "place.schedules", place=HERE, css=("panel-build.css", "schedules.css")):
            schedule_views(v, CALENDAR)
            today = datetime.fromtimestamp(schedules.clock.ms() / 1000, UTC).astimezone(zone_of(ZONE)).date()
            first = _month(month) or today.replace(day=1)
            place = box("stack")

            async def show() -> None:
                days = await schedules.views.month(v.who, first.year, first.month)
                if v.client.is_deleted:
                    return
                place.clear()
                with place:
                    _head(v, first)
                    _grid(panel, v, schedules, days, today, show)
                    if any(not day.known.known for day in days):
                        note("off", v.t("schedules.calendar.unpublished", year=first.year))

            await show()


def _month(text: str) -> date | None:
    try:
        found = datetime.strptime(f"{text}-01", "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
    return found if 2001 <= found.year <= 2099 else None


def _head(v: Visitor, first: date) -> None:
    before = date(first.year - (first.month == 1), (first.month - 2) % 12 + 1, 1)
    after = date(first.year + (first.month == 12), first.month % 12 + 1, 1)
    with box("bar"):
        tag("h2", v.t("schedules.calendar.month", year=first.year, month=first.month), "formtitle")
        box("sp")
        for day, name in ((before, "left"), (after, "right")):
            made = link("", f"{CALENDAR}?month={day:%Y-%m}", f"quiet ic ic-{name}")
            made.attr(aria_label=v.t(f"schedules.calendar.{name}"))


def _grid(
    panel: Panel, v: Visitor, schedules: ScheduleActions, days: Sequence[MonthDay], today: date, show: Redraw
) -> None:
    async def opened(day: MonthDay) -> None:
        _day(panel, v, schedules, day, show)

    with box("card month"):
        for number in range(1, 8):
            box("month-head small muted", v.t(f"when.weekday.{number}"))
        for _ in range(days[0].day.isoweekday() - 1):
            box("month-gap")
        for day in days:
            css = "month-day" + (" off" if not day.known.working else "") + (" today" if day.day == today else "")
            with tag("button", "", css, type="button", aria_label=_told(v, day)) as made:
                with box("bar"):
                    span(str(day.day.day), "month-number")
                    if not day.known.working and (day.known.name or day.known.edited):
                        span(v.t("schedules.calendar.rest"), "month-mark rest")
                    elif day.known.working and day.day.isoweekday() > 5:
                        span(v.t("schedules.calendar.work"), "month-mark work")
                with box("bar month-counts"):
                    for state, count in (("ok", day.ok), ("bad", day.failed), ("warn", day.missed)):
                        if count:
                            span(str(count), f"st {state}")
                for name, times in _by_name(day)[:SHOWN]:
                    box("month-run small", f"{times} {name}")
                if (more := len(_by_name(day)) - SHOWN) > 0:
                    box("small muted", f"+{more}")
            made.on("click", panel.act(v, opened, day))
        for _ in range(7 - days[-1].day.isoweekday()):
            box("month-gap")


def _by_name(day: MonthDay) -> list[tuple[str, str]]:
    """Each schedule once, with its first time and how often it runs."""
    place, found = zone_of(ZONE), {}  # type: ignore[var-annotated]
    for run in day.coming:
        found.setdefault(run.schedule, []).append(run.at)
    made = []
    for name, times in found.items():
        first = datetime.fromtimestamp(times[0] / 1000, UTC).astimezone(place)
        made.append((name, f"{first:%H:%M}" + (f" ×{len(times)}" if len(times) > 1 else "")))
    return made


def _told(v: Visitor, day: MonthDay) -> str:
    kind = v.t("schedules.day.working" if day.known.working else "schedules.day.off")
    runs = v.t("schedules.day.runs", ok=day.ok, failed=day.failed, coming=len(day.coming))
    return f"{day.day.isoformat()}, {kind}, {runs}"


def _day(panel: Panel, v: Visitor, schedules: ScheduleActions, day: MonthDay, show: Redraw) -> None:
    async def send(values: Values, _do: str) -> None:
        working = {"work": True, "off": False}.get(values["kind"])
        await schedules.set_day(v.who, day.day, working, values["name"])
        made.close()
        await show()

    with dialog(day.day.isoformat()) as made:
        known = day.known
        tag("p", v.t("schedules.day.working" if known.working else "schedules.day.off"))
        if known.name or not known.known:
            tag("p", known.name or v.t("schedules.day.unknown"), "small muted")
        if day.ok or day.failed or day.missed:
            tag("p", v.t("schedules.day.gone", ok=day.ok, failed=day.failed, missed=day.missed), "small")
        if day.coming:
            place = zone_of(ZONE)
            with tag("ol", "", "times"):
                for run in day.coming[:LISTED]:
                    with tag("li"):
                        span(f"{datetime.fromtimestamp(run.at / 1000, UTC).astimezone(place):%H:%M}", "mono")
                        tag("a", run.schedule, "plain", href=to(run.schedule))
            if len(day.coming) > LISTED:
                tag("p", f"+{len(day.coming) - LISTED}", "small muted")
        if v.who.may("schedule.manage"):
            value = ("work" if known.working else "off") if known.edited else ""
            options = [(key, v.t(f"schedules.day.set.{key or 'auto'}")) for key in ("", "work", "off")]
            with Form(panel, v, send, css="fields") as form:
                form.choice("kind", v.t("schedules.day.set"), options, value=value)
                form.text("name", v.t("schedules.day.name"), value=known.name if known.edited else "", optional=True)
                with box("formend"):
                    form.submit(v.t("frame.save"))
                    made.cancel(v)
