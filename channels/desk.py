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

    def take(self, now: float) -> float:
        """Take the next place; seconds until it comes."""
        at = now
        if len(self.taken) == self.count:
            at = max(now, self.taken.popleft() + self.seconds)
        self.taken.append(at)
        return at - now


def backoff(fails: int) -> float:
    """Seconds before the next try, doubling, with jitter."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(fails, 10)) * uniform(0.7, 1.2)  # noqa: S311 - spreads load only


class Desk:
    """One bot's sending. While the vendor fails, one message tries for all; the others wait."""

    def __init__(self, clock: Clock, nap: Nap, most_at_once: int) -> None:
        self.clock, self._nap = clock, nap
        self._slots = asyncio.Semaphore(most_at_once)
        self._trial = asyncio.Lock()
        self._woken = asyncio.Event()
        self._pace: Pace | None = None
        self._all: Window | None = None
        self._lanes: OrderedDict[str, Window] = OrderedDict()
        self._held: dict[str, float] = {}
        self.fails = 0

    # ---- waiting

    async def rest(self, seconds: float) -> None:
        """Wait, at most until the bot was changed."""
        await self._nap(seconds, self._woken)

    def wake(self) -> None:
        """The bot was started, replaced or stopped: what waits looks again, and earlier failures are forgotten."""
        self.fails = 0
        self._held.clear()
        self._woken.set()
        self._woken = asyncio.Event()

    # ---- turns

    async def pace(self, lane: str, pace: Pace) -> None:
        """Wait for the next place that the vendor's limits leave to this conversation."""
        if pace != self._pace:
            self._pace = pace
            self._all = Window(pace.count, pace.seconds) if pace.count else None
            self._lanes.clear()
        if pace.per_lane_count:
            window = self._lanes.pop(lane, None) or Window(pace.per_lane_count, pace.per_lane_seconds)
            self._lanes[lane] = window
            if len(self._lanes) > MOST_LANES:
                self._lanes.popitem(last=False)
            wait = window.take(self.clock.monotonic())
            if wait > 0:
                await self.rest(wait)
        if self._all is not None:
            wait = self._all.take(self.clock.monotonic())
            if wait > 0:
                await self.rest(wait)

    @asynccontextmanager
    async def turn(self, lane: str) -> AsyncIterator[bool]:
        """A place among those who send. False: a pause was asked for meanwhile, try again later."""
        async with self._slots:
            if self.fails:
                async with self._trial:
                    if self.fails:
                        yield not self.held(lane)
                        return
            yield not self.held(lane)

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
