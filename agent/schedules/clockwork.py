"""Drives the ticker: at each planned second, after each change, and whenever the wall clock was set."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import schedule as daily

from agent.schedules.ticker import Ticker
from storage.background import Background
from storage.clock import Clock
from storage.errors import AppError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
RELOAD_SECONDS = 30.0
JUMP_MS = 2_000
TIDY_AT = "03:40"


class Clockwork:
    """One for the process. Sleeps by the monotonic clock, which never jumps; compares the wall clock every second.

    Args:
        late: told how many seconds after its planned time a run was entered.
    """

    def __init__(self, ticker: Ticker, clock: Clock, background: Background) -> None:
        self.ticker, self.clock, self.background = ticker, clock, background
        self.late: Callable[[float], None] = lambda seconds: None
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._next: int | None = None
        self._tidy = False
        self._daily = daily.Scheduler()

    def start(self) -> None:
        """Begin to tick."""
        # the library compares local wall times and would stand still for an hour that is set back: daily work only
        self._daily.every().day.at(TIDY_AT).do(self._want_tidy)
        self._task = self.background.spawn("schedules", self._run())

    def stop(self) -> None:
        """Enter nothing more."""
        if self._task is not None:
            self._task.cancel()

    def wake(self) -> None:
        """A schedule has changed: look at once."""
        self._woken.set()

    def _want_tidy(self) -> None:
        self._tidy = True

    async def _run(self) -> None:
        reload_at, jumps = 0.0, self._offset()
        while True:
            now, offset = self.clock.ms(), self._offset()
            jumped, jumps = abs(offset - jumps) > JUMP_MS, offset
            due = self._next is not None and self._next <= now
            if due or jumped or self._woken.is_set() or self.clock.monotonic() >= reload_at:
                self._woken.clear()
                try:
                    await self._look(now)
                    reload_at = self.clock.monotonic() + RELOAD_SECONDS
                except AppError as error:
                    log.error("schedules could not be looked at: %s", error)  # noqa: TRY400 - no trace: the disk is full
            await self._rest()

    async def _look(self, now: int) -> None:
        if self._next is not None and self._next <= now:
            self.late((now - self._next) / 1000)
        while await self.ticker.tick():
            pass
        await self.ticker.settle()
        self._next = await self.ticker.next_at()
        self._daily.run_pending()
        if self._tidy:
            self._tidy = False
            await self.ticker.tidy()

    async def _rest(self) -> None:
        left = LOOK_SECONDS if self._next is None else (self._next - self.clock.ms()) / 1000
        try:
            async with asyncio.timeout(min(LOOK_SECONDS, max(0.02, left))):
                await self._woken.wait()
        except TimeoutError:
            return

    def _offset(self) -> int:
        """Wall clock less monotonic clock: it changes only when somebody sets the clock."""
        return self.clock.ms() - int(self.clock.monotonic() * 1000)
