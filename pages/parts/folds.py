"""Parts of a page that fold: what a person has opened stays open when the page is drawn anew."""

from __future__ import annotations

from nicegui.events import GenericEventArguments

from pages.parts.markup import Markup, tag

Fold = Markup


class Folds:
    """Remembers for one open page what is open."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    def fold(self, name: str, css: str = "") -> Fold:
        """A `details` in the current place; its `summary` is made inside."""

        def turned(event: GenericEventArguments) -> None:
            (self._open.add if event.args is True else self._open.discard)(name)

        made = tag("details", "", css, open=True if name in self._open else None)
        return made.on("toggle", turned, js_handler="(e) => emit(e.target.open)")
