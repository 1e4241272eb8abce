"""A button that takes files from the browser, with their progress; several one after another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import events, ui

from pages.frame import Panel
from pages.parts.markup import Markup, box, span, tag
from pages.visitor import Visitor

Arrived = Callable[[str, events.UploadEventArguments], Awaitable[None]]


def upload(
    panel: Panel,
    v: Visitor,
    text: str,
    arrived: Arrived,
    *,
    most: int,
    accept: str = "",
    multiple: bool = False,
    css: str = "pri",
    refused: Callable[[], Awaitable[None]] | None = None,
) -> Markup:
    """A button and the hidden element behind it.

    Args:
        arrived: is given the file's name and the event; what it raises is shown as a notice.
        most: bytes of one file.
        accept: endings that the browser offers (`.pdf,.docx`); the server checks by itself.
    """

    async def come(event: events.UploadEventArguments) -> None:
        await arrived(event.file.name[:300], event)

    async def too_large() -> None:
        if refused is not None:
            await refused()

    with box("upload") as whole:
        feed = ui.upload(multiple=multiple, auto_upload=True, max_file_size=most, on_upload=panel.act(v, come))
        feed.classes("only-feed")
        if accept:
            _ = feed.props(f'accept="{accept}"')
        feed.on("rejected", panel.act(v, too_large), args=[])
        made = tag("button", text, f"btn ic ic-upload {css}", type="button")
        made.on("click", js_handler=f"() => getElement({feed.id}).$refs.qRef.pickFiles()")
        busy = span("", "small muted", role="status")
        said, place = repr(v.t("upload.going")), f"document.getElementById('{busy.html_id}')"
        feed.on("added", js_handler=f"() => {{ {place}.textContent = {said} }}")
        again = f"getElement({feed.id}).$refs.qRef.reset()"
        feed.on("finish", js_handler=f"() => {{ {place}.textContent = ''; {again} }}")
    return whole
