"""The Anthropic messages API: bodies out, events in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from agent.models.assembly import Assembly
from agent.models.base import ChatMessage, ModelRequest
from agent.models.openai import parsed
from agent.models.refusal import hidden_refusal, refusal
from storage.errors import Unavailable

VERSION = "2023-06-01"
MAX_TOKENS = 8192
WRONG_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")


class AnthropicWire:
    """One address and model of that form."""

    def __init__(self, *, url: str, model: str, extra: Mapping[str, object] | None = None) -> None:
        self.url, self.model, self.extra = url, model, dict(extra or {})
        self._without: set[str] = set()

    def headers(self, key: str) -> dict[str, str]:
        """Headers with the key."""
        headers = {"accept": "text/event-stream", "user-agent": "zhixing", "anthropic-version": VERSION}
        if key:
            headers["x-api-key"] = key
        return headers

    def body(self, request: ModelRequest, *, temperature: float | None, max_tokens: int | None) -> dict[str, Any]:
        """The request's body; system messages become the `system` field, tool results a user's content."""
        system = "\n\n".join(m.text for m in request.messages if m.role == "system" and m.text)
        body: dict[str, Any] = {"model": self.model, "stream": True, "max_tokens": max_tokens or MAX_TOKENS}
        if system:
            body["system"] = system
        if request.tools:
            tools: list[dict[str, Any]] = [
                {"name": t.name, "description": t.description, "input_schema": t.parameters} for t in request.tools
            ]
            tools[-1]["cache_control"] = {"type": "ephemeral"}  # tools are the stable beginning of the prompt
            body["tools"] = tools
        elif used := sorted({call.name for m in request.messages for call in m.calls}):
            # calls in the messages need their tools named, also where none may be called any more
            body["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in used]
            body["tool_choice"] = {"type": "none"}
        if temperature is not None and "temperature" not in self._without:
            body["temperature"] = min(1.0, temperature)
        body["messages"] = _messages(request.messages)
        body.update(self.extra)
        return body

    def learn(self, reason: str) -> bool:
        """Adapt to a refusal that names a field which this model does not take."""
        if "temperature" in reason and "temperature" not in self._without:
            self._without.add("temperature")
            return True
        return False

    def read(self, name: str, data: bytes, into: Assembly) -> None:
        """One event of the stream. Raises as `OpenAIWire.read`."""
        if not data.strip():
            return
        event = parsed(data)
        match event.get("type") or name:
            case "content_block_delta":
                _delta(event, into)
            case "content_block_start":
                block = _part(event, "content_block")
                if block.get("type") == "tool_use":
                    given = block.get("input")
                    text = orjson.dumps(given).decode() if isinstance(given, dict) and given else ""
                    into.calls(_index(event), str(block.get("id") or ""), str(block.get("name") or ""), text)
                elif block.get("type") == "text":
                    into.says(str(block.get("text") or ""))
            case "message_start":
                message = _part(event, "message")
                _usage(message.get("usage"), into)
                if isinstance(message.get("model"), str):
                    into.model = message["model"][:200]
            case "message_delta":
                _usage(event.get("usage"), into)
                if why := _part(event, "delta").get("stop_reason"):
                    into.stops(str(why))
            case "message_stop":
                into.done = True
            case "error":
                raise _error(event, self.model)

    def whole(self, body: Mapping[str, Any], into: Assembly) -> None:
        """An answer that came as one piece."""
        if error := hidden_refusal(body, model=self.model):
            raise error
        content = body.get("content")
        if not isinstance(content, list):
            raise Unavailable("model.broken", why="no content")
        for index, block in enumerate(content):
            if not isinstance(block, dict):
                raise Unavailable("model.broken", why="content")
            if block.get("type") == "text":
                into.says(str(block.get("text") or ""))
            elif block.get("type") == "thinking":
                into.thinks(str(block.get("thinking") or ""))
            elif block.get("type") == "tool_use":
                arguments = orjson.dumps(block.get("input")).decode()
                into.calls(index, str(block.get("id") or ""), str(block.get("name") or ""), arguments)
        _usage(body.get("usage"), into)
        into.stops(str(body.get("stop_reason") or "end_turn"))
        into.done = True


def _error(event: dict[str, Any], model: str) -> Exception:
    kind = str(_part(event, "error").get("type") or "")
    status = {"overloaded_error": 529, "rate_limit_error": 429, "authentication_error": 401, "api_error": 500}
    return refusal(status.get(kind, 0), event, model=model)


def _part(event: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = event.get(name)
    if not isinstance(value, dict):
        raise Unavailable("model.broken", why=name)
    return value


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0


def _delta(event: dict[str, Any], into: Assembly) -> None:
    delta = _part(event, "delta")
    match delta.get("type"):
        case "text_delta":
            into.says(str(delta.get("text") or ""))
        case "thinking_delta":
            into.thinks(str(delta.get("thinking") or ""))
        case "input_json_delta":
            into.calls(_index(event), "", "", str(delta.get("partial_json") or ""))


def _usage(usage: Any, into: Assembly) -> None:
    if isinstance(usage, dict):
        read = usage.get("input_tokens")
        if isinstance(read, int):
            cached = [usage.get(k) for k in ("cache_read_input_tokens", "cache_creation_input_tokens")]
            read += sum(n for n in cached if isinstance(n, int))
        into.counts(read, usage.get("output_tokens"))


def _messages(messages: tuple[ChatMessage, ...]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []

    def add(role: str, blocks: list[dict[str, Any]]) -> None:
        if out and out[-1]["role"] == role:
            out[-1]["content"].extend(blocks)
        else:
            out.append({"role": role, "content": blocks})

    for message in messages:
        if message.role == "system":
            continue
        if message.role == "tool":
            result = {"type": "tool_result", "tool_use_id": _id(message.call_id), "content": message.text or "(empty)"}
            add("user", [result])
            continue
        blocks: list[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text.strip() else []
        for call in message.calls:
            blocks.append({"type": "tool_use", "id": _id(call.id), "name": call.name, "input": call.arguments})
        if blocks:
            add("assistant" if message.role == "assistant" else "user", blocks)
    return out


def _id(call_id: str) -> str:
    """Ids of other vendors may hold characters that this one refuses."""
    return WRONG_IN_ID.sub("_", call_id)[:64] or "call"
