"""What holds back the messages of one bot: the vendor's pace, pauses it asked for, and whether it works at all."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import uniform

from channels.base import Pace
from storage.clock import Clock

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
MOST_LANES = 5_000
Nap = Callable[[float, asyncio.Event], Awaitable[None]]


async def nap(seconds: float, woken: asyncio.Event) -> None:
    """Wait for so long, or until woken."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await woken.wait()


class Window:
    """At most `count` in any `seconds`, exactly: vendors punish the one too many for minutes."""

    __slots__ = ("count", "seconds", "taken")

    def __init__(self, count: int, seconds: float) -> None:
        self.count, self.seconds = count, seconds
        self.taken: deque[float] = deque()

    def wait(self, now: float) -> float:
        """Seconds until the next place is free."""
        return max(0.0, self.taken[0] + self.seconds - now) if len(self.taken) == self.count else 0.0

    def take(self, now: float) -> None:
        """Use a place."""
        if len(self.taken) == self.count:
            self.taken.popleft()
        self.taken.append(now)


def backoff(fails: int) -> float:
    """Seconds before the next try, doubling, with jitter."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(fails, 10)) * uniform(0.7, 1.2)  # noqa: S311 - spreads load only


class Desk:
    """One bot's sending. While the vendor fails, one message tries for all; the others wait."""

    def __init__(self, clock: Clock, nap: Nap, most_at_once: int) -> None:
        self.clock, self._nap = clock, nap
        self._slots = asyncio.Semaphore(most_at_once)
        self._trial, self._queue = asyncio.Lock(), asyncio.Lock()
        self._woken = asyncio.Event()
        self._pace: Pace | None = None
        self._all: Window | None = None
        self._lanes: OrderedDict[str, Window] = OrderedDict()
        self._held: dict[str, float] = {}
        self.fails = 0

    # ---- waiting

    async def rest(self, seconds: float) -> bool:
        """Wait, at most until the bot was changed. True if it was."""
        woken = self._woken
        await self._nap(seconds, woken)
        return woken.is_set()

    def wake(self) -> None:
        """The bot was started, replaced or stopped: what waits looks again, and earlier failures are forgotten."""
        self.fails = 0
        self._held.clear()
        self._woken.set()
        self._woken = asyncio.Event()

    # ---- turns

    @asynccontextmanager
    async def turn(self, lane: str, pace: Pace) -> AsyncIterator[bool]:
        """A place among those who send, when the vendor's limits leave one. False: to wait was asked for meanwhile."""
        window = self._window(lane, pace)
        while window is not None and (wait := window.wait(self.clock.monotonic())) > 0:
            _ = await self.rest(wait)
        async with self._slots:
            if self.fails:
                async with self._trial:
                    if self.fails:
                        yield await self._placed(lane, window)
                        return
            yield await self._placed(lane, window)

    async def _placed(self, lane: str, window: Window | None) -> bool:
        """Take the place at the moment of sending; nobody else takes one of this conversation's meanwhile."""
        if self._all is not None:
            async with self._queue:
                while (wait := self._all.wait(self.clock.monotonic())) > 0:
                    _ = await self.rest(wait)
                if self.held(lane):
                    return False
                self._all.take(self.clock.monotonic())
        elif self.held(lane):
            return False
        if window is not None:
            window.take(self.clock.monotonic())
        return True

    def _window(self, lane: str, pace: Pace) -> Window | None:
        if pace != self._pace:
            self._pace = pace
            self._all = Window(pace.count, pace.seconds) if pace.count else None
            self._lanes.clear()
        if not pace.per_lane_count:
            return None
        window = self._lanes.pop(lane, None) or Window(pace.per_lane_count, pace.per_lane_seconds)
        self._lanes[lane] = window
        if len(self._lanes) > MOST_LANES:
            self._lanes.popitem(last=False)
        return window

    def held(self, lane: str) -> float:
        """Seconds for which this conversation, or the whole bot, is to wait."""
        if not self._held:
            return 0.0
        now = self.clock.monotonic()
        until = max(self._held.get("", 0.0), self._held.get(lane, 0.0))
        if until <= now:
            for key in [key for key, at in self._held.items() if at <= now]:
                del self._held[key]
        return max(0.0, until - now)

    def hold(self, seconds: float, lane: str = "") -> None:
        """Let one conversation, or with no name the whole bot, wait."""
        self._held[lane] = max(self._held.get(lane, 0.0), self.clock.monotonic() + seconds)

    def works(self) -> None:
        """The vendor answered as it should."""
        self.fails = 0

    def failed(self) -> None:
        """The vendor cannot be reached or does not work."""
        self.hold(backoff(self.fails))
        self.fails += 1
