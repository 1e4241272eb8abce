"""The chat page: talk to the agent, and see what it does while it does it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import events, ui

from agent.actions import ChatActions
from agent.approval_actions import ApprovalActions
from agent.attachments import Attachments
from agent.trace import TraceActions
from pages.chat_files import MOST, hidden_upload
from pages.chat_models import Choices
from pages.chat_room import ChatRoom
from pages.chat_rows import OPEN, said_view
from pages.chat_steps import step_detail, tool_steps
from pages.chat_view import ChatView
from pages.chat_wire import Told
from pages.chat_words import room_words
from pages.frame import Panel
from pages.visitor import Visitor
from storage.background import Background
from storage.errors import AppError, Invalid, NotFound

TYPED = 20_000


def mount(
    panel: Panel,
    chat: ChatActions,
    trace: TraceActions,
    choices: Choices,
    background: Background,
    files: Attachments | None = None,
    approvals: ApprovalActions | None = None,
) -> None:
    """Register /chat and /chat/<id>. Called once by app.py with what the page uses; no `files`: none can be added."""

    async def build(conversation: int | None) -> None:
        v = panel.enter()
        with panel.frame(v, "chat.title", place="/chat", wide=True, css=("chat.css",)):
            if not panel.may(v, "chat.use"):
                return
            view = ChatView(v, chat, trace, choices, approvals)
            try:
                initial = await view.first(conversation)
            except NotFound as error:
                initial = await view.first(None)
                what, remedy = v.explain(error)
                initial |= {"phase": "failed", "failed": {"what": what, "remedy": remedy}}
            _room(panel, v, view, initial, background, files)
        if initial["current"]["title"]:
            panel.title(v, initial["current"]["title"])

    @ui.page("/chat")
    async def page() -> None:
        await build(None)

    @ui.page("/chat/{conversation:int}")
    async def one(conversation: int) -> None:
        await build(conversation)


def _room(
    panel: Panel,
    v: Visitor,
    view: ChatView,
    initial: dict[str, Any],
    background: Background,
    files: Attachments | None,
) -> None:
    desk = Desk(view, files)
    attach = hidden_upload(panel, v, view, files) if files is not None else None
    me = hashlib.sha256(v.who.id.encode()).hexdigest()[:12]
    room = ChatRoom(initial=initial, words=room_words(v), me=me, on_act=panel.act(v, desk.did), attach=attach)
    view.take = room.take
    following = background.spawn(f"chat viewer {v.client.id}", _follow(v, view))

    def gone() -> None:
        following.cancel()
        view.leave()

    v.client.on_connect(panel.act(v, view.join))
    v.client.on_delete(gone)


async def _follow(v: Visitor, view: ChatView) -> None:
    await v.client.connected()
    if not v.client.is_deleted:
        await view.follow()


class Desk:
    """What the visitor does on the page, one method an act."""

    def __init__(self, view: ChatView, files: Attachments | None) -> None:
        self.who, self.view, self.files = view.who, view, files
        self.chat: ChatActions = view.chat
        self._acts: dict[str, Callable[[Told], Awaitable[None]]] = {
            "decide": self.decide,
            "detail": self.detail,
            "list": self.find,
            "model": self.model,
            "older": self.older,
            "open": self.open,
            "remove": self.remove,
            "rename": self.rename,
            "restore": self.restore,
            "retry": self.retry,
            "seen": self.seen,
            "send": self.send,
            "stop": self.stop,
            "sync": self.sync,
        }

    async def did(self, event: events.GenericEventArguments) -> None:
        """An event of the page's element."""
        told = Told(event.args)
        act = self._acts.get(told.text("do", 20))
        if act is None:
            raise Invalid("chat.event", field="do")
        await act(told)

    async def open(self, told: Told) -> None:
        await self.view.open(told.maybe("id"))

    async def older(self, told: Told) -> None:
        await self.view.older(told.number("before"))

    async def sync(self, told: Told) -> None:
        await self.view.sync()

    async def find(self, told: Told) -> None:
        self.view.search = told.text("search", 100, "")
        await self.view.send_list(told.maybe("before"))

    async def seen(self, told: Told) -> None:
        await self.view.send_list()

    async def rename(self, told: Told) -> None:
        conversation, title = told.number("id"), told.text("title", 200)
        await self.chat.rename(self.who, conversation, title)
        self.view.take("title", id=conversation, title=" ".join(title.split())[:80])

    async def remove(self, told: Told) -> None:
        await self.chat.hide(self.who, told.number("id"))

    async def restore(self, told: Told) -> None:
        await self.chat.hide(self.who, told.number("id"), undo=True)
        await self.view.send_list()

    async def model(self, told: Told) -> None:
        await self.chat.set_model(self.who, told.number("id"), told.text("ref", 200))

    async def stop(self, told: Told) -> None:
        if self.view.conversation is not None and not await self.chat.stop(self.who, self.view.conversation):
            await self.view.sync()  # it had ended: the page has missed that

    async def decide(self, told: Told) -> None:
        """A word about an act that waits. What it led to comes by itself."""
        if self.view.approvals is not None:
            try:
                await self.view.approvals.decide(self.who, told.number("id"), told.yes("yes"))
            except AppError:
                await self.view.sync()
                raise

    async def retry(self, told: Told) -> None:
        await self.chat.retry(self.who, told.number("job"))

    async def detail(self, told: Told) -> None:
        job, key, step = told.number("job"), told.text("key", 40), told.text("id", 20)
        calls = tool_steps(await self.chat.steps(self.who, job))
        if step.isdecimal() and int(step) < len(calls):
            self.view.take("detail", key=key, id=step, **step_detail(calls[int(step)]))

    async def send(self, told: Told) -> None:
        """Say something, in the open conversation or a new one. The same key a second time says nothing more."""
        async with self.view.quiet:
            await self._send(told)
        await self.view.send_list()

    async def _send(self, told: Told) -> None:
        key, text, came_from = told.text("key", 64), told.text("text", TYPED), told.maybe("from")
        names = told.texts("parts", MOST, 200)
        view, turn = self.view, self.view.turn
        try:
            conversation = came_from if came_from is not None else await self.chat.create(self.who)
            if came_from is None and (model := told.text("model", 200, "")):
                await self.chat.set_model(self.who, conversation, model)
            parts = await self.files.parts(self.who, conversation, names) if self.files is not None else ()
            accepted = await self.chat.send(self.who, conversation, text, client_key=key, parts=parts)
            if not accepted.fresh:
                conversation = await view.reader.conversation_of(accepted.job_id) or conversation
        except AppError:
            view.take("refused", key=key, text=text, **{"from": came_from})
            raise
        row = await self.chat.conversation(self.who, conversation)
        if not row.title and names:
            await self.chat.rename(self.who, conversation, names[0])
            row = await self.chat.conversation(self.who, conversation)
        sent = [m for m in await self.chat.messages(self.who, conversation) if m.job_id == accepted.job_id][:1]
        for message in sent:
            view.sent(message)
        view.take(
            "sent",
            **{"from": came_from},
            key=key,
            conversation=conversation,
            title=row.title,
            item={**said_view(sent[0]), "replaces": f"p{key}"} if sent else None,
            running=bool(sent) and sent[0].status in OPEN,
        )
        if came_from is None and turn == view.turn and view.conversation is None:
            view.conversation = conversation
            await view.join()
        elif not accepted.fresh:
            await view.sync()
