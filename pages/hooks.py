"""`/bots/hooks`: events of any other system, turned into a task or a message; with what it must send, and a try-out."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from nicegui import ui

from channels.webhook.actions import HookActions, HookRow, TryOut
from channels.webhook.receiver import Call
from pages.botpicks import bot_views, origin_of
from pages.frame import Panel
from pages.hookform import HookForm
from pages.parts.badge import badge, moment
from pages.parts.button import button, link
from pages.parts.copying import copy_line
from pages.parts.dialog import confirm
from pages.parts.markup import box, span, tag
from pages.parts.state import empty, note
from pages.visitor import Visitor, explain
from storage.errors import NotFound

HERE = "/bots/hooks"


def mount(panel: Panel, hooks: HookActions) -> None:
    """Register `/bots/hooks`; `?add=1` and `?edit=<name>` are addresses of their own."""

    @ui.page(HERE)
    async def page(add: str = "", edit: str = "") -> None:
        v = panel.enter()
        with panel.frame(v, "hooks.title", place="/bots", css=("panel-build.css",)) as frame:
            rows = await hooks.list(v.who)
            manage = v.who.may("bot.manage")
            row = next((row for row in rows if row.name == edit), None)
            if edit and row is None:
                raise NotFound("hook.unknown")
            if manage and (add or row is not None):
                await _one(panel, v, hooks, row)
                return
            if manage:
                with frame.actions:
                    link(v.t("hooks.add"), f"{HERE}?add=1", "pri")
            bot_views(v, HERE)
            if rows:
                _list(v, rows, manage)
            else:
                with empty(v.t("hooks.empty"), v.t("hooks.empty.hint")):
                    if manage:
                        link(v.t("hooks.add"), f"{HERE}?add=1", "pri")


def _list(v: Visitor, rows: Sequence[HookRow], manage: bool) -> None:
    with box("card"):
        for row in rows:
            with box("line"):
                _state(v, row)
                with box("grow"):
                    with box("bar"):
                        span(row.name, "strong")
                        span(v.t(f"hooks.turns.{row.turns}"), "tag")
                    with box("small muted bar"):
                        span(row.path, "mono")
                        if row.last is not None:
                            moment(v, row.last.at)
                if manage:
                    link(v.t("bots.settings"), f"{HERE}?edit={quote(row.name)}", "small")


def _state(v: Visitor, row: HookRow) -> None:
    if row.paused:
        badge(v, "off", v.t("bots.state.paused"))
    elif row.last is None:
        badge(v, "unknown", v.t("hooks.state.never"))
    elif row.last.code:
        badge(v, "bad", v.t("hooks.state.refused"))
    else:
        badge(v, "ok", v.t("hooks.state.accepted"))


async def _one(panel: Panel, v: Visitor, hooks: HookActions, row: HookRow | None) -> None:
    with box("formpage stack"):
        tag("a", v.t("hooks.back"), "ic ic-back backlink", href=HERE)
        tag("h2", row.name if row is not None else v.t("hooks.add"), "formtitle")
        secret_place = box()

        async def saved(name: str, secret: str) -> None:
            if not secret:
                ui.navigate.to(f"{HERE}?edit={quote(name)}")
                return
            with secret_place:
                _secret(v, secret, name)
            _ = secret_place.run_method("scrollIntoView", {"block": "nearest"})

        HookForm(panel, v, hooks, row, saved=saved, tried=_tried)
        if row is not None:
            _how(panel, v, row)
            _calls(v, await hooks.calls(v.who, row.name))
            _ends(panel, v, hooks, row)


def _secret(v: Visitor, secret: str, name: str) -> None:
    with box("note ok"):
        span("", "st ok", aria_hidden="true")
        with box("grow stack"):
            span(v.t("hooks.secret.once"))
            copy_line(v, secret)
            link(v.t("hooks.secret.kept"), f"{HERE}?edit={quote(name)}", "small")


def _tried(v: Visitor, result: TryOut) -> None:
    if result.missing:
        note("warn", v.t("hooks.try.missing", names=", ".join(result.missing)))
    else:
        note("ok", v.t(f"hooks.try.{result.turns}"))
    tag("pre", result.text, "pre")
    if result.event:
        box("small muted", v.t("hooks.try.event", id=result.event))


def _how(panel: Panel, v: Visitor, row: HookRow) -> None:
    address = origin_of(v, panel) + row.path
    with box("card"):
        tag("h2", v.t("hooks.how"))
        box("label small muted", v.t("hooks.address"))
        copy_line(v, f"POST {address}")
        tag("p", v.t(f"hooks.scheme.{row.scheme}.how"), "small muted")
        box("label small muted", v.t("hooks.sample"))
        copy_line(v, _sample(row.scheme, address))


def _sample(scheme: str, address: str) -> str:
    send = f"curl -sS -X POST '{address}' -H 'content-type: application/json' --data \"$BODY\""
    body = 'BODY=\'{"title":"hello"}\'; T=$(date +%s); '
    if scheme == "bearer":
        return f'{body}{send} -H "authorization: Bearer $SECRET"'
    if scheme == "hmac":
        sign = "S=$(printf '%s' \"$T.$BODY\" | openssl dgst -sha256 -hmac \"$SECRET\" -hex | sed 's/.* //'); "
        return f'{body}{sign}{send} -H "x-zhixing-timestamp: $T" -H "x-zhixing-signature: sha256=$S"'
    sign = (
        'S=$(printf \'%s\\n%s\\n%s\\n%s\' "$T" "$SECRET" "$BODY" "$SECRET" '
        '| openssl dgst -sha256 -hmac "$SECRET" -binary | base64); '
    )
    return f'{body}{sign}{send} -H "timestamp: $T" -H "sign: $S"'


def _calls(v: Visitor, calls: Sequence[Call]) -> None:
    with box("card"):
        with tag("h2", v.t("hooks.calls")):
            span(v.t("hooks.calls.since"), "r")
        if not calls:
            tag("p", v.t("hooks.calls.none"), "muted")
        for call in calls[:20]:
            with box("line"):
                _call_state(v, call)
                with box("grow small"):
                    if call.code:
                        what, remedy = explain(v.words, v.lang, call.code, {})
                        box("", what)
                        box("muted", remedy)
                    with box("muted bar"):
                        span(call.ip, "mono")
                        span(f"{call.size:,} B")
                        moment(v, call.at)
                if call.job_id:
                    link(v.t("hooks.trace"), f"/trace/{call.job_id}", "small quiet")


def _call_state(v: Visitor, call: Call) -> None:
    if call.code:
        badge(v, "bad", v.t("hooks.state.refused"))
    elif call.fresh:
        badge(v, "ok", v.t("hooks.state.accepted"))
    else:
        badge(v, "off", v.t("hooks.state.again"))


def _ends(panel: Panel, v: Visitor, hooks: HookActions, row: HookRow) -> None:
    place = box()

    async def rotate() -> None:
        secret = await hooks.rotate(v.who, row.name)
        place.clear()
        with place:
            _secret(v, secret, row.name)

    async def pause() -> None:
        await hooks.pause(v.who, row.name, paused=not row.paused)
        ui.navigate.to(f"{HERE}?edit={quote(row.name)}")

    async def remove() -> None:
        await hooks.remove(v.who, row.name)
        ui.navigate.to(HERE)

    async def ask_rotate() -> None:
        title, text = v.t("hooks.rotate.ask", name=row.name), v.t("hooks.rotate.what")
        confirm(panel, v, title=title, text=text, act=v.t("hooks.rotate"), handler=rotate)

    async def ask_remove() -> None:
        title, text = v.t("hooks.remove.ask", name=row.name), v.t("hooks.remove.what")
        confirm(panel, v, title=title, text=text, act=v.t("hooks.remove"), handler=remove, name=row.name)

    with box("card bar"):
        button(v.t("hooks.rotate"), panel.act(v, ask_rotate))
        button(v.t("bots.resume" if row.paused else "bots.pause"), panel.act(v, pause))
        button(v.t("hooks.remove"), panel.act(v, ask_remove), "danger")
