"""What happens right now, for whoever watches: streamed text, steps, state. Nothing here is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveEvent:
    """One thing that happened in a conversation.

    kind and data:
        `job.queued` {message_id}, `job.started` {}, `recall` {items: [{text, when, why}]},
        `text` {delta}, `text.reset` {} (what streamed so far is void: retry or next model),
        `thinking` {} (the model works but says nothing yet),
        `tool.started` {n, name, args}, `tool.ended` {n, name, ok, result, ms},
        `plan` {items: [{text, state}]} with state `todo|doing|done|failed`,
        `ask` {n, text, action} (waits for a person), `job.ended` {status, message_id, reason},
        `message` {message_id} (a message was added outside a job), `delivery` {delivery_id, status}.
    """

    conversation: int
    job: int | None
    kind: str
    data: dict[str, Any] = field(default_factory=dict)


Listener = Callable[[LiveEvent], None]


class Live:
    """Publish and subscribe by conversation, within the process.

    Listeners are called in the event loop and must not block or raise; slow viewers batch on their side.
    """

    def __init__(self) -> None:
        self._by_conversation: dict[int, set[Listener]] = defaultdict(set)
        self._all: set[Listener] = set()
        self._text: dict[int, list[str]] = {}

    def watch(self, conversation: int | None, listener: Listener) -> Callable[[], None]:
        """Call `listener` for events of one conversation (None: all). Returns the function that ends it."""
        group = self._all if conversation is None else self._by_conversation[conversation]
        group.add(listener)

        def stop() -> None:
            group.discard(listener)
            if conversation is not None and not group:
                self._by_conversation.pop(conversation, None)

        return stop

    def publish(self, event: LiveEvent) -> None:
        """Tell everyone who watches."""
        if event.job is not None:
            if event.kind == "text":
                self._text.setdefault(event.job, []).append(event.data["delta"])
            elif event.kind in ("text.reset", "job.ended"):
                self._text.pop(event.job, None)
        for listener in tuple(self._by_conversation.get(event.conversation, ())):
            listener(event)
        for listener in tuple(self._all):
            listener(event)

    def text_so_far(self, job: int) -> str:
        """What a running job has streamed; for a viewer who comes late."""
        parts = self._text.get(job)
        if not parts:
            return ""
        if len(parts) > 1:
            parts[:] = ["".join(parts)]
        return parts[0]

    def watched(self, conversation: int) -> bool:
        """True if anyone watches this conversation."""
        return bool(self._by_conversation.get(conversation)) or bool(self._all)
