"""What happens right now, for whoever watches in any of the processes. Text is told on in small bundles."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from storage.bus import Bus
from storage.live import Live, LiveEvent

GATHER = 0.05
PIECE = 1_200  # characters; with all escapes they fit into one message
MOST_BYTES = 7_000
SHORT, FEW = 400, 20


class SharedLive(Live):
    """As `Live`; what is published in one process is heard in all."""

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self.bus = bus
        self._gathered: dict[int, tuple[int, list[str]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        bus.hear("live", self._heard)

    def publish(self, event: LiveEvent) -> None:
        self._begin(event)
        super().publish(event)
        if event.kind == "text" and event.job is not None:
            self._gathered.setdefault(event.job, (event.conversation, []))[1].append(str(event.data["delta"]))
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(GATHER, self._tell_all)
            return
        if event.job is not None:
            self._tell_text(event.job)  # in order
        self.bus.tell("live", c=event.conversation, j=event.job, k=event.kind, d=fitting(event.data))

    def watched(self, conversation: int) -> bool:
        return True  # somebody may, elsewhere

    def _begin(self, event: LiveEvent) -> None:
        if event.kind == "job.started" and event.job is not None:
            self._text.pop(event.job, None)  # of an attempt whose process has died

    def _tell_all(self) -> None:
        self._timer = None
        for job in list(self._gathered):
            self._tell_text(job)

    def _tell_text(self, job: int) -> None:
        conversation, parts = self._gathered.pop(job, (0, []))
        text = "".join(parts)
        for at in range(0, len(text), PIECE):
            self.bus.tell("live", c=conversation, j=job, k="text", d={"delta": text[at : at + PIECE]})

    def _heard(self, data: dict[str, Any]) -> None:
        event = LiveEvent(conversation=data["c"], job=data["j"], kind=data["k"], data=data["d"])
        self._begin(event)
        super().publish(event)


def fitting(data: dict[str, Any]) -> dict[str, Any]:
    """The event's data, with long texts and lists cut where it would not fit: pages read the rest from the rows."""
    if len(json.dumps(data, ensure_ascii=False, default=str).encode()) <= MOST_BYTES:
        return data
    return {key: _short(value) for key, value in data.items()}


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= SHORT else f"{value[:SHORT]}…"
    if isinstance(value, dict):
        return {key: _short(item) for key, item in list(value.items())[:FEW]}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value[:FEW]]
    return value
