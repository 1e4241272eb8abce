"""The wizard's model step: a known service, an Ollama on this machine, or the labelled demo model in one click."""

from __future__ import annotations

from nicegui import ui

from agent.models.actions import ModelActions
from agent.models.presets import Preset, preset
from agent.models.provider import ModelSpec, ProviderDraft
from agent.models.provider_view import ProviderRow
from pages.frame import Panel
from pages.modelform import ModelForm
from pages.modelpicks import free_name, preset_picks
from pages.parts.badge import badge
from pages.parts.button import button, link
from pages.parts.markup import Markup, box, span, tag
from pages.visitor import Visitor
from security.setup import Setup

NEXT = "/setup?step=bot"


async def model_step(panel: Panel, v: Visitor, setup: Setup, models: ModelActions) -> None:
    """Offers first, then the services. Saving one goes on to the next step."""
    rows = list(await models.list(v.who))
    tag("h1", v.t("setup.model.title"))
    tag("p", v.t("setup.model.intro"), "intro")
    if rows:
        _there(v, rows)
    near = box("near")
    if not any(row.type == "demo" for row in rows):
        _demo(panel, v, setup, models)
    tag("h2", v.t("setup.model.services"))
    place = box("stack")

    async def saved(row: ProviderRow) -> None:
        if row.refs:
            await models.default(v.who, row.refs[0])
        await setup.mark(v.who, "model")
        ui.navigate.to(NEXT)

    async def pick(chosen: Preset) -> None:
        place.clear()
        with place:
            ModelForm(panel, v, models, chosen, row=None, name=free_name(chosen, rows), saved=saved)
        _ = place.run_method("scrollIntoView", {"block": "nearest"})

    picks = box()
    with picks:
        preset_picks(panel, v, [p for p in models.presets() if p.type != "demo"], pick)
    place.move(target_index=-1)

    async def look() -> None:
        found = await models.find_ollama(v.who)
        if found is not None and not near.is_deleted:
            _ollama(panel, v, setup, models, near, found[0], list(found[1]), rows)

    if not any(row.type == "ollama" for row in rows):
        ui.timer(0.05, panel.act(v, look), once=True)


def _there(v: Visitor, rows: list[ProviderRow]) -> None:
    with box("offer"):
        badge(v, "ok", v.t("setup.model.there"))
        with box("grow"):
            box("strong", " · ".join(ref for row in rows[:4] for ref in row.refs[:1]))
            box("small muted", v.t("setup.model.there.why"))
        link(v.t("setup.next"), NEXT, "pri")


def _demo(panel: Panel, v: Visitor, setup: Setup, models: ModelActions) -> None:
    async def use() -> None:
        chosen = preset("demo")
        shown = chosen.models if chosen is not None else (ModelSpec(name="demo"),)
        await models.save(v.who, ProviderDraft(name="demo", type="demo", preset="demo", models=shown))
        await setup.mark(v.who, "model")
        ui.navigate.to(NEXT)

    with box("offer"):
        with box("grow"):
            with box("bar"):
                span(v.t("setup.model.demo"), "strong")
                span(v.t("models.demo"), "tag")
            box("small muted", v.t("setup.model.demo.why"))
        button(v.t("setup.model.demo.use"), panel.act(v, use))


def _ollama(
    panel: Panel,
    v: Visitor,
    setup: Setup,
    models: ModelActions,
    place: Markup,
    address: str,
    names: list[str],
    rows: list[ProviderRow],
) -> None:
    async def use() -> None:
        specs = tuple(ModelSpec(name=name) for name in names[:20])
        draft = ProviderDraft(name="ollama", type="ollama", preset="ollama", endpoint=address, models=specs)
        row = await models.save(v.who, draft, create=True)
        await models.default(v.who, row.refs[0])
        await setup.mark(v.who, "model")
        ui.navigate.to(NEXT)

    with place, box("offer"):
        badge(v, "ok", v.t("setup.model.ollama"))
        with box("grow"):
            box("strong", ", ".join(names[:4]) or v.t("setup.model.ollama.none"))
            box("small muted", v.t("setup.model.ollama.why", address=address))
        if names:
            button(v.t("setup.model.ollama.use"), panel.act(v, use), "" if rows else "pri")
