"""A long connection to a vendor, kept alive: opened, watched, replaced. Knows no vendor."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from channels.hooks import Pulse
from security.egress import Egress, Policy
from storage.background import Background
from storage.errors import AppError, Rejected, Unavailable

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = logging.getLogger(__name__)

MOST_FRAME = 2_000_000
DRAIN_SECONDS = 15.0


class Next(Enum):
    """What a frame means for its connection."""

    LISTEN = "listen"
    REPLACE = "replace"
    """The vendor is about to close it: open another one now, and hear this one to its end."""
    END = "end"
    """Another connection took over: do not come back by yourself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Seconds.

    Attributes:
        ping: between two signs of life that we ask for.
        silence: without any frame or answer, after which a connection counts as half open and is replaced.
            With `ping` it stays below a minute.
        first, most: the pause before the first new attempt, doubled up to `most`, each with jitter.
        refused: the pause after the vendor refused us for good: the settings must change first.
        stable: a connection that lived so long starts the pauses anew.
        sleep, monotonic: tests pass their own.
    """

    ping: float = 15.0
    silence: float = 40.0
    first: float = 0.5
    most: float = 60.0
    refused: float = 60.0
    stable: float = 60.0
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)
    monotonic: Callable[[], float] = field(default=lambda: asyncio.get_running_loop().time())
    jitter: Callable[[], float] = field(default=lambda: random.uniform(0.5, 1.0))  # noqa: S311 - spreads load only


async def dial(egress: Egress, url: str, *, policy: Policy, seconds: float = 10.0) -> ClientConnection:
    """Open a WebSocket to an address that the policy allows.

    Raises:
        Unavailable: `line.handshake`, or as `Egress.connect`. Rejected: the address must not be reached.
    """
    # imported here: only bots with a long connection need it
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidHandshake, InvalidStatus

    try:
        sock, tls, host = await egress.connect(url, policy=policy)
    except AppError as error:
        if isinstance(error, Unavailable):
            raise
        raise Rejected(error.code, str(error.params.get("host", ""))) from error
    options: dict[str, Any] = {"ssl": tls, "server_hostname": host} if tls is not None else {}
    try:
        return await connect(
            url,
            sock=sock,
            open_timeout=seconds,
            close_timeout=1.0,
            ping_interval=None,
            max_size=MOST_FRAME,
            compression=None,
            proxy=None,
            user_agent_header="zhixing",
            **options,
        )
    except InvalidStatus as error:
        sock.close()
        raise Unavailable("line.handshake", status=error.response.status_code) from error
    except (InvalidHandshake, OSError, TimeoutError) as error:
        sock.close()
        raise Unavailable("line.handshake", status=type(error).__name__) from error


class Line:
    """Keeps one connection. `run()` never returns while the bot lives, unless another connection took over.

    Args:
        open: opens a connection, ready for frames. Raises `AppError`.
        hear: handles one frame; must not raise for what a vendor may send.
        beat: asks for a sign of life; a WebSocket ping by default.
    """

    def __init__(
        self,
        *,
        name: str,
        open: Callable[[], Awaitable[ClientConnection]],
        hear: Callable[[ClientConnection, str | bytes], Awaitable[Next]],
        pulse: Pulse,
        background: Background,
        timing: Timing | None = None,
        beat: Callable[[ClientConnection], Awaitable[None]] | None = None,
    ) -> None:
        self.name, self.pulse, self.background, self.timing = name, pulse, background, timing or Timing()
        self._open, self._hear, self._beat = open, hear, beat or self.ping
        self._heard = 0.0
        self._task: asyncio.Task[None] | None = None
        self._socket: ClientConnection | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._why: Unavailable | None = None
        self._stopped = False

    # ---- life

    def start(self) -> None:
        """Connect and stay connected, in the background."""
        self._stopped = False
        self._task = self.background.spawn(f"line {self.name}", self.run())
        self._task.add_done_callback(self._revive)

    async def stop(self) -> None:
        """Close for good."""
        self._stopped = True
        tasks = [task for task in (self._task, *self._ending) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=3.0)

    @property
    def socket(self) -> ClientConnection | None:
        """The live connection, for what is sent by it."""
        return self._socket

    async def run(self) -> None:
        """Connect, listen, and replace what breaks, until told to stop."""
        timing, failures = self.timing, 0
        while True:
            began = timing.monotonic()
            try:
                if await self._once() is Next.END:
                    self.pulse.lost("line.taken_over")
                    return
                failures = 0
                continue
            except AppError as error:
                self.pulse.lost(error.code, **{key: str(value) for key, value in error.params.items()})
                log.info("line %s: %s", self.name, error)
                refused = isinstance(error, Rejected)
            if timing.monotonic() - began >= timing.stable:
                failures = 0
            pause = timing.refused if refused else min(timing.most, timing.first * 2**failures)
            failures = min(failures + 1, 10)
            await timing.sleep(pause * timing.jitter())

    def _revive(self, task: asyncio.Task[None]) -> None:
        """A defect of ours must not leave a bot deaf: it is logged by the background, and the line begins anew."""
        if self._stopped or task.cancelled() or task.exception() is None:
            return
        self.pulse.lost("line.defect")
        asyncio.get_running_loop().call_later(self.timing.refused, lambda: None if self._stopped else self.start())

    # ---- one connection

    async def _once(self) -> Next:
        if self.pulse.connection != "online":
            self.pulse.connection = "connecting"
        socket = await self._open()
        self._socket, self._why = socket, None
        self.alive()
        watch = self.background.spawn(f"line {self.name} watch", self._watch(socket))
        after = Next.LISTEN
        try:
            after = await self._listen(socket)
            return after
        finally:
            watch.cancel()
            if self._socket is socket:
                self._socket = None
            if after is Next.REPLACE:
                self._drain(socket)
            else:
                socket.transport.abort()

    async def _listen(self, socket: ClientConnection) -> Next:
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                frame = await socket.recv()
                self.alive()
                after = await self._hear(socket, frame)
                if after is not Next.LISTEN:
                    return after
        except ConnectionClosed as error:
            if self._why is not None:
                raise self._why from error
            raise Unavailable("line.cut", status=str(error.rcvd.code if error.rcvd else "-")) from error

    async def _watch(self, socket: ClientConnection) -> None:
        """Cut a connection from which nothing has been heard for too long."""
        from websockets.exceptions import ConnectionClosed

        timing = self.timing
        while True:
            try:
                await self._beat(socket)
            except ConnectionClosed:
                return
            await timing.sleep(timing.ping)
            if timing.monotonic() - self._heard > timing.silence:
                self._why = Unavailable("line.silent", seconds=int(timing.silence))
                socket.transport.abort()
                return

    def alive(self) -> None:
        """Something was heard: the proof that the bot's card shows."""
        self._heard = self.timing.monotonic()
        self.pulse.connected()

    async def ping(self, socket: ClientConnection) -> None:
        """The default sign of life; a vendor's own `beat` may use it beside its own."""
        pong = await socket.ping()
        if isinstance(pong, asyncio.Future):
            pong.add_done_callback(lambda done: self._answered(socket, done))

    def _answered(self, socket: ClientConnection, pong: asyncio.Future[float]) -> None:
        if self._socket is socket and not pong.cancelled() and pong.exception() is None:
            self.alive()

    def _drain(self, socket: ClientConnection) -> None:
        """Hear an old connection to its end beside the new one."""
        task = self.background.spawn(f"line {self.name} drain", self._to_the_end(socket))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _to_the_end(self, socket: ClientConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while True:
                    await self._hear(socket, await socket.recv())
        except (ConnectionClosed, TimeoutError):
            return
        finally:
            socket.transport.abort()
