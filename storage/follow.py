"""Looks anew at what other processes have changed: once for many changes, never twice at a time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from storage.background import Background
from storage.bus import Bus
from storage.errors import AppError

log = logging.getLogger(__name__)

Look = Callable[[], Awaitable[object]]


class Follow:
    """Ties tables of the database to what this process keeps of them in memory."""

    def __init__(self, bus: Bus, background: Background) -> None:
        self.bus, self.background = bus, background
        self._running: set[str] = set()
        self._again: set[str] = set()

    def tables(self, name: str, tables: Sequence[str], look: Look) -> None:
        """Await `look` after another process changed one of the tables, or may have."""
        for table in tables:
            self.bus.hear_rows(table, lambda _: self.soon(name, look))
        self.bus.on_gap(lambda: self.soon(name, look))

    def soon(self, name: str, look: Look) -> None:
        """Look once more, beginning after now."""
        self._again.add(name)
        if name not in self._running:
            self._running.add(name)
            _ = self.background.spawn(f"look {name}", self._look(name, look))

    async def _look(self, name: str, look: Look) -> None:
        try:
            while name in self._again:
                self._again.discard(name)
                try:
                    await look()
                except AppError as error:
                    log.warning("%s not read again: %s", name, error)
        finally:
            self._running.discard(name)
