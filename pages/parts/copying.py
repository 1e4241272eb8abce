"""Text to be pasted elsewhere, with its copy button. The browser copies by itself."""

from __future__ import annotations

from pages.parts.markup import Markup, box, span, tag
from pages.visitor import Visitor


def copy_button(v: Visitor, text: str, css: str = "small") -> Markup:
    """Copies `text` and says so."""
    return tag("button", v.t("frame.copy"), f"btn {css}", type="button", data_copy=text)


def copy_line(v: Visitor, text: str) -> Markup:
    """The text whole, in a monospace face, and its button."""
    with box("copyline") as line:
        span(text, "mono")
        copy_button(v, text)
    return line
