"""What a list or panel shows when it has nothing, when it waits, and when it failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pages.parts.button import button
from pages.parts.markup import Markup, box, tag
from pages.visitor import Visitor
from storage.errors import AppError


def empty(title: str, hint: str = "") -> Markup:
    """One sentence that says what will be here; put one button inside with `with`."""
    with box("state") as made:
        tag("p", title, "state-title")
        if hint:
            tag("p", hint, "muted")
    return made


def failed(v: Visitor, error: AppError, retry: Callable[..., Awaitable[Any]] | None = None) -> Markup:
    """What failed, its remedy and code, and a way to try again. The rest of the page goes on."""
    what, remedy = v.explain(error)
    with box("state failed", role="alert") as made:
        tag("p", what, "state-title")
        tag("p", remedy, "muted")
        tag("p", error.code, "mono faint")
        if retry is not None:
            button(v.t("frame.retry"), retry)
    return made


def skeleton(v: Visitor, rows: int = 3) -> Markup:
    """Grey lines in the shape of what comes, shown only after 200 ms."""
    with box("card", role="status", aria_label=v.t("frame.loading")) as made:
        for index in range(rows):
            box("skeleton").style(f"width:{90 - 17 * (index % 3)}%")
    return made


def note(state: str, text: str) -> Markup:
    """A quiet sentence with a state's colour and sign."""
    with box(f"note {state}") as made:
        tag("span", "", f"st {state}", aria_hidden="true")
        box("grow", text)
    return made
