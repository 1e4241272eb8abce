"""Files on their way from the browser into the open conversation."""

from __future__ import annotations

from nicegui import events, ui

from agent.attachments import Attachments
from agent.tools.files import MOST_BYTES
from pages.chat_view import ChatView
from pages.frame import Panel
from pages.visitor import Visitor
from security.markdown import visible
from storage.errors import AppError, TooLarge

MOST = 10


def _tell(state: str, files: str) -> str:
    """A handler in the browser that tells the room what becomes of which files."""
    detail = f"{{ {state}: {files} }}"
    return f'(e) => window.dispatchEvent(new CustomEvent("zhixing-files", {{ detail: {detail} }}))'


def hidden_upload(panel: Panel, v: Visitor, view: ChatView, files: Attachments) -> int:
    """The element that carries files; the page's own button, drop and paste feed it. Returns its id."""

    async def arrived(event: events.UploadEventArguments) -> None:
        name = event.file.name[:200]
        try:
            if event.file.size() > MOST_BYTES:
                raise TooLarge("file.too_large", limit=MOST_BYTES // 1000)
            conversation = await view.needed()
            part = await files.keep(v.who, conversation, name, await event.file.read())
        except AppError as error:
            what, remedy = v.explain(error)
            return view.take("file", id=name, name=visible(name), error=f"{what} {remedy}".strip())
        view.take("file", id=name, name=part.name, ref=part.key)

    made = ui.upload(multiple=True, auto_upload=True, max_file_size=MOST_BYTES, on_upload=panel.act(v, arrived))
    made.classes("only-feed")
    made.on("added", js_handler=_tell("added", "e.map((file) => file.name)"))
    made.on("uploaded", js_handler=_tell("arrived", "e.files.map((file) => file.name)"))
    made.on("failed", js_handler=_tell("refused", "e.files.map((file) => file.name)"))
    made.on("rejected", js_handler=_tell("refused", "e.map((one) => one.file.name)"))
    return made.id
