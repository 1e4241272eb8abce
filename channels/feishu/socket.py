"""Feishu's long connection: its address, frames, events in parts, acknowledgements. Source: protocols.md 1.2."""

from __future__ import annotations

import base64
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import orjson

from channels.feishu.client import FeishuClient
from channels.feishu.faults import ws_fault
from channels.feishu.frame import CONTROL, DATA, Frame, unpack
from channels.feishu.press import CARD
from channels.feishu.wire import MOST_BYTES, Event, open_frame
from channels.line import Next, dial
from security.egress import VENDOR
from storage.clock import Clock
from storage.errors import AppError, Unavailable

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = logging.getLogger(__name__)

GATEWAYS = (".feishu.cn", ".larksuite.com")
PING_EVERY = 120.0
PARTS_SECONDS = 5.0
MOST_PARTS = 100
MOST_OPEN = 50


class Parts:
    """Events that come in several frames, until the last one is there. Bounded in number, size and time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._open: OrderedDict[str, tuple[float, dict[int, bytes]]] = OrderedDict()

    def add(self, frame: Frame) -> bytes | None:
        """The whole payload, or None while parts are missing."""
        total, place = _number(frame, "sum"), _number(frame, "seq")
        if total <= 1:
            return frame.payload
        if total > MOST_PARTS or place >= total:
            return None
        now = self.clock.monotonic()
        while self._open and (len(self._open) >= MOST_OPEN or next(iter(self._open.values()))[0] < now - PARTS_SECONDS):
            self._open.popitem(last=False)
        key = frame.headers.get("message_id", "")
        _, parts = self._open.setdefault(key, (now, {}))
        parts[place] = frame.payload
        if sum(map(len, parts.values())) > MOST_BYTES:
            self._open.pop(key)
            return None
        if len(parts) < total:
            return None
        self._open.pop(key)
        return b"".join(parts[n] for n in range(total))


class FeishuSocket:
    """Opens connections of one app and answers its frames.

    Args:
        handle: takes a verified event; returns what the vendor is to be answered. Raises `Unavailable`: again later.
        later: runs what must not hold up the connection.
    """

    def __init__(
        self,
        client: FeishuClient,
        clock: Clock,
        handle: Callable[[Event], Awaitable[dict[str, object]]],
        later: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self.client, self.clock, self.handle, self.later = client, clock, handle, later
        self.ping_every = PING_EVERY
        self._service = 0
        self._pinged = float("-inf")
        self._parts = Parts(clock)

    async def open(self) -> ClientConnection:
        """Fetch a new address and connect to it.

        Raises:
            Rejected: credentials, or the long connection is not switched on. Unavailable: try again.
        """
        from websockets.exceptions import InvalidStatus

        url, config = await self.client.line_address()
        self._configure(config)
        service = parse_qs(urlsplit(url).query).get("service_id", ["0"])[0]
        self._service = int(service) if service.isascii() and service.isdigit() and len(service) < 10 else 0
        self._pinged = self.clock.monotonic()
        hosts = (*GATEWAYS, *self.client.settings.policy.hosts)
        try:
            return await dial(self.client.egress, url, policy=replace(VENDOR, hosts=hosts, seconds=10))
        except Unavailable as error:
            if isinstance(error.__cause__, InvalidStatus):
                raise _refusal(error.__cause__.response.headers) or error from error
            raise

    async def beat(self, socket: ClientConnection) -> None:
        """The vendor's own ping, as often as it asks for it."""
        now = self.clock.monotonic()
        if now - self._pinged >= self.ping_every:
            self._pinged = now
            await socket.send(Frame(method=CONTROL, service=self._service, headers={"type": "ping"}).pack())

    async def hear(self, socket: ClientConnection, raw: str | bytes) -> Next:
        """Handle one frame: acknowledge it once what it brings is safe."""
        frame = unpack(raw) if isinstance(raw, bytes) else None
        if frame is None:
            log.info("a frame of Feishu's gateway could not be read")
        elif frame.method == CONTROL and frame.type == "pong":
            self._configure(_object(frame.payload))
        elif frame.method == DATA and frame.type in ("event", "card"):
            payload = self._parts.add(frame)
            if payload is not None:
                await self._event(socket, frame, payload)
        return Next.LISTEN

    async def _event(self, socket: ClientConnection, frame: Frame, payload: bytes) -> None:
        began = self.clock.monotonic()
        try:
            event = open_frame(payload, self.client.settings, self.clock.ms())
        except AppError as error:
            log.info("a Feishu event was refused: %s", error)
            await self._answer(socket, frame, 200, {}, began)  # it would be no better the next time
            return
        if event.type == CARD:
            self.later(self._handled(socket, frame, event, began))  # its answer may take seconds
        else:
            await self._handled(socket, frame, event, began)

    async def _handled(self, socket: ClientConnection, frame: Frame, event: Event, began: float) -> None:
        from websockets.exceptions import ConnectionClosed

        code, data = 200, dict[str, object]()
        try:
            data = await self.handle(event)
        except Unavailable as error:
            log.warning("a Feishu event was not accepted: %s", error)
            code = 500  # pushed again later
        except AppError as error:
            log.info("a Feishu event was refused: %s", error)
        try:
            await self._answer(socket, frame, code, data, began)
        except ConnectionClosed:
            log.info("a Feishu event was handled after its connection broke; it will come again, and count once")

    async def _answer(
        self, socket: ClientConnection, frame: Frame, code: int, data: dict[str, object], began: float
    ) -> None:
        body: dict[str, object] = {"code": code}
        if data:
            body["data"] = base64.b64encode(orjson.dumps(data)).decode()
        took = {"biz_rt": str(round((self.clock.monotonic() - began) * 1000))}
        await socket.send(replace(frame, headers=frame.headers | took, payload=orjson.dumps(body)).pack())

    def _configure(self, config: dict[str, object]) -> None:
        every = config.get("PingInterval")
        if isinstance(every, int) and not isinstance(every, bool):
            self.ping_every = float(min(max(every, 10), 600))


def _refusal(headers: object) -> AppError | None:
    """Why the handshake was refused, where its headers say so."""
    found = {str(key).lower(): str(value) for key, value in headers.items()}  # type: ignore[attr-defined]
    for name in ("handshake-autherrcode", "handshake-status"):
        text = found.get(name, "")
        if text.isascii() and text.isdigit() and len(text) < 15:
            return ws_fault(int(text), found.get("handshake-msg", ""))
    return None


def _number(frame: Frame, name: str) -> int:
    text = frame.headers.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def _object(payload: bytes) -> dict[str, object]:
    try:
        raw = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    return raw if isinstance(raw, dict) else {}
