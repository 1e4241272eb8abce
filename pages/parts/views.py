"""The views of a page, as links with their own addresses."""

from __future__ import annotations

from collections.abc import Sequence

from pages.parts.markup import Markup, tag


def views(label: str, items: Sequence[tuple[str, str]], here: str) -> Markup:
    """Links `(address, text)` in a line; the one that is open is marked."""
    with tag("nav", "", "views", aria_label=label) as made:
        for to, text in items:
            link = tag("a", text, "view", href=to)
            if to == here:
                link.attr(aria_current="page")
    return made
