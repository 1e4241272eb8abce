"""A button that says what will happen, and shows that it is at it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pages.parts.markup import Markup, tag

Handler = Callable[..., Awaitable[Any]]


def button(text: str, handler: Handler | None = None, css: str = "", **attrs: object) -> Markup:
    """A button; while its handler runs it is busy and takes no second press.

    Args:
        handler: made by `Panel.act`, so that refusals are shown.
        css: `pri` for the one main act, `quiet`, `danger`, `small`, `ic ic-<name>`.
    """
    made = tag("button", text, f"btn {css}".strip(), type="button", **attrs)
    if handler is not None:
        made.on("click", busy(made, handler))
    return made


def busy(pressed: Markup, handler: Handler) -> Handler:
    """Wrap a handler: the pressed button is busy until it ends."""

    async def run() -> None:
        if "aria-busy" in pressed.props:
            return
        pressed.attr(aria_busy="true", disabled=True)
        try:
            await handler()
        finally:
            if not pressed.is_deleted:
                pressed.attr(aria_busy=None, disabled=None)

    return run


def link(text: str, to: str, css: str = "") -> Markup:
    """A link that looks like a button."""
    return tag("a", text, f"btn {css}".strip(), href=to)
