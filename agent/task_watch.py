"""Watching a task: what happened since one last looked, put together, so that a slow reader costs no memory."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass, field
from typing import Any

from storage.live import Live, LiveEvent

REFRESHING = frozenset({"job.started", "job.ended", "tool.ended", "recall", "ask"})


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskEvent:
    """One thing that happened.

    kind: `status`, `step`, `text` (a piece of the answer as it comes), `reset` (what came so far of the answer is
    void: a tool was asked, or the model was changed), `end` (the whole task), `ping`.
    `mark` resumes after this event.
    """

    kind: str
    mark: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class Mark:
    """How far a reader has come: recorded steps, and characters of the answer with a checksum of them."""

    steps: int = 0
    chars: int = 0
    sum: int = 0

    def said(self, text: str) -> None:
        """More of the answer was read."""
        self.chars += len(text)
        self.sum = zlib.crc32(text.encode("utf-8", "replace"), self.sum)

    def reset(self) -> None:
        """The answer begins anew."""
        self.chars = self.sum = 0

    def fits(self, text: str) -> bool:
        """True if what was read is the beginning of this text."""
        return len(text) >= self.chars and zlib.crc32(text[: self.chars].encode("utf-8", "replace")) == self.sum

    def __str__(self) -> str:
        return f"{self.steps}.{self.chars}.{self.sum:08x}"


def read_mark(text: str) -> Mark:
    """The reverse of `str(mark)`; a new one for whatever is not such a text."""
    parts = text.split(".")
    if len(text) > 60 or len(parts) != 3 or not (parts[0].isascii() and parts[0].isdigit()):
        return Mark()
    try:
        return Mark(steps=int(parts[0]), chars=abs(int(parts[1])), sum=int(parts[2], 16) & 0xFFFFFFFF)
    except ValueError:
        return Mark()


class Following:
    """Listens to one job. `take` gives what came since, as one."""

    def __init__(self, live: Live, conversation: int | None, job: int) -> None:
        self.job = job
        self._woken = asyncio.Event()
        self._reset, self._refresh = False, False
        self._text: list[str] = []
        self._stop = live.watch(conversation, self._heard) if conversation is not None else lambda: None

    def stop(self) -> None:
        """Listen no more."""
        self._stop()

    def _heard(self, event: LiveEvent) -> None:
        if event.job != self.job:
            return
        if event.kind == "text":
            self._text.append(event.data["delta"])
        elif event.kind == "text.reset":
            self._reset = True
            self._text.clear()
        elif event.kind in REFRESHING:
            self._refresh = True
        else:
            return
        self._woken.set()

    async def wait(self, seconds: float) -> bool:
        """Wait until something came, at most so long. False if nothing did."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> tuple[bool, str, bool]:
        """Whether the answer began anew, what was said since, and whether the task's rows are to be read again."""
        taken = self._reset, "".join(self._text), self._refresh
        self._reset = self._refresh = False
        self._text.clear()
        self._woken.clear()
        return taken
