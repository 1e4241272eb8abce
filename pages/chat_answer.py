"""An answer while it is made: its text in patches, its tool calls, numbered as the recorded steps will be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from agent.actions import StepRow
from pages.chat_steps import pretty, step_lines, what_for
from pages.chat_words import tool_name
from pages.visitor import Visitor
from security.growing_text import GrowingText, Patch
from security.markdown import visible

RESULT = 2_000


class RunningAnswer:
    """What one viewer has been shown of one running task. `since`: the last news that it already holds."""

    def __init__(self, v: Visitor, job: int, text: str, steps: Sequence[StepRow], *, since: int) -> None:
        self.v, self.job, self.key, self.since = v, job, f"j{job}", since
        self.lines = step_lines(v, steps, over=False)
        self._calls: dict[str, int] = {}
        self._text = GrowingText()
        self._pending = [text] if text else []
        self._turn = asyncio.Lock()
        self._seq = -1

    def hear(self, delta: str) -> None:
        """More text."""
        self._pending.append(delta)

    def void(self) -> None:
        """What was said so far does not count."""
        self._text, self._pending, self._seq = GrowingText(), [], -1

    async def patch(self) -> dict[str, Any] | None:
        """What the browser has to change; None if nothing was said since the last time."""
        async with self._turn:
            text = self._text
            patch = await self._render(text)
            return self._numbered(patch) if patch is not None and text is self._text else None

    async def whole(self) -> dict[str, Any]:
        """All that was said so far, for a page that starts from nothing."""
        async with self._turn:
            await self._render(self._text)
            self._seq = -1
            return self._numbered(self._text.whole())

    async def _render(self, text: GrowingText) -> Patch | None:
        pending, self._pending = self._pending, []
        if not pending:
            return None
        text.add("".join(pending))
        return await asyncio.to_thread(text.patch)

    def _numbered(self, patch: Patch) -> dict[str, Any]:
        self._seq += 1
        return {
            "seq": self._seq,
            "fresh": self._seq == 0,
            "settled": patch.settled,
            "keep": patch.keep,
            "tail": patch.tail,
        }

    def tool_started(self, data: dict[str, Any]) -> dict[str, Any]:
        """A line for a call that begins."""
        call, name = str(data.get("id", "")), str(data.get("name", ""))
        at = self._calls.get(call)
        if at is None:
            at = self._calls[call] = len(self.lines)
            self.lines.append({})
        self.lines[at] = {
            "id": str(at),
            "label": tool_name(self.v, name),
            "what": what_for(data.get("args")),
            "ms": None,
            "state": "run",
            "args": pretty(data.get("args")),
        }
        return self.lines[at]

    def tool_ended(self, data: dict[str, Any]) -> dict[str, Any]:
        """The same line with its result. A viewer who came in the middle has not seen it begin."""
        call = str(data.get("id", ""))
        if call not in self._calls:
            label = tool_name(self.v, str(data.get("name", "")))
            running = [n for n, line in enumerate(self.lines) if line["state"] == "run" and line["label"] == label]
            if running:
                self._calls[call] = running[0]
            else:
                self.tool_started(data)
        line = self.lines[self._calls[call]]
        line |= {
            "ms": data.get("ms") if isinstance(data.get("ms"), int) else None,
            "state": "ok" if data.get("ok", True) else "fail",
            "result": visible(str(data.get("result", "")))[:RESULT],
        }
        return line
