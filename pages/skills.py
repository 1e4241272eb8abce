"""`/skills`: what may it do, and what only on a person's word?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui

from agent.tool_actions import ToolActions, ToolRow
from agent.tools.policy import APPROVALS, DECIDERS
from pages.chat_words import tool_name
from pages.frame import Panel
from pages.parts.badge import badge
from pages.parts.button import button, link
from pages.parts.dialog import dialog
from pages.parts.form import Form, Values
from pages.parts.markup import box, span, tag
from pages.visitor import Visitor

COLUMNS = (("tool", ""), ("word", ""), ("effect", "hide-phone"), ("again", "hide-phone"), ("act", "num"))
Redraw = Callable[[], Awaitable[None]]


def mount(panel: Panel, tools: ToolActions) -> None:
    """Register `/skills`."""

    @ui.page("/skills")
    async def page() -> None:
        v = panel.enter()
        with panel.frame(v, "place.skills", place="/skills", css=("panel-build.css",)) as frame:
            if not panel.may(v, "skill.view"):
                return
            if v.who.may("approval.decide"):
                with frame.actions:
                    link(v.t("approvals.title"), "/approvals")
            tag("p", v.t("skills.intro"), "muted")
            place = box("stack")

            async def show() -> None:
                rows = await tools.list(v.who)
                place.clear()
                with place:
                    _table(panel, v, tools, rows, show)

            await show()


def _table(panel: Panel, v: Visitor, tools: ToolActions, rows: list[ToolRow], show: Redraw) -> None:
    async def edit(row: ToolRow) -> None:
        _edit(panel, v, tools, row, show)

    with (
        box("card"),
        box("scroll-x", tabindex="0", role="region", aria_label=v.t("place.skills")),
        tag("table", "", "t"),
    ):
        with tag("thead"), tag("tr"):
            for name, css in COLUMNS:
                with tag("th", "", css, scope="col"):
                    span(v.t(f"skills.col.{name}"), "sr" if name == "act" else "")
        with tag("tbody"):
            for row in rows:
                with tag("tr", data_tool=row.name):
                    with tag("td"):
                        with box("bar"):
                            span(tool_name(v, row.name), "strong")
                            span(row.name, "mono faint small")
                            if row.off:
                                badge(v, "off", v.t("skills.off"))
                        box("small muted", v.t(f"skills.what.{row.name}") if _known(v, row) else row.description)
                    with tag("td", "", "small"):
                        span(v.t(f"skills.asks.{row.decides}") if row.asks else v.t("skills.asks.nobody"))
                        if row.own:
                            box("faint", v.t("skills.own"))
                    tag("td", v.t(f"skills.effect.{row.effect}"), "small nowrap hide-phone")
                    tag("td", v.t("skills.again.yes" if row.repeatable else "skills.again.no"), "small hide-phone")
                    with tag("td", "", "num"):
                        if v.who.may("skill.manage"):
                            label = f"{v.t('skills.change')}: {tool_name(v, row.name)}"
                            button(v.t("skills.change"), panel.act(v, edit, row), "small", aria_label=label)


def _known(v: Visitor, row: ToolRow) -> bool:
    return v.words.has(v.lang, f"skills.what.{row.name}")


def _edit(panel: Panel, v: Visitor, tools: ToolActions, row: ToolRow, show: Redraw) -> None:
    async def send(values: Values, _do: str) -> None:
        await tools.choose(
            v.who,
            row.name,
            off=values.get("on") != "1",
            approval=values.get("approval", ""),
            decides=values.get("decides", ""),
        )
        made.close()
        panel.say(v, v.t("skills.saved", tool=tool_name(v, row.name)))
        await show()

    with dialog(v.t("skills.edit", tool=tool_name(v, row.name))) as made, Form(panel, v, send, css="fields") as form:
        form.check("on", v.t("skills.on"), value=not row.off, help=v.t("skills.on.help"))
        approvals = [(kind, v.t(f"skills.approval.{kind or 'default'}")) for kind in APPROVALS]
        help = v.t("skills.approval.help")
        form.choice("approval", v.t("skills.approval"), approvals, value=row.approval, help=help)
        deciders = [(kind, v.t(f"skills.decides.{kind}")) for kind in DECIDERS]
        form.choice("decides", v.t("skills.decides"), deciders, value=row.decides, help=v.t("skills.decides.help"))
        with box("formend"):
            form.submit(v.t("frame.save"))
            made.cancel(v)
