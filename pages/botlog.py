"""`/bots/log`: what went in and out through the bots, what did not arrive and why, and what their connections did."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from nicegui import ui

from channels.actions import BotActions
from channels.history import Span
from channels.message_log import STATES, WAYS, LogActions, LogFilter, LogRow
from pages.botpicks import bot_views
from pages.frame import Panel
from pages.parts.badge import badge, duration, moment
from pages.parts.button import button, link
from pages.parts.dialog import confirm
from pages.parts.markup import Markup, box, span, tag
from pages.parts.state import empty
from pages.parts.task import task_badge
from pages.trace_verdict import reason
from pages.visitor import Visitor
from security.markdown import visible, words_of

HERE = "/bots/log"
PAGE = 50
DAY = 86_400_000
MOST_LISTED = 40
_STATE = {"delivered": "ok", "failed": "bad", "unknown": "unknown", "pending": "run", "sending": "run"}
_SPAN = {"online": "ok", "waiting": "ok", "connecting": "run", "lost": "bad", "off": "off"}


def mount(panel: Panel, log: LogActions, bots: BotActions) -> None:
    """Register `/bots/log`; its filters stand in the address."""

    @ui.page(HERE)
    async def page(bot: str = "", way: str = "", state: str = "", q: str = "", before: str = "") -> None:
        v = panel.enter()
        chosen = read_filter(bot, way, state, q, before)
        with panel.frame(v, "botlog.title", place="/bots", css=("panel-build.css", "trace.css")):
            bot_views(v, HERE)
            names = [row.name for row in await bots.list(v.who)]
            _history(v, await log.connections(v.who, bot=chosen.bot, ms=DAY), log.clock.ms())
            if not panel.may(v, "trace.view"):
                return
            _filters(v, chosen, names)
            place = box("stack")

            async def show() -> None:
                rows = await log.list(v.who, chosen, limit=PAGE)
                place.clear()
                with place:
                    _rows(panel, v, log, rows, show)
                    if len(rows) == PAGE:
                        link(v.t("botlog.older"), address(chosen, rows[-1].at), "small")

            await show()


def read_filter(bot: str, way: str, state: str, q: str, before: str) -> LogFilter:
    """From an address; what is not understood is left out."""
    number = int(before) if before.isdecimal() and len(before) < 16 else None
    return LogFilter(
        bot=bot[:80],
        way=way if way in WAYS else "",
        state=state if state in STATES else "",
        search=q.strip()[:100],
        before=number,
    )


def address(chosen: LogFilter, before: int | None = None) -> str:
    """The page's address with what is not the default."""
    found = {"bot": chosen.bot, "way": chosen.way, "state": chosen.state, "q": chosen.search, "before": before or ""}
    query = urlencode({name: value for name, value in found.items() if value})
    return f"{HERE}?{query}" if query else HERE


def _filters(v: Visitor, chosen: LogFilter, names: Sequence[str]) -> None:
    with tag("form", "", "bar filters", method="get", action=HERE):
        for name, value, options in (
            ("bot", chosen.bot, [("", v.t("botlog.bot.all")), *((one, one) for one in names)]),
            ("way", chosen.way, [("", v.t("botlog.way.all")), *((one, v.t(f"botlog.way.{one}")) for one in WAYS)]),
            (
                "state",
                chosen.state,
                [("", v.t("botlog.state.all")), *((one, v.t(f"delivery.state.{one}")) for one in STATES)],
            ),
        ):
            with tag("select", "", "input", name=name, aria_label=v.t(f"botlog.filter.{name}")):
                for key, text in options:
                    tag("option", text, value=key).attr(selected=True if key == value else None)
        with box("grow"):
            tag("input", "", "input", type="search", name="q", autocomplete="off").attr(
                defaultValue=chosen.search, aria_label=v.t("botlog.search"), placeholder=v.t("botlog.search")
            )
        tag("button", v.t("botlog.filter"), "btn", type="submit")


def _rows(panel: Panel, v: Visitor, log: LogActions, rows: Sequence[LogRow], show: object) -> None:
    if not rows:
        empty(v.t("botlog.empty"), v.t("botlog.empty.hint"))
        return

    async def resend(row: LogRow) -> None:
        done = await log.resend(v.who, row.delivery or 0)
        panel.say(v, v.t("trace.resent" if done else "trace.resend.gone"))
        await show()  # type: ignore[operator]

    async def ask(row: LogRow) -> None:
        async def go() -> None:
            await resend(row)

        title, text = v.t("trace.resend.sure"), v.t("trace.resend.sure.text")
        with v.client:
            confirm(panel, v, title=title, text=text, act=v.t("trace.resend"), handler=go)

    with box("card"):
        for row in rows:
            with box("line", data_way=row.way):
                _state(v, row)
                with box("grow"):
                    with box("bar"):
                        span(v.t(f"botlog.way.{row.way}"), "tag")
                        span(words_of(row.text, 160) or v.t("trace.nothing_said"), "cut grow")
                    with box("small muted bar"):
                        span(row.bot)
                        if row.event:
                            span(
                                v.t(f"bots.event.{row.event}")
                                if v.words.has(v.lang, f"bots.event.{row.event}")
                                else row.event
                            )
                        if row.who:
                            span(visible(row.who), "cut")
                    if row.error:
                        what, remedy = reason(v, row.error, row.detail)
                        tag("p", f"{what} {remedy}".strip(), "small")
                        tag("p", visible(row.detail or row.error), "mono faint wrap")
                with box("bar small muted nowrap"):
                    if row.delivery is not None and row.state in ("failed", "unknown") and v.who.may("delivery.resend"):
                        act = panel.act(v, ask if row.state == "unknown" else resend, row)
                        button(v.t("trace.resend"), act, "small ic ic-refresh", data_testid="resend")
                    moment(v, row.at)
                    if row.job is not None:
                        link(v.t("hooks.trace"), f"/trace/{row.job}", "small quiet")


def _state(v: Visitor, row: LogRow) -> Markup:
    if row.way == "in":
        return task_badge(v, row.state)
    return badge(v, _STATE.get(row.state, "unknown"), v.t(f"delivery.state.{row.state}"))


# ---- connections


def _history(v: Visitor, found: Sequence[tuple[str, Sequence[Span]]], now: int) -> None:
    if not any(spans for _, spans in found):
        return
    with box("card"):
        tag("h2", v.t("botlog.history"))
        for name, spans in found:
            with box("history", data_history=name):
                span(name, "cut")
                with box(
                    "track", role="img", aria_label=v.t("botlog.history.label", name=name, share=share(spans, now))
                ):
                    for one in spans:
                        begin = max(one.begun_at, now - DAY)
                        left, wide = 100 * (begin - now + DAY) / DAY, 100 * (one.ended_at - begin) / DAY
                        title = f"{_name(v, one)} · {duration(one.ended_at - one.begun_at)}"
                        box(f"stretch {_SPAN.get(one.state, 'off')}", title=title).style(
                            f"left:{max(0.0, left):.3f}%;width:{max(0.15, wide):.3f}%"
                        )
                span(f"{share(spans, now)} %", "num small")
        with box("history small faint", aria_hidden="true"):
            span("")
            with box("bar between"):
                span(v.t("botlog.history.ago"))
                span(v.t("botlog.history.now"))
            span("")
        with tag("details", "", "more"):
            tag("summary", v.t("botlog.history.table"))
            for name, spans in found:
                for one in list(reversed(spans))[:MOST_LISTED]:
                    with box("line small"):
                        badge(v, _SPAN.get(one.state, "off"), _name(v, one))
                        span(name, "grow")
                        moment(v, one.begun_at, "exact")
                        span(duration(one.ended_at - one.begun_at), "num nowrap")


def share(spans: Sequence[Span], now: int) -> int:
    """Per cent of the last day, or since it is known, in which the bot could hear."""
    if not spans:
        return 0
    good = sum(one.ended_at - max(one.begun_at, now - DAY) for one in spans if one.state in ("online", "waiting"))
    known = spans[-1].ended_at - max(spans[0].begun_at, now - DAY)
    return min(100, round(100 * good / known)) if known > 0 else 0


def _name(v: Visitor, one: Span) -> str:
    key = f"bots.state.{one.state}"
    word = v.t(key) if v.words.has(v.lang, key) else one.state
    if one.state == "waiting":
        word = v.t("botlog.span.waiting")
    if one.reason and v.words.has(v.lang, f"error.{one.reason}"):
        return f"{word} · {v.t(f'error.{one.reason}')}"
    return word
