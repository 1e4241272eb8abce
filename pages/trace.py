"""`/trace/<id>`: what happened to one message, and why was it slow?"""

from __future__ import annotations

from nicegui import ui

from agent.trace import DeliveryRow, TraceActions, TraceView
from pages.frame import Frame, Panel
from pages.parts.badge import badge, duration, moment
from pages.parts.button import button, link
from pages.parts.copying import copy_button, copy_line
from pages.parts.dialog import confirm
from pages.parts.markup import Markup, box, span, tag
from pages.parts.state import failed
from pages.parts.task import task_badge
from pages.trace_bars import Bar, bars, is_over, total
from pages.trace_verdict import reason, slow, verdict
from pages.visitor import Visitor
from security.markdown import visible, words_of
from storage.clock import Clock
from storage.errors import AppError

SECONDS = 1.0
_STATE = {"delivered": "ok", "failed": "bad", "unknown": "unknown", "pending": "run", "sending": "run"}


def mount(panel: Panel, trace: TraceActions, clock: Clock) -> None:
    """Register /trace/<id>. Called once by app.py with what the page uses."""

    @ui.page("/trace/{job:int}")
    async def page(job: int) -> None:
        v = panel.enter()
        with panel.frame(v, "trace.heading", place="/activity", css=("trace.css",), id=job) as frame:
            content = box("stack")
        await TracePage(panel, v, trace, clock, job, frame, content).begin()


class TracePage:
    """The open page: read again every second while the task is not over, drawn again when something changed."""

    def __init__(
        self, panel: Panel, v: Visitor, trace: TraceActions, clock: Clock, job: int, frame: Frame, content: Markup
    ) -> None:
        self.panel, self.v, self.trace, self.clock, self.job = panel, v, trace, clock, job
        self.frame, self.content = frame, content
        self._shown: TraceView | None = None
        self._timer: ui.timer | None = None

    async def begin(self) -> None:
        """First drawing; a task that is not over is followed."""
        await self.look()
        if self._timer is None and (self._shown is None or not is_over(self._shown)):
            with self.content:
                self._timer = ui.timer(SECONDS, self.look)

    async def look(self) -> None:
        """Read, and draw if it changed."""
        try:
            view = await self.trace.trace(self.v.who, self.job)
        except AppError as error:
            if self._shown is None:
                self._clear()
                with self.content:
                    failed(self.v, error, self.panel.act(self.v, self.look))
            return
        if self.v.client.is_deleted or not self.panel.gate.alive(self.v.who):
            return
        if view != self._shown or not is_over(view):
            self._shown = view
            self._draw(view)
        if is_over(view) and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _clear(self) -> None:
        for child in list(self.content.default_slot.children):
            if child is not self._timer:
                child.delete()
        self.frame.actions.clear()

    def _draw(self, view: TraceView) -> None:
        found = bars(self.v, view)
        spent = total(found, view.job.received_at, self.clock.ms())
        self._clear()
        with self.frame.actions:
            self._actions(view)
        with self.content:
            self._verdict(view, found, spent)
            with box("grid2 trace-top"):
                self._message(view)
                self._facts(view)
            _waterfall(self.v, found, view.job.received_at, spent)
            self._deliveries(view)

    def _actions(self, view: TraceView) -> None:
        v = self.v
        if view.conversation_id is not None and view.job.channel == "web":
            link(v.t("trace.back"), f"/chat/{view.conversation_id}", "ic ic-chat")
        if v.who.may("trace.view"):
            link(v.t("trace.activity"), "/activity")
        if view.job.status in ("todo", "doing", "waiting") and v.who.may("task.manage"):
            button(v.t("trace.cancel"), self.panel.act(v, self.cancel), "danger ic ic-stop")

    async def cancel(self) -> None:
        await self.trace.cancel(self.v.who, self.job)
        self.panel.say(self.v, self.v.t("trace.cancelled"))
        await self.look()

    def _verdict(self, view: TraceView, found: list[Bar], spent: int) -> None:
        state, what, remedy = verdict(self.v, view, spent)
        with box(f"verdict {state}"):
            task_badge(self.v, view.job.status, view.deliveries[0].status if view.deliveries else "")
            with box("grow"):
                tag("b", what)
                for more in (remedy, slow(self.v, found, spent)):
                    if more:
                        box("muted", more)

    def _message(self, view: TraceView) -> None:
        with box("card"):
            tag("h2", self.v.t("trace.question"))
            box("said", visible(view.text)[:4000] or self.v.t("trace.nothing_said"))

    def _facts(self, view: TraceView) -> None:
        v, job = self.v, view.job
        key = f"channel.name.{job.channel}"
        source = v.t(key) if v.words.has(v.lang, key) else job.channel
        rows = [
            (v.t("trace.fact.from"), source if job.bot in ("", "web") else f"{source} · {job.bot}"),
            (v.t("trace.fact.sender"), visible(view.sender)),
            (v.t("trace.fact.model"), job.model),
            (v.t("trace.fact.tokens"), f"{view.tokens_in:,} → {view.tokens_out:,}" if view.tokens_out else ""),
            (v.t("trace.fact.cost"), f"¥{view.cost:.4f}" if view.cost else ""),
            (v.t("trace.fact.attempts"), v.t("trace.fact.attempts.n", n=view.attempts) if view.attempts > 1 else ""),
        ]
        with box("card"), tag("dl", "", "facts"):
            tag("dt", v.t("trace.fact.received"))
            with tag("dd"):
                moment(v, job.received_at, "exact")
            for name, value in rows:
                if value:
                    tag("dt", name)
                    tag("dd", value)
            tag("dt", v.t("trace.fact.job"))
            with tag("dd", "", "idline"):
                span(str(job.id), "mono")
                copy_button(v, str(job.id), "quiet small")

    # ---- deliveries

    def _deliveries(self, view: TraceView) -> None:
        v = self.v
        with box("card"):
            tag("h2", v.t("trace.deliveries"))
            for row in view.deliveries:
                self._delivery(row, stored=view.job.channel in ("web", "api"))
            if not view.deliveries:
                open_ = view.job.status in ("todo", "doing", "waiting")
                tag("p", v.t("trace.deliveries.none" if open_ else "trace.deliveries.nobody"), "muted")

    def _delivery(self, row: DeliveryRow, *, stored: bool) -> None:
        v = self.v
        with box("delivery", data_testid="delivery"):
            with box("bar"):
                badge(v, _STATE.get(row.status, "unknown"), v.t(f"delivery.state.{row.status}"))
                span(words_of(row.text, 120), "cut grow")
                if row.status in ("failed", "unknown") and v.who.may("delivery.resend"):
                    act = self.panel.act(v, self.ask if row.status == "unknown" else self.resend, row.id)
                    button(v.t("trace.resend"), act, "ic ic-refresh", data_testid="resend")
            if stored:
                tag("p", v.t("trace.delivery.stored"), "muted small")
                return
            self._receipt(row)

    def _receipt(self, row: DeliveryRow) -> None:
        v = self.v
        if row.status == "unknown":
            tag("p", v.t("trace.delivery.unknown.help"), "small")
        if row.error:
            what, remedy = reason(v, row.error, row.detail)
            tag("p", f"{what} {remedy}".strip(), "small")
            tag("p", visible(row.detail or row.error), "mono faint")
        with box("bar small muted"):
            if row.written_at is not None:
                span(v.t("trace.delivery.push", ms=duration(row.written_at - row.committed_at)))
            if row.attempts > 1:
                span(v.t("trace.delivery.attempts", n=row.attempts))
            if row.status == "pending" and row.next_at:
                with span(v.t("trace.delivery.next") + " "):
                    moment(v, row.next_at)
        if row.vendor_id:
            with box("vendor"):
                span(v.t("trace.delivery.id"), "muted small")
                copy_line(v, row.vendor_id)

    async def ask(self, delivery: int) -> None:
        """Before a repetition that the other side may see twice."""
        v = self.v

        async def go() -> None:
            await self.resend(delivery)

        with self.v.client:
            confirm(
                self.panel,
                v,
                title=v.t("trace.resend.sure"),
                text=v.t("trace.resend.sure.text"),
                act=v.t("trace.resend"),
                handler=go,
            )

    async def resend(self, delivery: int) -> None:
        done = await self.trace.resend(self.v.who, delivery)
        self.panel.say(self.v, self.v.t("trace.resent" if done else "trace.resend.gone"))
        self._shown = None
        await self.begin()


def _waterfall(v: Visitor, found: list[Bar], received: int, spent: int) -> None:
    with box("card"):
        tag("h2", v.t("trace.way"))
        tag("p", v.t("trace.way.help"), "muted small")
        with box("falls", role="list"):
            with box("fall-head", aria_hidden="true"):
                for name in ("stage", "at", "ms", "share"):
                    span(v.t(f"trace.col.{name}"), "" if name == "stage" else "num")
            for bar in found:
                _fall(v, bar, received, max(1, spent))


def _fall(v: Visitor, bar: Bar, received: int, whole: int) -> None:
    begin = max(0, bar.at - received)
    ms = max(0, whole - begin) if bar.ms is None else bar.ms
    with box(role="listitem"), tag("details" if bar.facts else "div", "", "fall") as made:
        with tag("summary" if bar.facts else "div", "", "fall-line"):
            with box("stage"):
                span(bar.label, "" if bar.ok else "bad")
                if bar.note:
                    span(bar.note, "remark muted cut")
            with box("track", aria_hidden="true"):
                box(f"stretch {bar.kind if bar.ok else 'bad'}{' lasting' if bar.ms is None else ''}").style(
                    f"left:{min(99.5, 100 * begin / whole):.2f}%;width:{max(0.5, 100 * ms / whole):.2f}%;"
                    f"--first:{100 * bar.first_ms / max(1, ms):.1f}%"
                )
            span(f"+{duration(begin)}", "num at")
            span(v.t("trace.running") if bar.ms is None else duration(bar.ms), "num")
            span(f"{ms / whole:.0%}", "num faint")
        if bar.facts:
            with box("fall-facts"):
                for heading, text in bar.facts:
                    if text:
                        if heading:
                            box("faint small", heading)
                        tag("pre", text, tabindex="0")
    made.attr(data_kind=bar.kind)
