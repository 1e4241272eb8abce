"""`/settings/keys`: which programs may use the API, and what may they do?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui

from pages.botpicks import origin_of
from pages.frame import Panel
from pages.parts.badge import badge, moment
from pages.parts.button import button
from pages.parts.copying import copy_line
from pages.parts.dialog import confirm, dialog
from pages.parts.form import Form, Values
from pages.parts.markup import box, span, tag
from pages.parts.state import empty
from pages.parts.views import views
from pages.visitor import Visitor
from security.keys import ALL, KeyActions, KeyMade, KeyRow

HERE = "/settings/keys"
KINDS = {
    "tasks": ("chat.use",),
    "messages": ("chat.use", "message.send", "delivery.resend"),
    "watch": ("overview.view", "trace.view", "bot.view", "model.view", "schedule.view", "health.view"),
    "all": (ALL,),
    "own": (),
}
DAYS = ("90", "30", "365", "none")
_STATE = {"live": "ok", "expired": "off", "revoked": "off", "ownerless": "warn"}
MOST_SHOWN = 3
Redraw = Callable[[], Awaitable[None]]


def settings_views(v: Visitor, here: str) -> None:
    """The pages of the settings."""
    views(v.t("place.settings"), [("/settings", v.t("place.settings")), (HERE, v.t("keys.title"))], here)


def mount(panel: Panel, keys: KeyActions) -> None:
    """Register `/settings/keys`."""

    @ui.page(HERE)
    async def page() -> None:
        v = panel.enter()
        with panel.frame(v, "keys.title", place="/settings") as frame:
            settings_views(v, HERE)
            with tag("p", v.t("keys.lead"), "muted"):
                span(" ")
                tag("a", v.t("keys.docs"), href="/api/v1/docs", target="_blank", rel="noopener")
            place = box("stack")

            async def show() -> None:
                rows = await keys.list(v.who)
                place.clear()
                with place:
                    if rows:
                        _table(panel, v, keys, rows, show)
                    else:
                        with empty(v.t("keys.empty"), v.t("keys.empty.hint")):
                            button(v.t("keys.add"), panel.act(v, add), "pri")

            async def add() -> None:
                _add(panel, v, keys, show)

            if v.who.may("key.manage"):
                with frame.actions:
                    button(v.t("keys.add"), panel.act(v, add), "pri")
            await show()


def _table(panel: Panel, v: Visitor, keys: KeyActions, rows: list[KeyRow], show: Redraw) -> None:
    async def ask(row: KeyRow) -> None:
        async def revoke() -> None:
            await keys.revoke(v.who, row.id)
            panel.say(v, v.t("keys.revoked", name=row.name))
            await show()

        title = v.t("keys.revoke.ask", name=row.name)
        confirm(panel, v, title=title, text=v.t("keys.revoke.what"), act=v.t("keys.revoke"), handler=revoke)

    with (
        box("card"),
        box("scroll-x", tabindex="0", role="region", aria_label=v.t("keys.title")),
        tag("table", "", "t"),
    ):
        with tag("thead"), tag("tr"):
            for name, css in (("name", ""), ("scopes", ""), ("owner", ""), ("used", "num"), ("expires", "num")):
                tag("th", v.t(f"keys.col.{name}"), css, scope="col")
            with tag("th", "", "num", scope="col"):
                span(v.t("keys.col.act"), "sr")
        with tag("tbody"):
            for row in rows:
                with tag("tr"):
                    _cells(v, row)
                    with tag("td", "", "num"):
                        if row.state != "revoked" and v.who.may("key.manage"):
                            label = f"{v.t('keys.revoke')}: {row.name}"
                            button(v.t("keys.revoke"), panel.act(v, ask, row), "small", aria_label=label)


def _cells(v: Visitor, row: KeyRow) -> None:
    with tag("td").style("min-width:10rem"):
        with box("bar"):
            span(row.name, "strong")
            badge(v, _STATE.get(row.state, "unknown"), v.t(f"keys.state.{row.state}"))
        span(f"zx_…{row.tail}", "mono small muted nowrap")
    with tag("td", title=" ".join(row.scopes)):
        if ALL in row.scopes:
            span(v.t("keys.all"))
        else:
            span(" ".join(row.scopes[:MOST_SHOWN]), "mono small")
            if len(row.scopes) > MOST_SHOWN:
                span(" " + v.t("keys.more", n=len(row.scopes)), "small muted nowrap")
    tag("td", row.owner or v.t("keys.console"), "nowrap")
    with tag("td", "", "num muted"):
        if row.used_at is None:
            span(v.t("keys.unused"), "nowrap")
        else:
            moment(v, row.used_at)
    with tag("td", "", "num muted"):
        if row.expires_at is None:
            span(v.t("keys.never"), "nowrap")
        else:
            moment(v, row.expires_at)


def _add(panel: Panel, v: Visitor, keys: KeyActions, show: Redraw) -> None:
    async def send(values: Values, _do: str) -> None:
        kind, days = values["kind"], values["days"]
        own = values["scopes"].replace(",", " ").split()
        made = await keys.create(
            v.who,
            name=values["name"],
            scopes=(*KINDS.get(kind, ()), *own),
            days=int(days) if days.isascii() and days.isdigit() else None,
        )
        asked.close()
        _shown(panel, v, made)
        await show()

    kinds = [(kind, v.t(f"keys.kind.{kind}")) for kind in KINDS]
    with dialog(v.t("keys.add")) as asked, Form(panel, v, send, css="fields") as form:
        form.text("name", v.t("keys.name"), help=v.t("keys.name.help"), autocomplete="off", autofocus=True)
        form.choice("kind", v.t("keys.kind"), kinds, value="tasks")
        form.text("scopes", v.t("keys.scopes"), help=v.t("keys.scopes.help"), optional=True, css="mono")
        form.choice("days", v.t("keys.days"), [(days, v.t(f"keys.days.{days}")) for days in DAYS], value=DAYS[0])
        with box("formend"):
            form.submit(v.t("keys.add"))
            asked.cancel(v)


def _shown(panel: Panel, v: Visitor, made: KeyMade) -> None:
    """The secret, this once."""
    with dialog(v.t("keys.made"), broad=True) as told:
        with box("stack"):
            tag("p", v.t("keys.made.once"))
            copy_line(v, made.secret)
            tag("p", v.t("keys.made.try"), "strong")
            said = '{"text": "你好"}' if v.lang == "zh_CN" else '{"text": "hello"}'
            copy_line(
                v,
                f"curl -H 'Authorization: Bearer {made.secret}' -H 'Content-Type: application/json' "
                f"-d '{said}' {origin_of(v, panel)}/api/v1/tasks",
            )
        with box("formend"):
            tag("button", v.t("keys.made.done"), "btn pri", type="button").on("click", told.close)
