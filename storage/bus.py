"""What the processes that share a database tell each other: PostgreSQL's LISTEN/NOTIFY. Nothing here is kept.

A message may be lost while a connection is made anew; `on_gap` listeners then look at the database themselves.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from storage.background import Background

if TYPE_CHECKING:
    from psycopg import AsyncConnection

log = logging.getLogger(__name__)

CHANNEL, ROWS = "zhixing", "zhixing_rows"
MOST_BYTES = 7_600  # PostgreSQL takes 8,000
MOST_WAITING = 20_000
GATHER = 0.03  # seconds in which messages come together
PAUSE = 0.5

Heard = Callable[[dict[str, Any]], None]
RowsHeard = Callable[[str], None]


class Bus:
    """Of one process alone: there is nobody to tell."""

    def tell(self, topic: str, **data: Any) -> None:
        """Tell all other processes. Returns at once."""

    def hear(self, topic: str, listener: Heard) -> None:
        """Call `listener` with what other processes tell. It must not block or raise."""

    def hear_rows(self, table: str, listener: RowsHeard) -> None:
        """Call `listener` when another process has changed rows of a table: with their memory, or an empty text."""

    def on_gap(self, listener: Callable[[], None]) -> None:
        """Call `listener` when messages may have been lost."""

    async def start(self) -> None:
        """Begin to listen."""

    async def stop(self) -> None:
        """Tell what waits and end."""


class SharedBus(Bus):
    """Two connections of its own: one listens, one tells.

    Args:
        conninfo: the database's address.
        origin: this process; what it told itself is not heard.
    """

    def __init__(self, conninfo: str, origin: str, background: Background) -> None:
        self.conninfo, self.origin, self.background = conninfo, origin, background
        self._listeners: dict[str, list[Heard]] = defaultdict(list)
        self._rows: dict[str, list[RowsHeard]] = defaultdict(list)
        self._gap: list[Callable[[], None]] = []
        self._waiting: deque[str] = deque(maxlen=MOST_WAITING)
        self._wake, self._told = asyncio.Event(), asyncio.Event()
        self._told.set()
        self._tasks: list[asyncio.Task[None]] = []
        self.listening = asyncio.Event()

    def tell(self, topic: str, **data: Any) -> None:
        text = json.dumps([topic, data], ensure_ascii=False, separators=(",", ":"), default=str)
        if len(text.encode()) > MOST_BYTES:
            log.warning("a message of the topic %s is too long for the other processes", topic)
            return
        self._waiting.append(text)
        self._told.clear()
        self._wake.set()

    def hear(self, topic: str, listener: Heard) -> None:
        self._listeners[topic].append(listener)

    def hear_rows(self, table: str, listener: RowsHeard) -> None:
        self._rows[table].append(listener)

    def on_gap(self, listener: Callable[[], None]) -> None:
        self._gap.append(listener)

    async def start(self) -> None:
        self._tasks = [
            self.background.spawn("bus listen", self._listen()),
            self.background.spawn("bus tell", self._tell()),
        ]
        try:
            async with asyncio.timeout(10):
                await self.listening.wait()
        except TimeoutError:
            log.warning("the other processes cannot be heard yet")

    async def stop(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._told.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=5)

    # ---- inside

    async def _connect(self) -> AsyncConnection[Any]:
        from psycopg import AsyncConnection

        return await AsyncConnection.connect(
            self.conninfo,
            autocommit=True,
            connect_timeout=5,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            application_name="zhixing bus",
        )

    async def _listen(self) -> None:
        from psycopg import Error

        first = True
        while True:
            try:
                async with await self._connect() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    await connection.execute(f"LISTEN {ROWS}")
                    self.listening.set()
                    if not first:
                        for listener in self._gap:
                            listener()
                    first = False
                    async for notice in connection.notifies():
                        self._hear(notice.channel, notice.payload)
            except (Error, OSError) as error:
                log.warning("the other processes are not heard now: %s", type(error).__name__)
            self.listening.clear()
            await asyncio.sleep(PAUSE)

    def _hear(self, channel: str, payload: str) -> None:
        if channel == ROWS:
            origin, table, which = (*payload.split(" ", 2), "", "")[:3]
            if origin != self.origin:
                for listener in self._rows.get(table, ()):
                    listener(which)
            return
        origin, _, text = payload.partition(" ")
        if origin == self.origin:
            return
        for topic, data in json.loads(f"[{text}]"):
            for heard in self._listeners.get(topic, ()):
                heard(data)

    async def _tell(self) -> None:
        from psycopg import Error

        while True:
            try:
                async with await self._connect() as connection:
                    while True:
                        await self._wake.wait()
                        await asyncio.sleep(GATHER)
                        while self._waiting:
                            some = self._some()
                            payload = f"{self.origin} {','.join(some)}"
                            await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
                            for _ in some:
                                self._waiting.popleft()
                        self._wake.clear()
                        self._told.set()
            except (Error, OSError) as error:
                log.warning("the other processes are not told now: %s", type(error).__name__)
            await asyncio.sleep(PAUSE)

    def _some(self) -> list[str]:
        """As many of the first messages as fit into one notification."""
        some: list[str] = []
        size = 0
        for text in self._waiting:
            size += len(text.encode()) + 1
            if some and size > MOST_BYTES:
                break
            some.append(text)
        return some
