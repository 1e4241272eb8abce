"""The memory of a process with all that belongs to it, built and started together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from agent.memory.actions import MemoryActions
from agent.memory.extract import Extractor
from agent.memory.forget import Forgetter
from agent.memory.knowledge import Knowledge
from agent.memory.said import SaidToIt
from agent.memory.store import MemoryStore, build_memory
from agent.memory.takeaway import TakeAway
from storage.audit import Audit
from storage.background import Background
from storage.clock import Clock
from storage.database import Database
from storage.words import Words


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryParts:
    """Start after the database is migrated, stop before it closes."""

    store: MemoryStore
    forgetter: Forgetter
    actions: MemoryActions
    knowledge: Knowledge
    said: SaidToIt
    extractor: Extractor
    takeaway: TakeAway

    async def start(self) -> None:
        """Quick; what takes time goes on behind."""
        await self.store.start()
        await self.forgetter.start()
        await self.knowledge.start()
        self.extractor.start()

    async def stop(self) -> None:
        """End the work behind and write what waits."""
        self.extractor.stop()
        await self.knowledge.stop()
        await self.forgetter.stop()
        await self.store.stop()


def build_parts(
    *,
    db: Database,
    clock: Clock,
    background: Background,
    audit: Audit,
    words: Words,
    ask: Callable[[str, str], Awaitable[str]],
    index_dir: Path,
    files_dir: Path,
    embedder: str = "auto",
) -> MemoryParts:
    """Build them.

    Args:
        ask: is given a tenant and a prompt and returns a model's text.
        embedder: see `build_memory`.
    """
    store = build_memory(db, clock, background, index_dir, embedder=embedder)
    forgetter = Forgetter(store)
    actions = MemoryActions(store, forgetter, audit, clock)
    takeaway = TakeAway(actions=actions, folder=index_dir / "exports", clock=clock)

    async def tidy() -> None:
        await asyncio.to_thread(takeaway.tidy)

    forgetter.on_forgotten.append(lambda: background.spawn("memory-exports", tidy()))
    return MemoryParts(
        store=store,
        forgetter=forgetter,
        actions=actions,
        knowledge=Knowledge(store, audit, clock, background, files_dir),
        said=SaidToIt(store, forgetter, words),
        extractor=Extractor(store, clock, background, ask),
        takeaway=takeaway,
    )
