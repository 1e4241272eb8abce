"""What pages of schedules share: states in words, when, how a run ended, whom it tells."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from agent.schedules.cron import zone_of
from agent.schedules.say import said
from agent.schedules.views import RunView, ScheduleView
from pages.parts.badge import badge, moment
from pages.parts.markup import Markup, span, tag
from pages.parts.views import views
from pages.visitor import Visitor, explain

HERE = "/schedules"
CALENDAR = "/schedules/calendar"
_STATE = {"on": "ok", "paused": "off", "waits": "warn", "over": "off"}
_RUN = {
    "ok": "ok",
    "failed": "bad",
    "cancelled": "off",
    "missed": "warn",
    "skipped": "off",
    "queued": "run",
    "running": "run",
    "waiting": "warn",
}
_TOLD = {"sent": "ok", "failed": "bad", "unknown": "unknown", "sending": "run", "silent": "off", "kept": "off"}


def to(name: str) -> str:
    """The address of a schedule."""
    return f"{HERE}?name={quote(name)}"


def schedule_views(v: Visitor, here: str) -> None:
    """The list, and the calendar."""
    views(v.t("place.schedules"), [(HERE, v.t("schedules.list")), (CALENDAR, v.t("schedules.calendar"))], here)


def when(v: Visitor, row: ScheduleView) -> Markup:
    """When it runs, in words where there are some."""
    text = said(v.words, v.lang, row.draft.expression)
    zone = "" if row.draft.zone == "Asia/Shanghai" else f" · {row.draft.zone}"
    if text:
        return span(f"{text}{zone}", "", title=row.draft.expression)
    return span(f"{row.draft.expression}{zone}", "mono")


def state_badge(v: Visitor, row: ScheduleView) -> Markup:
    """The state of a schedule; failing ones say so."""
    if row.state == "on" and row.failures:
        return badge(v, "bad", v.t("schedules.state.failing", n=row.failures))
    return badge(v, _STATE[row.state], v.t(f"schedules.state.{row.state}"))


def run_badge(v: Visitor, run: RunView) -> Markup:
    """How a run ended, or where it is."""
    return badge(v, _RUN.get(run.state, "unknown"), v.t(f"schedules.run.{run.state}", n=run.count))


def told_badge(v: Visitor, run: RunView) -> Markup | None:
    """What became of the message about a run; None while there is nothing to say."""
    if not run.delivery:
        return None
    return badge(v, _TOLD.get(run.delivery, "unknown"), v.t(f"schedules.told.{run.delivery}"))


def time_list(v: Visitor, times: Sequence[int], zone: str) -> Markup:
    """Times at the schedule's own place, with their weekdays and how far away they are."""
    place = zone_of(zone)
    with tag("ol", "", "times") as made:
        for at in times:
            local = datetime.fromtimestamp(at / 1000, UTC).astimezone(place)
            with tag("li"):
                span(f"{local:%Y-%m-%d %H:%M}", "mono")
                span(v.t(f"when.weekday.{local.isoweekday()}"), "small muted")
                with span("", "faint small"):
                    moment(v, at)
    return made


def why(v: Visitor, run: RunView) -> tuple[str, str]:
    """Why a run failed, and what to do; empty where nothing did."""
    if run.reason:
        return explain(v.words, v.lang, run.reason, dict(run.params))
    if run.delivery_error:
        return explain(v.words, v.lang, run.delivery_error, {})
    return "", ""
