"""One-time codes on the account page: set up with a picture, confirmed by a first code, recovery codes shown once."""

from __future__ import annotations

from nicegui import ui

from pages.frame import Panel
from pages.parts.badge import badge
from pages.parts.button import button
from pages.parts.copying import copy_button, copy_line
from pages.parts.form import Form, Values
from pages.parts.markup import Markup, box, span, tag
from pages.parts.state import note
from pages.visitor import Visitor
from security.account import AccountActions, AccountView, Enrolment
from storage.errors import Invalid


class _Codes:
    """The card, which goes through its states in place."""

    def __init__(self, panel: Panel, v: Visitor, account: AccountActions, view: AccountView, place: Markup) -> None:
        self.panel, self.v, self.account, self.view, self.place = panel, v, account, view, place

    def show(self) -> None:
        v = self.v
        self.place.clear()
        with self.place:
            with box("bar"):
                badge(v, "ok" if self.view.totp else "warn", v.t("codes.on" if self.view.totp else "codes.off"))
                if self.view.totp:
                    span(v.t("codes.left", n=self.view.recovery_left), "small muted")
            tag("p", v.t("codes.what"), "small muted")
            with box("formend"):
                if self.view.totp:
                    button(v.t("codes.renew"), self.panel.act(v, self._ask_renew))
                    button(v.t("codes.remove"), self.panel.act(v, self._ask_remove), "danger")
                else:
                    button(v.t("codes.begin"), self.panel.act(v, self._begin), "pri")

    # ---- set up -----------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        try:
            self._enrol(await self.account.totp_begin(self.v.who))
        except Invalid:
            self._ask_password()  # signed in longer ago than some minutes

    def _ask_password(self) -> None:
        async def send(values: Values, _do: str) -> None:
            self._enrol(await self.account.totp_begin(self.v.who, values["current"]))

        self.place.clear()
        with self.place, Form(self.panel, self.v, send, css="fields") as form:
            form.text("current", self.v.t("codes.password"), type="password", autocomplete="current-password")
            self._end(form, self.v.t("codes.continue"))

    def _enrol(self, made: Enrolment) -> None:
        v = self.v

        async def send(values: Values, _do: str) -> None:
            self._recovery(await self.account.totp_confirm(v.who, values["code"]))

        self.place.clear()
        with self.place:
            tag("p", v.t("codes.scan"))
            with box("qr", role="img", aria_label=v.t("codes.picture")):
                ui.html(made.svg, sanitize=False)
            tag("p", v.t("codes.type"), "small muted")
            copy_line(v, made.grouped)
            with Form(self.panel, v, send, css="field") as form:
                form.text("code", v.t("codes.first"), inputmode="numeric", autocomplete="one-time-code", css="mono")
                self._end(form, v.t("codes.confirm"))

    def _recovery(self, codes: list[str]) -> None:
        v = self.v

        async def done() -> None:
            self.view = await self.account.view(v.who)
            self.show()

        self.place.clear()
        with self.place:
            note("ok", v.t("codes.done"))
            tag("p", v.t("codes.recovery"))
            with tag("ul", "", "recovery mono"):
                for code in codes:
                    tag("li", code)
            with box("formend"):
                copy_button(v, "\n".join(codes), "")
                button(v.t("codes.kept"), self.panel.act(v, done), "pri")

    # ---- renew and remove -------------------------------------------------------------------------------------

    async def _ask_renew(self) -> None:
        async def send(values: Values, _do: str) -> None:
            self._recovery(await self.account.recovery_renew(self.v.who, values["code"]))

        self.place.clear()
        with self.place, Form(self.panel, self.v, send, css="fields") as form:
            tag("p", self.v.t("codes.renew.what"), "small muted")
            self._code(form)
            self._end(form, self.v.t("codes.renew"))

    async def _ask_remove(self) -> None:
        async def send(values: Values, _do: str) -> None:
            await self.account.totp_remove(self.v.who, values["current"], values["code"])
            self.view = await self.account.view(self.v.who)
            self.panel.say(self.v, self.v.t("codes.removed"))
            self.show()

        self.place.clear()
        with self.place, Form(self.panel, self.v, send, css="fields") as form:
            tag("p", self.v.t("codes.remove.what"), "small muted")
            form.text("current", self.v.t("codes.password"), type="password", autocomplete="current-password")
            self._code(form)
            self._end(form, self.v.t("codes.remove"), "danger pri")

    def _code(self, form: Form) -> None:
        form.text(
            "code", self.v.t("codes.code"), autocomplete="one-time-code", css="mono", help=self.v.t("codes.either")
        )

    def _end(self, form: Form, text: str, css: str = "pri") -> None:
        async def back() -> None:
            self.show()

        with box("formend"):
            form.submit(text, css=css)
            button(self.v.t("frame.cancel"), self.panel.act(self.v, back))


def codes_card(panel: Panel, v: Visitor, account: AccountActions, view: AccountView) -> None:
    """The card of one-time codes."""
    with box("card"):
        tag("h2", v.t("codes.title"))
        place = box("stack")
    _Codes(panel, v, account, view, place).show()
