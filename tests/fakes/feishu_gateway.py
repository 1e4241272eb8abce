"""The long connection side of the fake Feishu: addresses, binary frames, acknowledgements, half-open sockets.

Frames are written and read by hand here, so that the product's description of them is checked by another.
"""

from __future__ import annotations

import base64
import itertools
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as Handshake
from websockets.http11 import Response as Refusal

from tests.fakes.quick_http import Request, Response, answer

if TYPE_CHECKING:
    from tests.fakes.feishu_server import FeishuServer


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def pack(*, method: int, headers: dict[str, str], payload: bytes = b"", seq: int = 0, service: int = 7) -> bytes:
    """A frame as the platform sends it."""
    whole = b"".join(
        _varint(number << 3) + _varint(value)
        for number, value in ((1, seq), (2, 2**63 + seq), (3, service), (4, method))
    )
    for key, value in headers.items():
        whole += _bytes(5, _bytes(1, key.encode()) + _bytes(2, value.encode()))
    return whole + (_bytes(8, payload) if payload else b"")


@dataclass
class Frame:
    numbers: dict[int, int] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    payload: bytes = b""


def _read(raw: bytes) -> list[tuple[int, int | bytes]]:
    found: list[tuple[int, int | bytes]] = []
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(raw):
        tag = varint()
        if tag & 7 == 0:
            found.append((tag >> 3, varint()))
        else:
            size = varint()
            found.append((tag >> 3, raw[at : at + size]))
            at += size
    return found


def unpack(raw: bytes) -> Frame:
    """A frame that the client sent; all required fields must be there."""
    frame = Frame()
    for number, value in _read(raw):
        if isinstance(value, int):
            frame.numbers[number] = value
        elif number == 5:
            pair = dict(_read(value))
            frame.headers[bytes(pair[1]).decode()] = bytes(pair[2]).decode()
        elif number == 8:
            frame.payload = value
    assert set(frame.numbers) == {1, 2, 3, 4}, "a required field is missing"
    return frame


class Gateway:
    """Gives out addresses and pushes events to one of the connections."""

    def __init__(self, fake: FeishuServer) -> None:
        self.fake = fake
        self.enabled = True
        self.keys: set[str] = set()
        self.sockets: list[ServerConnection] = []
        self.opened = 0
        self.pings = 0
        self.ping_interval = 120
        self.pong_config: dict[str, Any] | None = None
        self.refuse: dict[str, str] = {}  # headers of a refused handshake
        self.acks: dict[str, dict[str, Any]] = {}
        self.ack_headers: dict[str, dict[str, str]] = {}
        self._numbers = itertools.count(1)
        self._server: Server | None = None

    async def start(self) -> None:
        self._server = await serve(
            self._serve, "127.0.0.1", 0, process_request=self._handshake, ping_interval=None, close_timeout=0.2
        )

    async def stop(self) -> None:
        if self._server is not None:
            for socket in list(self.sockets):
                socket.transport.abort()
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def address(self, request: Request) -> Response:
        """`POST /callback/ws/endpoint`."""
        try:
            raw = json.loads(request.body)
        except ValueError:
            raw = {}
        if self.fake.apps.get(str(raw.get("AppID"))) != raw.get("AppSecret") or not raw.get("AppSecret"):
            return answer({"code": 10014, "msg": "app secret invalid"})
        if not self.enabled:
            return answer({"code": 1000040344, "msg": "no credential"})
        assert self._server is not None
        key = secrets.token_hex(8)
        self.keys.add(key)
        port = next(iter(self._server.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{port}/ws/v2?fpid=493&device_id=1&access_key={key}&service_id=7&ticket=t"
        config = {"ReconnectCount": -1, "ReconnectInterval": 120, "ReconnectNonce": 30}
        return answer(
            {"code": 0, "msg": "", "data": {"URL": url, "ClientConfig": config | {"PingInterval": self.ping_interval}}}
        )

    def _handshake(self, connection: ServerConnection, request: Handshake) -> Refusal | None:
        key = parse_qs(urlsplit(request.path).query).get("access_key", [""])[0]
        if self.refuse or key not in self.keys:
            refusal = connection.respond(403, "")
            for name, value in (self.refuse or {"Handshake-Status": "514", "Handshake-Msg": "auth failed"}).items():
                refusal.headers[name] = value
            return refusal
        self.keys.discard(key)
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        self.opened += 1
        self.fake.changed()
        try:
            async for raw in socket:
                assert isinstance(raw, bytes)
                frame = unpack(raw)
                if frame.numbers[4] == 0 and frame.headers.get("type") == "ping":
                    assert frame.numbers[3] == 7
                    self.pings += 1
                    payload = json.dumps(self.pong_config).encode() if self.pong_config else b""
                    await socket.send(pack(method=0, headers={"type": "pong"}, payload=payload))
                elif frame.numbers[4] == 1:
                    number = frame.headers.get("message_id", "")
                    self.acks[number] = json.loads(frame.payload)
                    self.ack_headers[number] = frame.headers
                self.fake.changed()
        except ConnectionClosed:
            pass
        finally:
            self.sockets.remove(socket)
            self.fake.changed()

    # ---- what tests ask and do

    async def push(self, envelope: dict[str, Any], *, parts: int = 1, order: list[int] | None = None) -> str:
        """Send an event to the newest connection, in several frames if asked. Returns its message id."""
        number = f"frame-{next(self._numbers)}"
        body = json.dumps(envelope, ensure_ascii=False).encode()
        size = -(-len(body) // parts)
        pieces = [body[n * size : (n + 1) * size] for n in range(parts)]
        for n in order or range(parts):
            headers = {"type": "event", "message_id": number, "sum": str(parts), "seq": str(n), "trace_id": "t"}
            await self.sockets[-1].send(pack(method=1, headers=headers, payload=pieces[n], seq=n))
        return number

    async def acked(self, number: str, seconds: float = 5.0) -> dict[str, Any]:
        """The acknowledgement of an event."""
        await self.fake.until(lambda: number in self.acks, seconds)
        ack = self.acks[number]
        if "data" in ack:
            ack = ack | {"data": json.loads(base64.b64decode(ack["data"]))}
        return ack
