"""The wizard's last page: what is safe, what is not yet, and the three next things."""

from __future__ import annotations

from agent.models.actions import ModelActions
from channels.actions import BotActions
from pages.frame import Panel
from pages.parts.badge import badge
from pages.parts.button import link
from pages.parts.markup import box, span, tag
from pages.visitor import Visitor
from security.account import AccountActions
from security.setup import Setup

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


async def done_step(
    panel: Panel, v: Visitor, setup: Setup, account: AccountActions, models: ModelActions, bots: BotActions
) -> None:
    """What is green here was looked up just now, in settings and database; the Security page probes for real."""
    await setup.mark(v.who, "finish")
    me = await account.view(v.who)
    rows = await models.list(v.who)
    there = await bots.list(v.who)
    real = [row for row in rows if row.type != "demo"]
    tag("h1", v.t("done.title" if rows else "done.title.no_model"))
    tag("p", v.t("done.intro" if rows else "done.intro.no_model"), "intro")
    with box("next3"):
        if rows:
            _next(v, "chat", "/chat", "chat", main=True)
        else:
            _next(v, "model", "/setup?step=model", "model", main=True)
        if me.totp:
            _next(v, "people", "/people", "people")
        else:
            _next(v, "codes", "/account", "lock")
        if there:
            _next(v, "bots", "/bots", "bot")
        else:
            _next(v, "bot", "/setup?step=bot", "bot")
    with box("card"):
        tag("h2", v.t("done.safe"))
        with tag("ul", "", "checks"):
            if not await setup.needed():
                _check(v, "ok", "admin")
            outside = not panel.settings.master_key_file.is_relative_to(panel.settings.data)
            _check(v, "ok" if outside else "warn", "secrets" if outside else "key_inside")
            local = panel.settings.host in _LOOPBACK
            _check(v, "ok" if local else "warn", "local" if local else "open", host=panel.settings.host)
            _check(v, "ok" if me.totp else "warn", "totp" if me.totp else "no_totp")
            if not rows:
                _check(v, "bad", "no_model", to="/setup?step=model")
            elif not real:
                _check(v, "warn", "demo", to="/models")
            _check(v, "warn", "backup")
    with box("wizend"):
        link(v.t("done.overview"), "/")


def _next(v: Visitor, name: str, to: str, icon: str, *, main: bool = False) -> None:
    with tag("a", "", f"pick {'on' if main else ''}", href=to):
        tag("i", "", f"ic ic-{icon}", aria_hidden="true")
        tag("b", v.t(f"done.next.{name}"))
        span(v.t(f"done.next.{name}.why"), "small")


def _check(v: Visitor, state: str, name: str, to: str = "", **params: object) -> None:
    with tag("li"):
        badge(v, state, v.t(f"done.state.{state}"))
        with box("grow"):
            span(v.t(f"done.check.{name}", **params))
            if to:
                span(" ")
                tag("a", v.t("done.mend"), href=to)
