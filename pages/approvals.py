"""`/approvals`: what waits for somebody's word, and what was decided?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from nicegui import ui

from agent.approval_actions import ApprovalActions
from pages.chat_ask import ask_view
from pages.frame import Panel
from pages.overview import Need
from pages.parts.badge import badge, moment
from pages.parts.button import button, link
from pages.parts.markup import box, span, tag
from pages.parts.state import empty
from pages.visitor import Visitor
from storage.approvals import ApprovalView, may_decide

HERE = "/approvals"
SECONDS = 5.0
PAGE = 50
_STATE = {"asked": "warn", "approved": "ok", "refused": "off", "expired": "unknown"}
Redraw = Callable[[], Awaitable[None]]


def mount(panel: Panel, approvals: ApprovalActions) -> None:
    """Register `/approvals`."""

    @ui.page(HERE)
    async def page(before: int = 0) -> None:
        v = panel.enter()
        with panel.frame(v, "approvals.title", place="/", css=("panel-build.css",)):
            waiting, past = box("stack"), box("stack")
            shown: list[int] = [-1]

            async def show() -> None:
                rows = await approvals.list(v.who)
                if [row.id for row in rows] == shown or v.client.is_deleted:
                    return
                shown[:] = [row.id for row in rows]
                waiting.clear()
                with waiting:
                    _waiting(panel, v, approvals, rows, again)
                if v.who.may("approval.decide"):
                    done = await approvals.decided(v.who, before=before or None, limit=PAGE)
                    past.clear()
                    with past:
                        _decided(v, done)

            async def again() -> None:
                shown[:] = [-1]
                await show()

            await show()
            ui.timer(SECONDS, panel.act(v, show), immediate=False)


def _waiting(panel: Panel, v: Visitor, approvals: ApprovalActions, rows: Sequence[ApprovalView], again: Redraw) -> None:
    if not rows:
        empty(v.t("approvals.empty"), v.t("approvals.empty.hint"))
        return
    for row in rows:
        with box("card stack", data_approval=row.id):
            with box("bar"):
                badge(v, "warn", v.t("approvals.state.asked"))
                span(str(ask_view(v, row)["label"]), "strong grow")
                moment(v, row.asked_at)
            _act(v, row)
            with box("bar small muted"):
                _from(v, row)
                span(v.t("approvals.until"))
                moment(v, row.expires_at)
            if may_decide(v.who, row):
                with box("bar acts"):
                    for yes, text, css in ((True, "approval.yes", "pri"), (False, "approval.no", "")):
                        act = panel.act(v, _decide, panel, v, approvals, row.id, yes, again)
                        button(v.t(text), act, css, data_testid=text)


async def _decide(
    panel: Panel, v: Visitor, approvals: ApprovalActions, approval: int, yes: bool, again: Redraw
) -> None:
    try:
        view = await approvals.decide(v.who, approval, yes)
        panel.say(v, v.t(f"approvals.state.{view.status}"))
    finally:
        await again()


def _act(v: Visitor, row: ApprovalView) -> None:
    tag("pre", str(ask_view(v, row)["act"]), "pre", tabindex="0")


def _from(v: Visitor, row: ApprovalView) -> None:
    key = f"channel.name.{row.channel}"
    source = v.t(key) if v.words.has(v.lang, key) else row.channel
    span(source if row.bot in ("", "web") else f"{source} · {row.bot}")
    span(row.person, "mono")
    if v.who.may("trace.view"):
        link(v.t("approvals.trace"), f"/trace/{row.job_id}", "small quiet")


def _decided(v: Visitor, rows: Sequence[ApprovalView]) -> None:
    if not rows:
        return
    with box("card"):
        tag("h2", v.t("approvals.past"))
        for row in rows:
            with box("line"):
                badge(v, _STATE.get(row.status, "unknown"), v.t(f"approvals.state.{row.status}"))
                with box("grow"):
                    span(str(ask_view(v, row)["label"]))
                    with box("small muted bar"):
                        span(row.decided_name or row.decided_by)
                        _from(v, row)
                with box("small muted nowrap"):
                    moment(v, row.decided_at)
        if len(rows) == PAGE:
            link(v.t("approvals.older"), f"{HERE}?before={rows[-1].id}", "small")


def approval_needs(approvals: ApprovalActions) -> Callable[[Visitor], Awaitable[list[Need]]]:
    """Acts that wait for the visitor, for the overview."""

    async def needs(v: Visitor) -> list[Need]:
        if not v.who.may("chat.use"):
            return []
        found = []
        for row in (await approvals.list(v.who))[:5]:
            shown = ask_view(v, row)
            found.append(
                Need(
                    rank=1,
                    state="warn",
                    word=v.t("approvals.state.asked"),
                    what=v.t("need.approval", tool=shown["label"]),
                    why=" ".join(str(shown["act"]).split())[:160],
                    act=v.t("need.approval.act"),
                    to=HERE,
                )
            )
        return found

    return needs
