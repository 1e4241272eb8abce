"""The known model services as cards to choose from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from agent.models.presets import Preset
from agent.models.provider_view import ProviderRow
from pages.frame import Panel
from pages.parts.markup import Markup, box, span, tag
from pages.visitor import Visitor


def preset_picks(
    panel: Panel, v: Visitor, presets: Sequence[Preset], chosen: Callable[[Preset], Awaitable[None]]
) -> None:
    """Cards; the chosen one stays pressed."""
    cards: dict[str, Markup] = {}

    async def press(preset: Preset) -> None:
        await chosen(preset)
        for name, card in cards.items():
            card.attr(aria_pressed="true" if name == preset.name else "false")

    with box("picks"):
        for preset in presets:
            with tag("button", "", "pick", type="button", aria_pressed="false") as card:
                tag("b", v.t(f"preset.{preset.name}"))
                host = preset.endpoint.split("//")[-1].split("/")[0]
                none = "models.offline" if preset.type == "demo" else "models.any_address"
                span(host or v.t(none), "small")
            card.on("click", panel.act(v, press, preset))
            cards[preset.name] = card


def free_name(preset: Preset, rows: Sequence[ProviderRow]) -> str:
    """The preset's name, or with a number if that is taken."""
    taken = {row.name for row in rows}
    return next(
        name for n in range(1, len(taken) + 2) if (name := preset.name if n == 1 else f"{preset.name}-{n}") not in taken
    )
