"""Tasks by API: enter, look, watch, cancel."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from agent.task_view import TaskRow, TaskView
from agent.task_watch import TaskEvent
from agent.tasks import TaskActions, TaskDraft
from routes.api.terms import Before, Body, Caller, IdempotencyKey, Items, Limit, Number, Text, page
from storage.errors import Throttled
from storage.principal import Principal

MOST_OF_ONE, MOST_OF_ALL = 20, 300
LOOK_AGAIN = 15.0

Alive = Callable[[Request, Principal], Awaitable[bool]]
Status = Literal["", "open", "todo", "doing", "waiting", "done", "failed", "refused", "cancelled"]


class CallbackDraft(Body):
    """Where the ended task is posted, signed with HMAC-SHA256 as our webhooks are."""

    url: Text = Field(min_length=1, max_length=2000, examples=["https://ops.example.com/zhixing"])
    secret: Text = Field(min_length=16, max_length=200, description="Signs the call; kept sealed until it was made.")


class NewTask(Body):
    """What is asked."""

    text: Text = Field(min_length=1, max_length=20_000, examples=["把昨天的工单按部门汇总"])
    conversation: Text = Field(
        default="", max_length=80, description="A name of yours. Tasks of one name are one conversation."
    )
    model: Text = Field(default="", max_length=200, description="One of /models/choices; empty for the default.")
    bot: Text = Field(default="", max_length=60, description="Bot that also sends the answer.")
    target: Text = Field(default="", max_length=200, description="To whom, e.g. `user:staff1`, `group:…`, `oc_…`.")
    callback: CallbackDraft | None = None


class Streams:
    """How many event streams are open, by caller."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def check(self, who: str) -> None:
        """Raises: Throttled: `api.streams`."""
        if self._open[who] >= MOST_OF_ONE or self._open.total() >= MOST_OF_ALL:
            raise Throttled("api.streams", retry_after=10, most=MOST_OF_ONE)

    def enter(self, who: str) -> None:
        self._open[who] += 1

    def leave(self, who: str) -> None:
        self._open[who] -= 1
        if self._open[who] <= 0:
            del self._open[who]


def tasks_router(tasks: TaskActions, alive: Alive) -> APIRouter:
    """Routes below `/api/v1/tasks`."""
    router, streams = APIRouter(prefix="/api/v1/tasks", tags=["tasks"]), Streams()

    @router.post("", status_code=201, responses={200: {"model": TaskView, "description": "Asked before"}})
    async def create(who: Caller, body: NewTask, response: Response, key: IdempotencyKey = "") -> TaskView:
        """Give the agent a task. Right: chat.use; message.send to have a bot send the answer."""
        call = body.callback
        made = await tasks.create(
            who,
            TaskDraft(
                text=body.text,
                conversation=body.conversation,
                model=body.model,
                bot=body.bot,
                target=body.target,
                callback_url=call.url if call else "",
                callback_secret=call.secret if call else "",
            ),
            key=key,
        )
        response.status_code = 201 if made.fresh else 200
        response.headers["location"] = f"/api/v1/tasks/{made.task.id}"
        return made.task

    @router.get("")
    async def list_(
        who: Caller,
        status: Status = "",
        everyone: Annotated[bool, Query(description="Those of all people, bots and keys. Right: trace.view.")] = False,
        before: Before = None,
        limit: Limit = 50,
    ) -> Items[TaskRow]:
        """Your tasks, newest first. Right: chat.use."""
        return page(await tasks.list(who, everyone=everyone, status=status, before=before, limit=limit), limit)

    @router.get("/{id:int}")
    async def get(who: Caller, id: Number) -> TaskView:
        """A task with its answer, steps and receipts. Right: chat.use; trace.view for others'."""
        return await tasks.get(who, id)

    @router.post("/{id:int}/cancel")
    async def cancel(who: Caller, id: Number) -> TaskView:
        """Stop a task; one that has ended stays as it is. Right: chat.use; task.manage for others'."""
        return await tasks.cancel(who, id)

    @router.get(
        "/{id:int}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Events"}},
    )
    async def events(
        request: Request,
        who: Caller,
        id: Number,
        after: Annotated[str, Header(alias="Last-Event-ID", max_length=60, pattern=r"^[\x21-\x7e]*$")] = "",
    ) -> StreamingResponse:
        """What happens with a task, as server-sent events, until it ends; a cut stream goes on after Last-Event-ID.

        Events: `status`, `step`, `text` (a piece of the answer), `reset` (what came of the answer so far is void),
        `end` (the whole task). Right: chat.use.
        """
        _ = await tasks.get(who, id)
        streams.check(who.id)
        found = _stream(tasks.events(who, id, after=after), request, who, alive, streams)
        return StreamingResponse(found, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    return router


async def _stream(
    events: AsyncIterator[TaskEvent], request: Request, who: Principal, alive: Alive, streams: Streams
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    streams.enter(who.id)
    try:
        looked = loop.time()
        yield b"retry: 2000\n\n"
        async for event in events:
            if loop.time() - looked > LOOK_AGAIN:
                looked = loop.time()
                if not await alive(request, who):
                    return
            yield wire(event)
    finally:
        streams.leave(who.id)


def wire(event: TaskEvent) -> bytes:
    """An event as it goes over the wire."""
    if event.kind == "ping":
        return b": ping\n\n"
    return b"event: %s\nid: %s\ndata: %s\n\n" % (event.kind.encode(), event.mark.encode(), orjson.dumps(event.data))
