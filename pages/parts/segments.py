"""One choice of a few, in one line; it takes effect at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from pages.frame import Panel
from pages.parts.markup import Markup, box, tag
from pages.visitor import Visitor


def segments(
    panel: Panel,
    v: Visitor,
    label: str,
    options: Sequence[tuple[str, str]],
    value: str,
    chosen: Callable[[str], Awaitable[None]],
) -> Markup:
    """Buttons side by side, `(value, text)`; the chosen one is pressed."""
    buttons: dict[str, Markup] = {}

    async def press(key: str) -> None:
        await chosen(key)
        for name, made in buttons.items():
            made.attr(aria_pressed="true" if name == key else "false")

    with box("field") as field:
        box("label", label)
        with box("segments", role="group", aria_label=label):
            for key, text in options:
                made = tag("button", text, "seg", type="button", aria_pressed="true" if key == value else "false")
                made.on("click", panel.act(v, press, key))
                buttons[key] = made
    return field
