"""The process's own clockwork: what is done again and again, driven by `schedule`.

It only ticks. Whether something is due is decided by whoever is called, from what is written in the database: a
restart forgets nothing, and a clock that was set does not matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import schedule

from storage.background import Background
from storage.errors import AppError

log = logging.getLogger(__name__)
Work = Callable[[], Awaitable[Any]]
TICK = 1.0


class Clockwork:
    """Calls each piece of work at its interval, never twice at once."""

    def __init__(self, background: Background) -> None:
        self.background = background
        self._scheduler = schedule.Scheduler()
        self._running: dict[str, asyncio.Task[None]] = {}

    def every(self, seconds: int, name: str, work: Work) -> None:
        """Call `work` every so many seconds, from then on. What it refuses is logged."""

        def begin() -> None:  # must not raise: that would stop all others
            if name not in self._running:
                task = self._running[name] = self.background.spawn(f"clock: {name}", self._do(name, work))
                task.add_done_callback(lambda _: self._running.pop(name, None))

        self._scheduler.every(seconds).seconds.do(begin)

    def start(self) -> None:
        """Begin to tick."""
        _ = self.background.spawn("clockwork", self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._scheduler.run_pending()

    async def _do(self, name: str, work: Work) -> None:
        try:
            await work()
        except AppError as error:
            log.warning("%s: %s", name, error)
