"""`/v1/chat/completions` and `/v1/models`: the agent itself, for clients that speak OpenAI's API.

The agent answers with its own tools and memory, through the ledger like everybody's. Sampling parameters are taken and
left alone; the caller's own tools are refused, because nobody here could run them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from agent.models.actions import ModelActions
from agent.talks import Said, TalkActions
from agent.task_view import TaskView
from agent.tasks import TaskActions
from routes.api.terms import Caller, IdempotencyKey, Text
from storage.background import Background
from storage.errors import Invalid, NotFound
from storage.principal import Principal

OURS = "zhixing"
ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}
STATUS = {"refused": 403, "cancelled": 409}


class Piece(BaseModel):
    """A part of a message's content; only text is taken."""

    model_config = ConfigDict(extra="ignore")
    type: Text = Field(max_length=40)
    text: Text = Field(default="", max_length=200_000)


class ChatMessage(BaseModel):
    """One message of the talk."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[Text, Field(max_length=200_000)] | Annotated[list[Piece], Field(max_length=100)] | None = None


class StreamOptions(BaseModel):
    """What the stream has besides."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class ChatRequest(BaseModel):
    """As OpenAI's clients send it. What is not named here is taken and left alone."""

    model_config = ConfigDict(extra="ignore")
    messages: list[ChatMessage] = Field(min_length=1, max_length=500)
    model: Text = Field(default=OURS, max_length=300, description="`zhixing`, or one of /v1/models.")
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=1)
    tools: list[Any] | None = Field(default=None, max_length=0, description="Not taken: the agent has its own.")
    functions: list[Any] | None = Field(default=None, max_length=0)


def completions_router(
    tasks: TaskActions, talks: TalkActions, models: ModelActions, background: Background
) -> APIRouter:
    """Routes below `/v1`."""
    router = APIRouter(prefix="/v1", tags=["openai"])

    @router.get("/models", response_model=None)
    async def list_(who: Caller) -> dict[str, Any]:
        """Models that can be asked, the agent with its default model first. Right: chat.use."""
        refs = [OURS, *(choice.ref for choice in await models.choices(who))]
        return {"object": "list", "data": [_model(ref) for ref in refs]}

    @router.get("/models/{name:path}", response_model=None)
    async def one(who: Caller, name: str) -> dict[str, Any]:
        """One model. Right: chat.use."""
        if name != OURS and name not in {choice.ref for choice in await models.choices(who)}:
            raise NotFound("chat.model", model=name[:80])
        return _model(name)

    @router.post(
        "/chat/completions",
        response_model=None,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def complete(request: Request, who: Caller, body: ChatRequest, key: IdempotencyKey = "") -> Response:
        """An answer of the agent, whole or as a stream. Right: chat.use."""
        who.require("chat.use")
        said = [_said(message) for message in body.messages]
        wanted = "" if body.model in ("", OURS) else body.model
        if wanted and wanted not in {choice.ref for choice in await models.choices(who)}:
            raise NotFound("chat.model", model=wanted[:80])
        job = await talks.begin(who, said, model=wanted, key=key)
        answer = _Answer(tasks, talks, background, who, said, job, body.model or OURS, hold=bool(key))
        headers = {"x-task-id": str(job)}
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            return StreamingResponse(
                answer.stream(usage=usage),
                media_type="text/event-stream",
                headers={**headers, "x-accel-buffering": "no"},
            )
        return await answer.whole(request, headers)

    return router


class _Answer:
    """One answer on its way to one client.

    Args:
        hold: the task goes on when the client goes away, because it may ask again with the same key.
    """

    def __init__(
        self,
        tasks: TaskActions,
        talks: TalkActions,
        background: Background,
        who: Principal,
        said: list[Said],
        job: int,
        model: str,
        *,
        hold: bool,
    ) -> None:
        self.tasks, self.talks, self.background, self.who = tasks, talks, background, who
        self.said, self.job, self.model, self.hold = said, job, model, hold
        self.created = tasks.clock.ms() // 1000

    async def whole(self, request: Request, headers: dict[str, str]) -> Response:
        """The answer in one piece, once it is there."""
        view: TaskView | None = None
        async for event in self.tasks.events(self.who, self.job):
            if event.kind == "end":
                view = await self.tasks.get(self.who, self.job)
            elif event.kind == "ping" and await request.is_disconnected():
                self._leave()
                break
        if view is None or view.status != "done":
            status = STATUS.get(view.status, 502) if view is not None else 502
            return JSONResponse(_failure(view), status, headers=headers)
        await self.talks.keep(self.who, self.said, view.answer, self.job)
        message = {"role": "assistant", "content": view.answer, "refusal": None}
        body = {
            "id": f"chatcmpl-{self.job}",
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _usage(view),
        }
        return JSONResponse(body, headers=headers)

    async def stream(self, *, usage: bool) -> AsyncIterator[bytes]:
        """The answer as it comes. What was said before a tool was used stays; the answer follows it."""
        ended, all_, turn = False, "", ""
        try:
            yield self._chunk({"role": "assistant", "content": ""})
            async for event in self.tasks.events(self.who, self.job):
                if event.kind == "text":
                    all_, turn = all_ + event.data["delta"], turn + event.data["delta"]
                    yield self._chunk({"content": event.data["delta"]})
                elif event.kind == "reset" and turn.strip():
                    all_, turn = all_ + "\n\n", ""
                    yield self._chunk({"content": "\n\n"})
                elif event.kind == "ping":
                    yield b": ping\n\n"
                elif event.kind == "end":
                    ended = True
            view = await self.tasks.get(self.who, self.job)
            if view.status != "done":
                yield _line(_failure(view))
            else:
                rest = _rest(turn, view.answer)
                if rest:
                    yield self._chunk({"content": rest})
                await self.talks.keep(self.who, self.said, all_ + rest, self.job)
                yield self._chunk({}, finish="stop")
                if usage:
                    yield self._chunk(None, usage=_usage(view))
            yield b"data: [DONE]\n\n"
        finally:
            if not ended:
                self._leave()

    def _leave(self) -> None:
        """Nobody reads any more."""
        if not self.hold:
            _ = self.background.spawn(f"leave task {self.job}", self.tasks.cancel(self.who, self.job))

    def _chunk(self, delta: dict[str, Any] | None, *, finish: str = "", usage: dict[str, int] | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish or None}
        body: dict[str, Any] = {
            "id": f"chatcmpl-{self.job}",
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [choice] if delta is not None else [],
        }
        return _line(body if usage is None else {**body, "usage": usage})


def _line(value: object) -> bytes:
    return b"data: %s\n\n" % orjson.dumps(value)


def _rest(streamed: str, answer: str) -> str:
    """What of the answer has not been streamed."""
    there = streamed.strip()
    if answer.startswith(there):
        return answer[len(there) :]
    return f"\n\n{answer}"


def _said(message: ChatMessage) -> Said:
    """A message as text.

    Raises:
        Invalid: `chat.role`, `chat.content`.
    """
    if message.role not in ROLES:
        raise Invalid("chat.role", field="messages", role=message.role)
    if isinstance(message.content, list):
        if any(piece.type not in ("text", "input_text", "output_text") for piece in message.content):
            raise Invalid("chat.content", field="messages")
        return Said(role=ROLES[message.role], text="\n".join(piece.text for piece in message.content))
    return Said(role=ROLES[message.role], text=message.content or "")


def _model(ref: str) -> dict[str, Any]:
    return {"id": ref, "object": "model", "created": 0, "owned_by": OURS if ref == OURS else ref.partition("/")[0]}


def _usage(view: TaskView) -> dict[str, int]:
    both = view.tokens_in + view.tokens_out
    return {"prompt_tokens": view.tokens_in, "completion_tokens": view.tokens_out, "total_tokens": both}


def _failure(view: TaskView | None) -> dict[str, Any]:
    """Why there is no answer, in the words that the person would have read."""
    reason = (view.reason if view else "") or "job.cancelled"
    message = (view.answer if view else "") or reason
    return {"error": {"message": message, "type": "server_error", "param": None, "code": reason}}
