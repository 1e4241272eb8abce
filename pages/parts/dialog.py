"""Dialogs: a box over the page, and the question before something is destroyed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from pages.frame import Panel
from pages.parts.form import Form, Values
from pages.parts.markup import box, tag
from pages.visitor import Visitor


class Dialog:
    """An open dialog."""

    def __init__(self, box: ui.dialog) -> None:
        self._box = box

    def close(self) -> None:
        """Close it; it leaves the page."""
        _ = self._box.close()

    def stay(self) -> None:
        """Neither `Esc` nor a press beside it closes it: what it shows is shown only once."""
        _ = self._box.props("persistent")

    def cancel(self, v: Visitor) -> None:
        """A button here that closes it."""
        tag("button", v.t("frame.cancel"), "btn", type="button").on("click", self.close)


@contextmanager
def dialog(title: str, *, broad: bool = False) -> Iterator[Dialog]:
    """An open dialog with its title; it is removed from the page when it closes. `Esc` closes it.

    It hangs on the page itself, so that it outlives the part, or the dialog, whose button opened it.
    """
    with ui.context.client.content, ui.dialog() as made:
        made.props["aria-label"] = title
        _ = made.on("hide", made.delete)
        with box("card dialog broad" if broad else "card dialog"):
            tag("h2", title)
            yield Dialog(made)
    _ = made.open()


def confirm(
    panel: Panel,
    v: Visitor,
    *,
    title: str,
    text: str,
    act: str,
    handler: Callable[[], Awaitable[Any]],
    name: str = "",
) -> None:
    """Ask before something that cannot be undone.

    Args:
        act: the button's text, e.g. "Remove bot".
        name: what must be typed; empty where a press is enough.
    """

    async def send(values: Values, _do: str) -> None:
        if name and values["name"] != name:
            form.fail("name", v.t("confirm.name.wrong", name=name))
            return
        made.close()
        await handler()

    with dialog(title) as made:
        tag("p", text, "muted")
        with Form(panel, v, send, css="field") as form:
            if name:
                form.text("name", v.t("confirm.name", name=name), autofocus=True)
            with box("formend"):
                form.submit(act, "go", css="danger pri")
                made.cancel(v)
