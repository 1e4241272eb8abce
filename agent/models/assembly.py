"""An answer as it is put together from a stream: visible text, tool calls, counts, ending. Bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from agent.models.base import (
    BadToolCall,
    Completed,
    ModelEvent,
    ModelRequest,
    Retracted,
    TextDelta,
    Thinking,
    ToolCall,
)
from agent.models.tokens import at_most, estimate
from agent.models.visible import Visible
from storage.errors import Rejected, Unavailable

MOST_ARGUMENTS = 1_000_000
MOST_TEXT = 200_000
MOST_THOUGHTS = 1_000_000
MOST_CALLS = 32
STOPS = {
    "stop": "end",
    "end_turn": "end",
    "stop_sequence": "end",
    "eos": "end",
    "tool_calls": "tools",
    "tool_use": "tools",
    "function_call": "tools",
    "length": "length",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "filtered",
    "sensitive": "filtered",
    "refusal": "filtered",
    "risk": "filtered",
}


@dataclass(slots=True)
class _Partial:
    """A tool call on its way."""

    id: str
    name: str
    parts: list[str] = field(default_factory=list)
    size: int = 0


class Assembly:
    """Collects what a wire reads.

    Attributes:
        finished: the vendor said why it stopped.
        done: nothing more is to be read.
        begun: anything at all has arrived: text, a thought or a call.
        thinks_first: the model began inside a thought; known from before, or found out now.
    """

    def __init__(self, request: ModelRequest, *, thinks_first: bool = False) -> None:
        self.request = request
        self.finished = self.done = self.begun = False
        self.tokens_in = self.tokens_out = 0
        self.model = ""
        self._stop = ""
        self.thinks_first = thinks_first
        self._visible = Visible(thinks_first=thinks_first)
        self._handed = self._retract = False
        self._text: list[str] = []
        self._size = 0
        self._new: list[str] = []
        self._thoughts = 0
        self._told = 0
        self._calls: list[_Partial] = []
        self._by_index: dict[int, _Partial] = {}
        self._overflow = ""

    # --- what a wire reports

    def says(self, text: str) -> None:
        """A piece of the answer's text, unfiltered."""
        if not text:
            return
        self.begun = True
        shown = self._visible.feed(text)
        if self._visible.void:
            self._visible.void, self.thinks_first, self._retract = False, True, self._handed
            self._thoughts += self._size
            self._text, self._new, self._size = [], [], 0
        if shown:
            self._show(shown)
        elif self._visible.hidden > MOST_THOUGHTS:
            raise Unavailable("model.broken", why="endless")

    def thinks(self, text: str) -> None:
        """A piece of its reasoning: counted, not kept."""
        if not text:
            return
        self.begun = True
        self._thoughts += len(text)
        if self._thoughts > MOST_THOUGHTS:
            raise Unavailable("model.broken", why="endless")

    def calls(self, index: int, id: str, name: str, arguments: str) -> None:
        """A piece of a tool call. A new id with a name at a known index begins another call."""
        self.begun = True
        partial = self._by_index.get(index)
        if partial is None or (id and name and partial.id and id != partial.id):
            partial = _Partial(id[:200], name[:200])
            self._by_index[index] = partial
            if len(self._calls) < MOST_CALLS:
                self._calls.append(partial)
            else:
                self._overflow = "too many calls in one answer"
        else:
            partial.id = partial.id or id[:200]
            partial.name = partial.name or name[:200]
        partial.size += len(arguments)
        if partial.size > MOST_ARGUMENTS:
            # nothing good can follow: the call is refused as it stands, the rest is not read
            partial.parts = []
            self._stop, self.finished, self.done = "tool_calls", True, True
        elif arguments:
            partial.parts.append(arguments)

    def counts(self, tokens_in: Any = None, tokens_out: Any = None) -> None:
        """Token counts, where the vendor sends them; later ones replace earlier ones."""
        if isinstance(tokens_in, int) and 0 <= tokens_in < 100_000_000:
            self.tokens_in = tokens_in
        if isinstance(tokens_out, int) and 0 <= tokens_out < 100_000_000:
            self.tokens_out = tokens_out

    def stops(self, why: str) -> None:
        """The vendor's reason to stop."""
        self._stop, self.finished = why, True

    # --- what the caller takes

    def take(self) -> list[ModelEvent | Retracted]:
        """Events since the last call."""
        out: list[ModelEvent | Retracted] = []
        if self._retract:
            self._retract = False
            out.append(Retracted())
        thoughts = self._thoughts + self._visible.hidden
        if thoughts != self._told:
            self._told = thoughts
            out.append(Thinking(chars=thoughts))
        if self._new:
            self._handed = True
            out.append(TextDelta(text="".join(self._new)))
            self._new = []
        return out

    def close(self) -> None:
        """The stream has ended: what was held back is shown or dropped."""
        if rest := self._visible.finish():
            self._show(rest)

    def completed(self, *, name: str, first_ms: int, total_ms: int) -> Completed:
        """The whole answer.

        Raises:
            Rejected: `model.filtered`, refused by the vendor without a word.
            Unavailable: `model.empty`, neither text nor a call.
        """
        calls, bad = self._sorted_calls()
        text = "".join(self._text).rstrip()
        stop = STOPS.get(self._stop, "end")
        if calls or bad:
            stop = "tools"
        elif self._visible.tools:
            tool = self._visible.tool_name or "unknown"
            problem = "the call was written into the text; call tools only through the tool interface"
            bad = [BadToolCall(id="text_1", name=tool, problem=problem)]
            stop = "tools"
        elif stop == "filtered" and not text:
            raise Rejected("model.filtered", reason="")
        elif not text:
            raise Unavailable("model.empty", why="length" if stop == "length" else "silent")
        estimated = not self.tokens_in and not self.tokens_out
        spoken = estimate(text) + (self._thoughts + self._visible.hidden) // 4
        return Completed(
            text=text,
            calls=tuple(calls),
            bad_calls=tuple(bad),
            stop=stop,
            tokens_in=at_most(self.request) // 2 if estimated else self.tokens_in,
            tokens_out=spoken + sum(call.size for call in self._calls) // 4 if estimated else self.tokens_out,
            estimated=estimated,
            model=self.model or name,
            first_token_ms=first_ms,
            total_ms=total_ms,
        )

    def _show(self, text: str) -> None:
        self._size += len(text)
        limit = MOST_TEXT
        if self.request.max_tokens:
            limit = min(limit, self.request.max_tokens * 12 + 4000)
        if self._size > limit:
            raise Unavailable("model.broken", why="endless")
        self._text.append(text)
        self._new.append(text)

    def _sorted_calls(self) -> tuple[list[ToolCall], list[BadToolCall]]:
        good: list[ToolCall] = []
        bad: list[BadToolCall] = []
        known = {tool.name for tool in self.request.tools}
        ids: dict[str, tuple[str, str]] = {}
        for n, partial in enumerate(self._calls, 1):
            raw = "".join(partial.parts)
            call_id = partial.id or f"call_{n}"
            if call_id in ids:
                if ids[call_id] == (partial.name, raw):
                    continue  # the same call sent twice
                call_id = f"{call_id}_{n}"
            ids[call_id] = (partial.name, raw)
            arguments, problem = self._arguments(partial, raw)
            if partial.name not in known:
                problem = f"there is no tool {partial.name[:80]!r}; tools: {', '.join(sorted(known)) or 'none'}"
            if problem or arguments is None:
                bad.append(BadToolCall(id=call_id, name=partial.name or "unknown", problem=problem))
            else:
                good.append(ToolCall(id=call_id, name=partial.name, arguments=arguments))
        if self._overflow:
            bad.append(BadToolCall(id="call_more", name="unknown", problem=self._overflow))
        return good, bad

    def _arguments(self, partial: _Partial, raw: str) -> tuple[dict[str, Any] | None, str]:
        if partial.size > MOST_ARGUMENTS:
            return None, f"the arguments are over {MOST_ARGUMENTS:,} characters"
        if STOPS.get(self._stop) == "length" and partial is self._calls[-1]:
            return None, "the call was cut by the token limit; make it shorter"
        if not raw.strip():
            return {}, ""
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            return None, f"the arguments are not valid JSON: {error}"[:300]
        if not isinstance(value, dict):
            return None, "the arguments are not a JSON object"
        return value, ""
