"""The OpenAI-compatible chat API: bodies out, chunks in. Tolerant to vendors that leave fields out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from agent.models.assembly import Assembly
from agent.models.base import ChatMessage, ModelRequest
from agent.models.refusal import hidden_refusal
from storage.errors import Unavailable


class OpenAIWire:
    """One address and model of that form. Learns what this vendor does not take."""

    def __init__(self, *, url: str, model: str, extra: Mapping[str, object] | None = None) -> None:
        self.url, self.model, self.extra = url, model, dict(extra or {})
        self._limit_name = "max_tokens"
        self._without: set[str] = set()

    def headers(self, key: str) -> dict[str, str]:
        """Headers with the key; local servers need none."""
        headers = {"accept": "text/event-stream", "user-agent": "zhixing"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        return headers

    def body(self, request: ModelRequest, *, temperature: float | None, max_tokens: int | None) -> dict[str, Any]:
        """The request's body. The order of fields and messages is stable, for vendors' prefix caches."""
        body: dict[str, Any] = {"model": self.model, "stream": True, "messages": _messages(request.messages)}
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {"name": t.name, "description": t.description, "parameters": t.parameters},
                }
                for t in request.tools
            ]
        if "stream_options" not in self._without:
            body["stream_options"] = {"include_usage": True}
        if temperature is not None and "temperature" not in self._without:
            body["temperature"] = temperature
        if max_tokens is not None:
            body[self._limit_name] = max_tokens
        body.update(self.extra)
        return body

    def learn(self, reason: str) -> bool:
        """Adapt to a refusal that names a field which this vendor does not take. True: trying again makes sense."""
        if "max_completion_tokens" in reason and self._limit_name == "max_tokens":
            self._limit_name = "max_completion_tokens"
            return True
        for name in ("stream_options", "temperature"):
            if name in reason and name not in self._without:
                self._without.add(name)
                return True
        return False

    def read(self, _name: str, data: bytes, into: Assembly) -> None:
        """One event of the stream.

        Raises:
            Unavailable: `model.broken`, the event is not what the protocol says.
            AppError: the vendor reports an error inside the stream.
        """
        if data[:6] == b"[DONE]":
            into.done = True
            return
        if not data.strip():
            return
        chunk = parsed(data)
        choices = chunk.get("choices")
        if not choices:
            self._aside(chunk, into)
            return
        choice = _first(choices)
        if chunk.get("usage"):
            _usage(chunk["usage"], into)
        if not into.model and isinstance(chunk.get("model"), str):
            into.model = chunk["model"][:200]
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            _delta(delta, into)
        if why := choice.get("finish_reason"):
            into.stops(str(why))

    def whole(self, body: Mapping[str, Any], into: Assembly) -> None:
        """An answer that came as one piece, though a stream was asked for."""
        if error := hidden_refusal(body, model=self.model):
            raise error
        choices = body.get("choices")
        if not choices:
            raise Unavailable("model.broken", why="no choices")
        choice = _first(choices)
        message = choice.get("message") or {}
        if isinstance(message, dict):
            _delta(message, into)
        _usage(body.get("usage"), into)
        into.stops(str(choice.get("finish_reason") or "stop"))
        into.done = True

    def _aside(self, chunk: dict[str, Any], into: Assembly) -> None:
        if error := hidden_refusal(chunk, model=self.model):
            raise error
        _usage(chunk.get("usage"), into)


def parsed(data: bytes) -> dict[str, Any]:
    """An event's JSON object. A character that was cut apart is replaced; broken JSON is an error."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            value = orjson.loads(data.decode("utf-8", "replace"))
        except orjson.JSONDecodeError as error:
            raise Unavailable("model.broken", why="json") from error
    if not isinstance(value, dict):
        raise Unavailable("model.broken", why="json")
    return value


def _first(choices: Any) -> dict[str, Any]:
    choice = choices[0] if isinstance(choices, list) else None
    if not isinstance(choice, dict):
        raise Unavailable("model.broken", why="choices")
    return choice


def _usage(usage: Any, into: Assembly) -> None:
    if isinstance(usage, dict):
        into.counts(usage.get("prompt_tokens"), usage.get("completion_tokens"))


def _text(value: Any) -> str:
    """Text of a content field: a string, or a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(str(part.get("text") or "") for part in value if isinstance(part, dict))
    return ""


def _delta(delta: dict[str, Any], into: Assembly) -> None:
    thought = delta.get("reasoning_content") or delta.get("reasoning")
    if isinstance(thought, str):
        into.thinks(thought)
    content = delta.get("content")
    if content:
        into.says(_text(content))
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        for place, call in enumerate(calls):
            if not isinstance(call, dict):
                raise Unavailable("model.broken", why="tool_calls")
            function = call.get("function")
            function = function if isinstance(function, dict) else {}
            arguments = function.get("arguments")
            if isinstance(arguments, dict):  # some send an object instead of text
                arguments = orjson.dumps(arguments).decode()
            index = call.get("index")
            into.calls(
                index if isinstance(index, int) else place,
                str(call.get("id") or ""),
                str(function.get("name") or ""),
                arguments if isinstance(arguments, str) else "",
            )


def _messages(messages: tuple[ChatMessage, ...]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "tool":
            out.append({"role": "tool", "tool_call_id": message.call_id, "content": message.text or "(empty)"})
        elif message.calls:
            calls = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": orjson.dumps(call.arguments).decode()},
                }
                for call in message.calls
            ]
            out.append({"role": "assistant", "content": message.text or None, "tool_calls": calls})
        elif message.text or message.role != "assistant":
            out.append({"role": message.role, "content": message.text})
    return out
