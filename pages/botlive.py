"""A bot's state with its proof: green only on something that happened, with its age."""

from __future__ import annotations

from nicegui import ui

from channels.actions import BotActions, BotRow
from pages.frame import Panel
from pages.parts.badge import badge, moment
from pages.parts.markup import Markup, box, span, tag
from pages.visitor import Visitor
from storage.clock import Clock
from storage.errors import AppError

SECONDS = 3.0
ALIVE = 90_000
"""A long connection proves itself at least every 40 seconds; older proof is none."""
FRESH = 86_400_000


def bot_state(v: Visitor, row: BotRow) -> Markup:
    """The one word for a bot's state."""
    if row.paused:
        return badge(v, "off", v.t("bots.state.paused"))
    now = Clock().ms()
    if row.connection == "online":
        if now - (row.checked_at or 0) > ALIVE:
            return badge(v, "unknown", v.t("bots.state.stale"))
        return badge(v, "ok", v.t("bots.state.online"))
    if row.connection == "lost":
        return badge(v, "bad", v.t("bots.state.lost"))
    if row.connection == "connecting":
        return badge(v, "run", v.t("bots.state.connecting"))
    if row.connection == "waiting" and not row.callback and (row.last_error_at or 0) > (row.last_out or 0):
        return badge(v, "bad", v.t("bots.state.push_failed"))
    if row.connection == "waiting":
        if row.last_in is not None or (row.callback == "" and row.last_out is not None):
            fresh = now - max(row.last_in or 0, row.last_out or 0) < FRESH
            return badge(v, "ok" if fresh else "unknown", v.t("bots.state.reached" if fresh else "bots.state.quiet"))
        return badge(v, "unknown", v.t("bots.state.waiting"))
    if row.last_error:
        return badge(v, "bad", v.t("bots.state.failed"))
    return badge(v, "unknown", v.t("bots.state.off"))


def bot_facts(v: Visitor, row: BotRow) -> None:
    """When it last heard and said something, and what went wrong last."""
    with tag("dl", "", "facts"):
        if row.identity:
            tag("dt", v.t("bots.fact.identity"))
            tag("dd", row.identity)
        for name, at in (("last_in", row.last_in), ("last_out", row.last_out)):
            tag("dt", v.t(f"bots.fact.{name}"))
            with tag("dd"):
                moment(v, at)
        tag("dt", v.t("bots.fact.requests"))
        tag("dd", str(row.requests))
        if row.reconnects:
            tag("dt", v.t("bots.fact.reconnects"))
            tag("dd", str(row.reconnects))
    if row.last_error:
        what, remedy = v.explain(AppError(row.last_error, **row.error_params))
        with box("small faultline"):
            span(what, "bad-text")
            span(" ")
            moment(v, row.last_error_at)
            box("muted", remedy)


def bot_live(panel: Panel, v: Visitor, bots: BotActions, row: BotRow, *, first: bool = False) -> None:
    """The state in the current place, kept up to date.

    Args:
        first: say what to do next until the first message has come.
    """
    place = box()

    def draw(now: BotRow) -> None:
        place.clear()
        with place:
            with box("bar"):
                bot_state(v, now)
                if first and now.last_in is None:
                    span(v.t("bots.say_hello"), "small muted")
            bot_facts(v, now)

    async def look() -> None:
        rows = await bots.list(v.who)
        now = next((item for item in rows if item.name == row.name), None)
        if now is not None and not place.is_deleted:
            draw(now)

    draw(row)
    ui.timer(SECONDS, panel.act(v, look), immediate=False)
