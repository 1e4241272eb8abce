"""`/people`: who may come in, and what may they do?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui

from pages.frame import Panel
from pages.parts.badge import badge, moment
from pages.parts.button import button
from pages.parts.dialog import confirm, dialog
from pages.parts.form import Form, Values
from pages.parts.markup import box, span, tag
from pages.visitor import Visitor
from security.people import GIVEN_ROLES, PeopleActions, PersonRow
from storage.principal import ROLES

Redraw = Callable[[], Awaitable[None]]


def mount(panel: Panel, people: PeopleActions) -> None:
    """Register `/people`."""

    @ui.page("/people")
    async def page() -> None:
        v = panel.enter()
        with panel.frame(v, "place.people", place="/people") as frame:
            place = box("stack")

            async def show() -> None:
                rows = await people.list(v.who)
                place.clear()
                with place:
                    _table(panel, v, people, rows, show)
                    _roles(v)

            async def add() -> None:
                _add(panel, v, people, show)

            if v.who.may("people.manage"):
                with frame.actions:
                    button(v.t("people.add"), panel.act(v, add), "pri")
            await show()


def _table(panel: Panel, v: Visitor, people: PeopleActions, rows: list[PersonRow], show: Redraw) -> None:
    async def edit(row: PersonRow) -> None:
        _edit(panel, v, people, row, show)

    with (
        box("card"),
        box("scroll-x", tabindex="0", role="region", aria_label=v.t("place.people")),
        tag("table", "", "t"),
    ):
        with tag("thead"), tag("tr"):
            for name, css in (("name", ""), ("role", ""), ("codes", ""), ("seen", "num"), ("act", "num")):
                with tag("th", "", css, scope="col"):
                    span(v.t(f"people.col.{name}"), "sr" if name == "act" else "")
        with tag("tbody"):
            for row in rows:
                mine = v.who.id == f"user:{row.id}"
                with tag("tr"):
                    with tag("td"), box("bar"):
                        span(row.name, "strong")
                        if mine:
                            span(v.t("people.you"), "tag")
                        if row.disabled:
                            badge(v, "off", v.t("people.disabled"))
                    tag("td", v.t(f"role.{row.role}"), "nowrap")
                    with tag("td"):
                        badge(v, "ok" if row.totp else "warn", v.t("codes.on" if row.totp else "codes.off"))
                    with tag("td", "", "num muted"):
                        moment(v, row.seen_at or None)
                    with tag("td", "", "num"):
                        if mine:
                            tag("a", v.t("people.own"), "btn quiet small", href="/account")
                        elif v.who.may("people.manage"):
                            label = f"{v.t('people.change')}: {row.name}"
                            button(v.t("people.change"), panel.act(v, edit, row), "small", aria_label=label)


def _roles(v: Visitor) -> None:
    with box("card"):
        tag("h2", v.t("people.roles"))
        with tag("dl", "", "roles"):
            for role in GIVEN_ROLES:
                tag("dt", v.t(f"role.{role}"))
                tag("dd", v.t(f"role.{role}.what"), "muted")


def _options(v: Visitor) -> list[tuple[str, str]]:
    """Roles that hold no more rights than the visitor's own, the least first."""
    roles = [role for role in reversed(GIVEN_ROLES) if ROLES[role] <= v.who.rights]
    return [(role, v.t(f"role.{role}")) for role in roles]


def _add(panel: Panel, v: Visitor, people: PeopleActions, show: Redraw) -> None:
    async def send(values: Values, _do: str) -> None:
        await people.create(v.who, name=values["name"], role=values["role"], password=values["password"])
        made.close()
        panel.say(v, v.t("people.added", name=values["name"]))
        await show()

    with dialog(v.t("people.add")) as made, Form(panel, v, send, css="fields") as form:
        form.text("name", v.t("people.name"), autocomplete="off", autofocus=True)
        form.choice("role", v.t("people.role"), _options(v), value="member")
        form.text(
            "password",
            v.t("people.password"),
            type="password",
            autocomplete="new-password",
            help=v.t("people.password.help"),
        )
        with box("formend"):
            form.submit(v.t("people.add"))
            made.cancel(v)


def _edit(panel: Panel, v: Visitor, people: PeopleActions, row: PersonRow, show: Redraw) -> None:
    async def role(values: Values, _do: str) -> None:
        await people.set_role(v.who, row.id, values["role"])
        await _done("people.changed")

    async def password(values: Values, _do: str) -> None:
        await people.reset_password(v.who, row.id, values["password"])
        await _done("people.changed")

    async def sessions() -> None:
        await people.revoke_sessions(v.who, row.id)
        await _done("people.sessions.ended")

    async def codes() -> None:
        await people.reset_totp(v.who, row.id)
        await _done("people.codes.reset")

    async def shut() -> None:
        await people.disable(v.who, row.id, disabled=not row.disabled)
        await _done("people.changed")

    async def _done(key: str) -> None:
        made.close()
        panel.say(v, v.t(key, name=row.name))
        await show()

    async def ask() -> None:
        made.close()
        confirm(
            panel,
            v,
            title=v.t("people.disable.ask", name=row.name),
            text=v.t("people.disable.what"),
            act=v.t("people.disable"),
            handler=shut,
        )

    with dialog(row.name) as made:
        with Form(panel, v, role, css="fields") as form:
            form.choice("role", v.t("people.role"), _options(v), value=row.role)
            with box("formend"):
                form.submit(v.t("people.role.save"))
        tag("hr")
        with Form(panel, v, password, css="fields") as form:
            form.text("password", v.t("people.password.new"), type="password", autocomplete="new-password")
            with box("formend"):
                form.submit(v.t("people.password.save"), css="")
        tag("hr")
        with box("bar"):
            button(v.t("people.sessions.end"), panel.act(v, sessions))
            if row.totp:
                button(v.t("people.codes.lost"), panel.act(v, codes))
            if row.disabled:
                button(v.t("people.enable"), panel.act(v, shut))
            else:
                button(v.t("people.disable"), panel.act(v, ask), "danger")
