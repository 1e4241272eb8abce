"""`/account`: language, theme, password, one-time codes and sessions of whoever is signed in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui

from pages.account_codes import codes_card
from pages.frame import Panel
from pages.parts.agent import agent_name
from pages.parts.badge import badge, moment
from pages.parts.button import button
from pages.parts.form import Form, Values
from pages.parts.markup import box, span, tag
from pages.parts.segments import segments
from pages.visitor import THEMES, Visitor
from security.account import AccountActions, AccountView, SessionRow
from storage.words import LANGS

_SCHEMES = {"auto": "light dark", "light": "light", "dark": "dark"}
_DARK = {"auto": "'auto'", "light": "false", "dark": "true"}


def mount(panel: Panel, account: AccountActions) -> None:
    """Register `/account`."""

    @ui.page("/account")
    async def page() -> None:
        v = panel.enter()
        with panel.frame(v, "place.account", place="/account"):
            view = await account.view(v.who)
            with box("form stack"):
                _preferences(panel, v, account, view)
                _password(panel, v, account)
                codes_card(panel, v, account, view)
                await _sessions(panel, v, account)


def _preferences(panel: Panel, v: Visitor, account: AccountActions, view: AccountView) -> None:
    async def language(value: str) -> None:
        await account.set_language(v.who, value)
        ui.navigate.reload()

    async def theme(value: str) -> None:
        await account.set_theme(v.who, value)
        _ = v.client.run_javascript(
            f"document.documentElement.style.colorScheme='{_SCHEMES[value]}';Quasar.Dark.set({_DARK[value]})"
        )

    with box("card"):
        tag("h2", v.t("account.looks"))
        languages = [("", v.t("account.lang.browser")), *((lang, v.t(f"account.lang.{lang}")) for lang in LANGS)]
        segments(panel, v, v.t("account.lang"), languages, view.lang, language)
        themes = [(name, v.t(f"account.theme.{name}")) for name in THEMES]
        segments(panel, v, v.t("account.theme"), themes, view.theme, theme)


def _password(panel: Panel, v: Visitor, account: AccountActions) -> None:
    async def send(values: Values, _do: str) -> None:
        await account.change_password(v.who, values["current"], values["password"], values["again"])
        panel.say(v, v.t("account.password.changed"))
        place.clear()
        with place:
            form()

    def form() -> None:
        with Form(panel, v, send, css="fields") as made:
            tag("input", type="text", name="", autocomplete="username", value=v.who.name, hidden=True)
            made.text("current", v.t("account.password.current"), type="password", autocomplete="current-password")
            made.text(
                "password",
                v.t("account.password.new"),
                type="password",
                autocomplete="new-password",
                help=v.t("account.password.help"),
            )
            made.text("again", v.t("account.password.again"), type="password", autocomplete="new-password")
            with box("formend"):
                made.submit(v.t("account.password.change"))
                span(v.t("account.password.others"), "small muted")

    with box("card"):
        tag("h2", v.t("account.password"))
        place = box()
        with place:
            form()


async def _sessions(panel: Panel, v: Visitor, account: AccountActions) -> None:
    with box("card"):
        with tag("h2", v.t("account.sessions")):
            head = span("", "r")
        place = box()

    async def show() -> None:
        rows = await account.list_sessions(v.who)
        head.clear()
        place.clear()
        with head:
            if len(rows) > 1:
                button(v.t("account.sessions.others"), panel.act(v, others), "quiet small")
        with place:
            for row in rows:
                _session(panel, v, row, revoke)

    async def revoke(handle: str) -> None:
        await account.revoke_session(v.who, handle)
        await show()

    async def others() -> None:
        await account.revoke_others(v.who)
        panel.say(v, v.t("account.sessions.ended"))
        await show()

    await show()


def _session(panel: Panel, v: Visitor, row: SessionRow, revoke: Callable[[str], Awaitable[None]]) -> None:
    with box("line"):
        with box("grow"):
            with box("bar"):
                span(agent_name(row.agent) or v.t("account.sessions.unknown"))
                if row.current:
                    badge(v, "run", v.t("account.sessions.this"))
                if row.verified:
                    badge(v, "ok", v.t("account.sessions.verified"))
            with box("small muted bar"):
                span(row.ip, "mono")
                moment(v, row.seen_at)
        if not row.current:
            button(
                v.t("account.sessions.end"),
                panel.act(v, revoke, row.handle),
                "small",
                aria_label=f"{v.t('account.sessions.end')}: {agent_name(row.agent)} {row.ip}",
            )
