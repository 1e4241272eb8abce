"""Files of memory to be taken away: written line by line, kept for some minutes, readable by us alone."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from agent.memory.actions import MemoryActions
from storage.clock import Clock
from storage.principal import Principal

LIFE_MS = 15 * 60 * 1000  # for the download to begin


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeAway:
    """Writes exports into a folder of its own; whoever asks must have the right to what is in them."""

    actions: MemoryActions
    folder: Path
    clock: Clock

    async def memory(self, who: Principal, place: int) -> Path:
        """All of one memory. Rights as for `MemoryActions.export`."""
        return await self._write("memory", self.actions.export(who, place))

    async def person(self, who: Principal, person: str) -> Path:
        """All that is kept of a person. Rights as for `MemoryActions.export_person`."""
        return await self._write("person", self.actions.export_person(who, person))

    async def _write(self, name: str, parts: AsyncIterator[str]) -> Path:
        first = await anext(parts)  # refusals come before a file is made
        path = self.folder / f"{secrets.token_hex(8)}-{name}" / f"zhixing-{name}-{self.clock.now():%Y%m%d-%H%M}.jsonl"

        def made() -> int:
            self.tidy(LIFE_MS)
            path.parent.mkdir(parents=True, mode=0o700)
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

        with os.fdopen(await asyncio.to_thread(made), "w", encoding="utf-8") as file:
            await asyncio.to_thread(file.write, first)
            async for part in parts:
                await asyncio.to_thread(file.write, part)
        return path

    def tidy(self, older_than: int = 0) -> None:
        """Remove exports of so many ms ago and before; after a forgetting all of them."""
        if not self.folder.is_dir():
            return
        for place in self.folder.iterdir():
            for path in [*place.iterdir()] if place.is_dir() else []:
                if self.clock.ms() - path.stat().st_mtime * 1000 >= older_than:
                    path.unlink(missing_ok=True)
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
