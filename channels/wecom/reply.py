"""Answers under a message's own request id, shown while they are written. Source: protocols.md 3.3, stream."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from channels.wecom.frames import Frame
from channels.wecom.socket import BotSocket
from storage.background import Background
from storage.errors import AppError, Rejected, Throttled

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = logging.getLogger(__name__)

MOST_REQUESTS = 5000
MOST_BYTES = 20_000
LONGEST = 900.0  # seconds that an answer is shown; longer than any job runs


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyPace:
    """Seconds between two updates, and after a refusal for speed."""

    between: float = 0.7
    throttled: float = 2.0
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)


@dataclass(slots=True)
class _Shown:
    """One answer that is being written."""

    request: str
    stream: str
    stop: asyncio.Event
    sent: bool = False


class Replies:
    """All answers of one bot that are under way."""

    def __init__(
        self,
        socket: BotSocket,
        live: Callable[[], ClientConnection | None],
        background: Background,
        pace: ReplyPace,
    ) -> None:
        self.socket, self.live, self.background, self.pace = socket, live, background, pace
        self._known: dict[str, None] = {}
        self._open: dict[int, tuple[_Shown, asyncio.Task[None]]] = {}

    def known(self, request: str) -> None:
        """A message came with this request id on the present connection."""
        if request:
            self._known[request] = None
        while len(self._known) > MOST_REQUESTS:
            self._known.pop(next(iter(self._known)))

    def forget(self) -> None:
        """A new connection: request ids of the old one are not used."""
        self._known.clear()

    def begin(self, job: int, request: str, text: Callable[[], str]) -> None:
        """Show a job's text as it grows. Returns at once; once for each job."""
        if job in self._open or request not in self._known:
            return
        if len(self._open) >= MOST_REQUESTS:
            self._open = {n: known for n, known in self._open.items() if not known[1].done()}
        shown = _Shown(request=request, stream=secrets.token_hex(12), stop=asyncio.Event())
        self._open[job] = (shown, self.background.spawn(f"reply {job}", self._run(shown, text)))

    async def finish(self, job: int, request: str, text: str, written: Callable[[], None]) -> str | None:
        """Send the final text under the request id and return it; None if that way is not open (any more).

        Raises:
            Throttled, Unavailable, OutcomeUnknown: as `BotSocket.ask`.
        """
        shown = await self._ended(job)
        if request not in self._known:
            return None
        stream = shown.stream if shown is not None else secrets.token_hex(12)
        try:
            await self._say(request, stream, text, final=True, written=written)
        except Rejected as error:
            log.info("a WeCom reply goes out as a message: %s", error)
            self._known.pop(request, None)
            return None
        self._known.pop(request, None)
        return request

    async def abandon(self, job: int) -> None:
        """End what was begun and will not be finished."""
        shown = await self._ended(job)
        if shown is None or not shown.sent or shown.request not in self._known:
            return
        try:
            await self._say(shown.request, shown.stream, "…", final=True)
        except AppError as error:
            log.info("a WeCom reply was left open: %s", error)

    async def stop(self) -> None:
        """Stop showing."""
        tasks = [task for _, task in self._open.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)
        self._open.clear()

    async def _ended(self, job: int) -> _Shown | None:
        """Let the showing of a job come to rest."""
        known = self._open.pop(job, None)
        if known is None:
            return None
        shown, task = known
        shown.stop.set()
        await asyncio.wait([task])
        return shown

    async def _run(self, shown: _Shown, text: Callable[[], str]) -> None:
        last, rounds = "", int(LONGEST / self.pace.between)
        while not shown.stop.is_set() and shown.request in self._known and rounds > 0:
            rounds -= 1
            try:
                async with asyncio.timeout(self.pace.between):
                    await shown.stop.wait()
                return
            except TimeoutError:
                now = clipped(text())
            if not now or now == last:
                continue
            try:
                await self._say(shown.request, shown.stream, now, final=False)
            except Throttled:
                await self.pace.sleep(self.pace.throttled)
                continue
            except AppError as error:
                log.info("a WeCom reply is shown no further: %s", error)
                return
            last, shown.sent = now, True

    async def _say(
        self, request: str, stream: str, text: str, *, final: bool, written: Callable[[], None] | None = None
    ) -> Frame:
        body = {"msgtype": "stream", "stream": {"id": stream, "finish": final, "content": text}}
        return await self.socket.ask(self.live(), "aibot_respond_msg", body, req_id=request, written=written)


def clipped(text: str) -> str:
    """The text, cut to what a reply holds."""
    return text.encode()[:MOST_BYTES].decode("utf-8", "ignore")
