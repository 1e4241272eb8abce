"""`/`: is everything all right, and what needs me?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nicegui import ui

from agent.figures import BACKLOG, OWN_MS, SUCCESS, FigureActions, Figures
from agent.trace import JobRow, OverviewView, TraceActions
from pages.frame import Panel
from pages.parts.badge import badge, duration, moment
from pages.parts.button import link
from pages.parts.figure import figure
from pages.parts.markup import box, span, tag
from pages.parts.state import empty
from pages.parts.task import task_badge
from pages.visitor import Visitor
from storage.principal import Principal

SECONDS = 15.0
RECENT = 8
FEWEST = 20
"""Tasks from which on a missed target says something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """Something that needs a person: what, why, and where to mend it. Sorted by `rank`, smallest first."""

    rank: int
    state: str
    word: str
    what: str
    why: str
    act: str
    to: str


Needs = Callable[[Principal], Awaitable[list[Need]]]
"""A part of the house that knows of things that need a person; `what` and the rest are catalogue keys' texts."""


def mount(
    panel: Panel, trace: TraceActions, figures: FigureActions, *sources: Callable[[Visitor], Awaitable[list[Need]]]
) -> None:
    """Register `/`. `sources` add to what needs a person: bots, models, checks."""

    @ui.page("/")
    async def page() -> None:
        v = panel.enter()
        if not v.who.may("overview.view"):
            ui.navigate.to("/chat")
            return
        with panel.frame(v, "place.overview", place="/") as frame:
            with frame.actions:
                with tag("button", "", "btn quiet small hide-phone", type="button", data_palette=True):
                    tag("kbd", "/")
                    span(v.t("frame.find"))
                link(v.t("overview.charts"), "/activity/figures")
                if v.who.may("bot.manage"):
                    link(v.t("overview.add_bot"), "/bots?add=1")
            content = box("stack")

            async def show() -> None:
                view = await trace.overview(v.who)
                day = await figures.figures(v.who)
                rows = await trace.recent(v.who, limit=RECENT)
                needs = [*_from_deliveries(v, view), *_from_targets(v, view, day)]
                for source in sources:
                    needs += await source(v)
                if v.client.is_deleted:
                    return
                content.clear()
                with content:
                    _verdict(v, needs)
                    _figures(v, view, day)
                    _needs(v, needs)
                    _recent(v, rows)

            await show()
            ui.timer(SECONDS, show, immediate=False)


def _from_deliveries(v: Visitor, view: OverviewView) -> list[Need]:
    needs = []
    if view.dead_letters:
        needs.append(
            Need(
                rank=20,
                state="bad",
                word=v.t("delivery.state.failed"),
                what=v.t("overview.need.failed", n=view.dead_letters),
                why=v.t("overview.need.failed.why"),
                act=v.t("overview.need.look"),
                to="/activity?delivery=failed",
            )
        )
    if view.unknown:
        needs.append(
            Need(
                rank=30,
                state="unknown",
                word=v.t("delivery.state.unknown"),
                what=v.t("overview.need.unknown", n=view.unknown),
                why=v.t("overview.need.unknown.why"),
                act=v.t("overview.need.look"),
                to="/activity?delivery=unknown",
            )
        )
    return needs


def _from_targets(v: Visitor, view: OverviewView, day: Figures) -> list[Need]:
    """A target that was missed is nothing that is all right, even if each part seems to work."""
    missed: list[tuple[str, str, dict[str, object]]] = []
    enough = day.done + day.failed >= FEWEST
    if enough and day.success is not None and day.success < SUCCESS:
        share = {"share": f"{100 * day.success:.1f}", "failed": day.failed}
        missed.append(("success", "/health?symptom=timeout", share))
    if enough and day.own_mean is not None and day.own_mean >= OWN_MS:
        missed.append(("own", "/activity/figures", {"own": duration(day.own_mean)}))
    if view.backlog >= BACKLOG:
        missed.append(("backlog", "/activity?status=open", {"n": view.backlog}))
    return [
        Need(
            rank=25,
            state="warn",
            word=v.t("need.target.word"),
            what=v.t(f"need.target.{name}", **params),
            why=v.t(f"need.target.{name}.why"),
            act=v.t("need.target.act"),
            to=to,
        )
        for name, to, params in missed
    ]


def _verdict(v: Visitor, needs: list[Need]) -> None:
    worst = "bad" if any(n.state == "bad" for n in needs) else "warn" if needs else "ok"
    text = v.t(f"overview.verdict.{worst}", n=len(needs))
    with box(f"verdict {worst}", role="status"):
        span("", f"st {worst} bare-sign", aria_hidden="true")
        tag("b", text)


def _figures(v: Visitor, view: OverviewView, day: Figures) -> None:
    counts = [float(slot.done + slot.failed) for slot in day.slots]
    shares = [100 * slot.done / (slot.done + slot.failed) for slot in day.slots if slot.done + slot.failed]
    own_line = [float(slot.own_mean) for slot in day.slots if slot.own_mean is not None]
    with box("grid4"):
        if day.success is None:
            figure(v.t("overview.success"), "–", "", v.t("overview.none_yet"))
        else:
            text = v.t("overview.success.goal", n=day.done + day.failed)
            figure(v.t("overview.success"), f"{100 * day.success:.1f}", "%", text, shares)
        own = duration(day.own_mean).split(" ") if day.own_mean is not None else ["–", ""]
        goal = v.t("overview.own.goal")
        if day.own_p95 is not None:
            goal = v.t("overview.own.tail", p95=duration(day.own_p95))
        figure(v.t("overview.own"), own[0], own[1], goal, own_line)
        figure(v.t("overview.backlog"), str(view.backlog), "", v.t("overview.backlog.goal"))
        figure(
            v.t("overview.tasks"),
            str(view.total),
            "",
            v.t("overview.cost", cost=f"{view.cost_today:.2f}"),
            counts if view.total else (),
        )


def _needs(v: Visitor, needs: list[Need]) -> None:
    if not needs:
        return
    with box("card"):
        with tag("h2", v.t("overview.needs")):
            span(v.t("overview.needs.order"), "r")
        for need in sorted(needs, key=lambda n: n.rank):
            with box("line"):
                badge(v, need.state, need.word)
                with box("grow"):
                    box("", need.what)
                    box("small muted", need.why)
                link(need.act, need.to)


def _recent(v: Visitor, rows: list[JobRow]) -> None:
    with box("card"):
        with tag("h2", v.t("overview.recent")), span("", "r"):
            tag("a", v.t("place.activity"), href="/activity")
        if not rows:
            with empty(v.t("overview.recent.empty"), v.t("overview.recent.empty.hint")):
                link(v.t("overview.recent.empty.act"), "/chat", "pri")
            return
        with box("scroll-x", tabindex="0", role="region", aria_label=v.t("overview.recent")), tag("table", "", "t"):
            with tag("thead"), tag("tr"):
                for name, css in _COLUMNS:
                    tag("th", v.t(f"overview.col.{name}"), css, scope="col")
            with tag("tbody"):
                for row in rows:
                    _task(v, row)


_COLUMNS = (
    ("state", ""),
    ("request", ""),
    ("from", "hide-phone"),
    ("model", "hide-phone"),
    ("own", "num hide-phone"),
    ("total", "num"),
    ("time", "num"),
)


def _task(v: Visitor, row: JobRow) -> None:
    with tag("tr"):
        with tag("td"):
            task_badge(v, row.status, row.delivery)
        with tag("td", "", "wide-cell"):
            tag("a", row.title or v.t("overview.untitled"), "plain", href=f"/trace/{row.id}")
        source = (
            v.t(f"channel.name.{row.channel}") if v.words.has(v.lang, f"channel.name.{row.channel}") else row.channel
        )
        shown = source if row.bot in ("", "web") else f"{source} · {row.bot}"
        tag("td", shown, "muted hide-phone nowrap")
        tag("td", row.model, "muted hide-phone cut")
        tag("td", duration(row.own_ms if row.status == "done" else None), "num hide-phone nowrap")
        total = row.ended_at - row.received_at if row.ended_at is not None else None
        tag("td", duration(total), "num nowrap")
        with tag("td", "", "num faint"):
            moment(v, row.received_at)
