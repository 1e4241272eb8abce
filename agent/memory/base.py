"""What the rest of the agent may ask of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryScope:
    """Whose memory. Part of every query, never a filter after it.

    Attributes:
        person: stable id of the person (`feishu:ou_x`, `user:1`); empty for a group's or the tenant's memory.
        group: conversation key of the group; empty in direct chats.
        bot: the bot whose own knowledge is searched as well; empty for none.
    """

    tenant: str
    person: str = ""
    group: str = ""
    bot: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recalled:
    """Something found. `at` is when it was said (ms); `why` names the parts of the score; `label` its origin.

    `cite` names document and place where it is a piece of one ("handbook.pdf, p. 12"); empty otherwise.
    """

    id: int
    kind: str
    text: str
    speaker: str
    at: int
    score: float
    why: dict[str, float]
    source: str
    label: str
    cite: str = ""


class Memory(Protocol):
    """Keeps and finds. All calls are safe beside each other; none blocks the event loop."""

    async def keep_turn(
        self,
        scope: MemoryScope,
        *,
        message_id: int,
        speaker: str,
        text: str,
        at: int,
        session: str,
        label: str,
        speaker_id: str = "",
    ) -> None:
        """Queue something said for indexing. Returns at once; indexing happens behind. Safe to repeat by message_id."""
        ...

    async def remember(
        self,
        scope: MemoryScope,
        text: str,
        *,
        at: int,
        source: str,
        label: str,
        kind: str = "fact",
        speaker: str = "",
        speaker_id: str = "",
    ) -> int:
        """Keep a fact on request; found at once by words, soon by meaning. Returns its id."""
        ...

    async def recall(
        self, scope: MemoryScope, query: str, *, limit: int = 8, now: int = 0, session: str = "", since: int = 0
    ) -> list[Recalled]:
        """The best matches, best first; empty where nothing fits. Falls back to words while no embedder is ready."""
        ...

    async def forget(self, scope: MemoryScope, ids: list[int]) -> int:
        """Remove for good. Returns how many were removed."""
        ...
