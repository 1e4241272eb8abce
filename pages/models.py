"""`/models`: which model answers, how fast, for how much?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

from nicegui import ui

from agent.models.actions import ModelActions, ModelRef
from agent.models.presets import Preset, preset
from agent.models.provider_view import ProviderRow
from agent.models.usage_actions import UsageActions
from pages.frame import Panel
from pages.modelform import ModelForm, test_note
from pages.modelpicks import free_name, preset_picks
from pages.parts.badge import badge, duration
from pages.parts.button import button, link
from pages.parts.dialog import confirm
from pages.parts.form import Form, Values
from pages.parts.markup import Markup, box, span, tag
from pages.parts.state import empty, note
from pages.parts.views import views
from pages.usage import usage_view
from pages.visitor import Visitor
from storage.errors import NotFound

Redraw = Callable[[], Awaitable[None]]


def mount(panel: Panel, models: ModelActions, usage: UsageActions) -> None:
    """Register `/models`; `?add=1`, `?edit=<name>` and `?view=usage` are addresses of their own."""

    @ui.page("/models")
    async def page(add: str = "", edit: str = "", view: str = "", by: str = "") -> None:
        v = panel.enter()
        manage = v.who.may("model.manage")
        with panel.frame(v, "place.models", place="/models", css=("panel-build.css",)) as frame:
            rows = await models.list(v.who)
            if add and manage:
                _add(panel, v, models, rows, add)
                return
            if edit and manage:
                _edit(panel, v, models, rows, edit)
                return
            if manage:
                with frame.actions:
                    link(v.t("models.add"), "/models?add=1", "pri")
            here = "/models?view=usage" if view == "usage" else "/models"
            items = [("/models", v.t("models.view.list")), ("/models?view=usage", v.t("models.view.usage"))]
            views(v.t("place.models"), items, here)
            if view == "usage":
                await usage_view(panel, v, usage, by)
                return
            place = box("stack")

            async def show() -> None:
                fresh = await models.list(v.who)
                refs = await models.choices(v.who)
                place.clear()
                with place:
                    _list(panel, v, models, fresh, refs, show)

            await show()


def _list(
    panel: Panel,
    v: Visitor,
    models: ModelActions,
    rows: Sequence[ProviderRow],
    refs: Sequence[ModelRef],
    show: Redraw,
) -> None:
    if not rows:
        with empty(v.t("models.empty"), v.t("models.empty.hint")):
            if v.who.may("model.manage"):
                link(v.t("models.add"), "/models?add=1", "pri")
        return
    default = next((ref for ref in refs if ref.default), refs[0] if refs else None)
    if default is not None and default.demo:
        note("warn", v.t("models.demo.answers"))
    _default(panel, v, models, refs, default, show)
    with box("card"):
        with tag("h2", v.t("models.order")):
            span(v.t("models.order.hint"), "r")
        for index, row in enumerate(rows):
            _row(panel, v, models, rows, index, row, show)


def _default(
    panel: Panel,
    v: Visitor,
    models: ModelActions,
    refs: Sequence[ModelRef],
    default: ModelRef | None,
    show: Redraw,
) -> None:
    async def send(values: Values, _do: str) -> None:
        await models.default(v.who, values["ref"])
        panel.say(v, v.t("models.default.set", ref=values["ref"]))
        await show()

    if len(refs) < 2 or not v.who.may("model.manage"):
        if default is not None:
            with box("card bar"):
                span(v.t("models.default"), "muted")
                span(default.ref, "strong")
        return
    with box("card"), Form(panel, v, send, css="defaultform") as form:
        options = [(ref.ref, f"{ref.ref} · {v.t('models.demo')}" if ref.demo else ref.ref) for ref in refs]
        form.choice("ref", v.t("models.default"), options, value=default.ref if default else "")
        form.submit(v.t("models.default.use"), css="")


def _row(
    panel: Panel,
    v: Visitor,
    models: ModelActions,
    rows: Sequence[ProviderRow],
    index: int,
    row: ProviderRow,
    show: Redraw,
) -> None:
    with box("model-row"):
        with box("line"):
            span(str(index + 1), "faint place-no")
            _state(v, row)
            with box("grow"):
                with box("bar"):
                    span(row.name, "strong")
                    if row.type == "demo":
                        span(v.t("models.demo"), "tag")
                    if row.managed_by:
                        span(v.t("managed.file", file=row.managed_by), "tag ic ic-lock", title=v.t("managed.file.help"))
                    if not row.draft.fallback:
                        span(v.t("models.no_fallback"), "tag")
                box("small muted mono wrap", ", ".join(row.refs[:6]))
                box("small muted", _figures(v, row))
            acts = box("bar acts")
        result = box("results", role="status")
    if v.who.may("model.manage"):
        with acts:
            _buttons(panel, v, models, rows, index, result, show)


def _state(v: Visitor, row: ProviderRow) -> None:
    if not row.draft.enabled:
        badge(v, "off")
    elif row.resting:
        badge(v, "bad", v.t("models.state.resting"))
    elif row.calls and row.failed < row.calls:
        badge(v, "ok", v.t("models.state.answers"))
    elif row.calls:
        badge(v, "bad", v.t("models.state.fails"))
    else:
        badge(v, "unknown", v.t("models.state.unused"))


def _figures(v: Visitor, row: ProviderRow) -> str:
    parts = []
    if row.first_token_ms is not None:
        parts.append(v.t("models.first", time=duration(row.first_token_ms)))
    if row.calls:
        parts.append(v.t("models.calls", n=row.calls, failed=row.failed))
    if row.type != "demo":
        parts.append(v.t("models.cost", cost=f"{row.cost:.2f}"))
    if row.key_tail is not None:
        key = v.t("secret.set", tail=row.key_tail) if row.key_tail else v.t("secret.set.short")
        parts.append(v.t("models.key_is", which=key))
    return " · ".join(parts)


def _buttons(
    panel: Panel,
    v: Visitor,
    models: ModelActions,
    rows: Sequence[ProviderRow],
    index: int,
    result: Markup,
    show: Redraw,
) -> None:
    row, names = rows[index], [row.name for row in rows]

    async def test() -> None:
        result.clear()
        found = await models.test(v.who, row.name)
        with result:
            test_note(v, found)

    async def move(by: int) -> None:
        other = index + by
        names[index], names[other] = names[other], names[index]
        await models.order(v.who, names)
        await show()

    async def remove() -> None:
        await models.remove(v.who, row.name)
        panel.say(v, v.t("models.removed", name=row.name))
        await show()

    async def ask() -> None:
        title = v.t("models.remove.ask", name=row.name)
        confirm(
            panel,
            v,
            title=title,
            text=v.t("models.remove.what"),
            act=v.t("models.remove"),
            handler=remove,
            name=row.name,
        )

    button(v.t("models.test"), panel.act(v, test), "small")
    if index > 0:
        label = f"{v.t('models.up')}: {row.name}"
        button("", panel.act(v, move, -1), "small ic ic-up", aria_label=label, title=v.t("models.up"))
    if index < len(rows) - 1:
        label = f"{v.t('models.down')}: {row.name}"
        button("", panel.act(v, move, 1), "small ic ic-down", aria_label=label, title=v.t("models.down"))
    if not row.managed_by:
        link(v.t("models.edit"), f"/models?edit={quote(row.name)}", "small")
        label = f"{v.t('models.remove')}: {row.name}"
        button("", panel.act(v, ask), "small ic ic-trash", aria_label=label, title=v.t("models.remove"))


def _add(panel: Panel, v: Visitor, models: ModelActions, rows: Sequence[ProviderRow], which: str) -> None:
    async def saved(row: ProviderRow) -> None:
        ui.navigate.to("/models")

    async def pick(chosen: Preset) -> None:
        place.clear()
        with place:
            ModelForm(panel, v, models, chosen, row=None, name=free_name(chosen, rows), saved=saved)
        _ = place.run_method("scrollIntoView", {"block": "nearest"})

    with box("formpage stack"):
        tag("a", v.t("models.back"), "ic ic-back backlink", href="/models")
        taken = {row.type for row in rows}
        offered = [p for p in models.presets() if not (p.type == "demo" and "demo" in taken)]
        preset_picks(panel, v, offered, pick)
        place = box("stack")
        chosen = preset(which)
        if chosen is not None:
            with place:
                ModelForm(panel, v, models, chosen, row=None, name=free_name(chosen, rows), saved=saved)


def _edit(panel: Panel, v: Visitor, models: ModelActions, rows: Sequence[ProviderRow], name: str) -> None:
    row = next((row for row in rows if row.name == name), None)
    if row is None:
        raise NotFound("model.absent", name=name[:60])

    async def saved(_row: ProviderRow) -> None:
        ui.navigate.to("/models")

    chosen = preset(row.draft.preset) or preset("custom")
    with box("formpage stack"):
        tag("a", v.t("models.back"), "ic ic-back backlink", href="/models")
        tag("h2", row.name, "formtitle")
        if row.managed_by:
            note("warn", f"{v.t('managed.file', file=row.managed_by)} {v.t('managed.file.help')}")
        elif chosen is not None:
            shown = Preset(
                name=chosen.name, type=row.type, models=chosen.models, console=chosen.console, key=chosen.key
            )
            ModelForm(panel, v, models, shown, row=row, name=row.name, saved=saved)
