"""The AI bot's long connection: login, requests and their answers, callbacks. Source: protocols.md 3.3."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from channels.line import Next, dial
from channels.wecom.frames import Frame, event_of, read_frame, request
from channels.wecom.settings import WeComSettings
from security.egress import Egress
from storage.errors import AppError, OutcomeUnknown, Rejected, Throttled, Unavailable

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
MOST_WAITING = 2000
CONFLICT = 6000


class BotSocket:
    """Speaks the protocol on whichever connection lives.

    Args:
        on_message: takes a message callback; returns once it is in the ledger. Raises `AppError`.
        on_event: takes an event callback; must return at once.
    """

    def __init__(
        self,
        settings: WeComSettings,
        egress: Egress,
        on_message: Callable[[Frame], Awaitable[None]],
        on_event: Callable[[Frame], None],
    ) -> None:
        self.settings, self.egress, self.on_message, self.on_event = settings, egress, on_message, on_event
        self._waiting: dict[str, asyncio.Future[Frame]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def open(self) -> ClientConnection:
        """Connect and log in.

        Raises:
            Rejected: `wecom.bot_credentials`. Unavailable: try again.
        """
        from websockets.exceptions import ConnectionClosed

        self._abandon()
        socket = await dial(self.egress, self.settings.socket, policy=self.settings.policy(self.settings.socket))
        body = {"bot_id": self.settings.bot_id, "secret": self.settings.bot_secret}
        number, text = request("aibot_subscribe", body)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await socket.send(text)
                while True:
                    frame = read_frame(await socket.recv())
                    if frame is not None and frame.headers.req_id == number:
                        break
        except (TimeoutError, ConnectionClosed) as error:
            socket.transport.abort()
            raise Unavailable("line.handshake", status=type(error).__name__) from error
        if frame.errcode != 0:
            socket.transport.abort()
            raise Rejected("wecom.bot_credentials", frame.errmsg[:200], vendor=str(frame.errcode))
        return socket

    async def beat(self, socket: ClientConnection) -> None:
        """The protocol's own ping; its answer is a frame like any other."""
        _, text = request("ping", {})
        await socket.send(text)

    async def hear(self, socket: ClientConnection, raw: str | bytes) -> Next:
        """Handle one frame."""
        frame = read_frame(raw)
        if frame is None:
            log.info("a frame of WeCom could not be read")
            return Next.LISTEN
        if frame.cmd == "aibot_msg_callback":
            try:
                await self.on_message(frame)
            except AppError as error:
                log.warning("a WeCom message was not accepted: %s", error)
        elif frame.cmd == "aibot_event_callback":
            if event_of(frame) == "disconnected_event":
                return Next.END
            self.on_event(frame)
        elif frame.errcode is not None:
            waiting = self._waiting.pop(frame.headers.req_id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(frame)
        return Next.LISTEN

    async def ask(
        self,
        socket: ClientConnection | None,
        cmd: str,
        body: object,
        *,
        req_id: str = "",
        written: Callable[[], None] | None = None,
    ) -> Frame:
        """Send one request and return its answer. One at a time for each `req_id`.

        Raises:
            Unavailable: not sent. Throttled: answered "too fast" or "in conflict". Rejected: refused.
            OutcomeUnknown: sent, and no answer came.
        """
        from websockets.exceptions import ConnectionClosed

        if socket is None or len(self._waiting) >= MOST_WAITING:
            raise Unavailable("wecom.offline")
        number, text = request(cmd, body, req_id)
        lock = self._locks.setdefault(number, asyncio.Lock())
        try:
            async with lock:
                future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
                self._waiting[number] = future
                try:
                    await socket.send(text)
                except ConnectionClosed as error:
                    raise Unavailable("wecom.offline") from error
                if written is not None:
                    written()
                async with asyncio.timeout(ANSWER_SECONDS):
                    frame = await future
        except TimeoutError as error:
            raise OutcomeUnknown("wecom.no_answer", vendor="-") from error
        finally:
            self._waiting.pop(number, None)
            if not lock.locked():
                self._locks.pop(number, None)
        return _judged(frame)

    def _abandon(self) -> None:
        """The connection on which these wait is gone: nobody will answer."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(OutcomeUnknown("wecom.no_answer", vendor="-"))


def _judged(frame: Frame) -> Frame:
    if frame.errcode == 0:
        return frame
    vendor, words = str(frame.errcode), frame.errmsg[:300]
    if frame.errcode == CONFLICT:
        raise Throttled("wecom.too_fast", retry_after=1.0, vendor=vendor)
    if frame.errcode in (45009, 45033):
        raise Throttled("wecom.too_fast", retry_after=60.0, vendor=vendor)
    if frame.errcode == -1:
        raise Unavailable("wecom.busy", vendor=vendor)
    raise Rejected("wecom.refused", words, vendor=vendor)
