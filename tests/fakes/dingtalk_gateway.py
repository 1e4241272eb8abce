"""The Stream mode side of the fake DingTalk: tickets, frames, acknowledgements, pings, half-open sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

if TYPE_CHECKING:
    from tests.fakes.dingtalk_server import FakeDingTalk

BOT = "/v1.0/im/bot/messages/get"
CARD = "/v1.0/card/instances/callback"


class Gateway:
    """Opens connections for tickets and pushes frames to one of them."""

    def __init__(self, fake: FakeDingTalk) -> None:
        self.fake = fake
        self.tickets: set[str] = set()
        self.sockets: list[web.WebSocketResponse] = []
        self.opened = 0
        self.acks: dict[str, dict[str, Any]] = {}
        self.subscriptions: list[dict[str, str]] = []
        self.pings = 0
        self.deaf = False  # half open: frames are read by nobody, and nothing is answered
        self._numbers = itertools.count(1)
        self._changed = asyncio.Condition()

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1.0/gateway/connections/open", self._open), web.get("/connect", self._connect)]

    async def _open(self, request: web.Request) -> web.StreamResponse:
        from tests.fakes.dingtalk_server import error

        self.fake.calls.append((request.method, request.path))
        broken = await self.fake._broken("stream", request)
        if broken is not None:
            return broken
        body = await request.json()
        if (body.get("clientId"), body.get("clientSecret")) != (self.fake.client_id, self.fake.client_secret):
            return error(401, "authFailed", "鉴权失败")
        if not body.get("subscriptions"):
            return error(400, "invalidParameter", "subscriptions")
        self.subscriptions = body["subscriptions"]
        ticket = f"{secrets.token_hex(8)}+/="
        self.tickets.add(ticket)
        return web.json_response({"endpoint": self.fake.url.replace("http", "ws", 1) + "/connect", "ticket": ticket})

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query.get("ticket", "")
        if ticket not in self.tickets:
            return web.Response(status=401)
        self.tickets.discard(ticket)
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        self.sockets.append(socket)
        self.opened += 1
        await self._tell()
        try:
            async for frame in socket:
                if self.deaf:
                    continue
                if frame.type == WSMsgType.PING:
                    self.pings += 1
                    await socket.pong(frame.data)
                elif frame.type == WSMsgType.TEXT:
                    ack = json.loads(frame.data)
                    self.acks[ack["headers"]["messageId"]] = ack
                await self._tell()
        finally:
            if socket in self.sockets:
                self.sockets.remove(socket)
            await self._tell()
        return socket

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # ---- what tests ask and do

    async def until(self, true: Any, seconds: float = 5.0) -> None:
        """Wait until `true()` holds."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(true)

    async def push(self, topic: str, data: dict[str, Any], kind: str = "CALLBACK") -> str:
        """Send a frame to the newest connection and return its messageId."""
        number = f"frame-{next(self._numbers)}"
        headers = {
            "topic": topic,
            "messageId": number,
            "contentType": "application/json",
            "time": str(self.fake.now()),
            "appId": "app",
            "connectionId": "c",
        }
        if kind == "EVENT":
            headers |= {"eventId": number, "eventType": "some_event", "eventBornTime": str(self.fake.now())}
        frame = {"specVersion": "1.0", "type": kind, "headers": headers, "data": json.dumps(data, ensure_ascii=False)}
        await self.sockets[-1].send_str(json.dumps(frame, ensure_ascii=False))
        return number

    async def acked(self, number: str, seconds: float = 5.0) -> dict[str, Any]:
        """The acknowledgement of a frame."""
        await self.until(lambda: number in self.acks, seconds)
        return self.acks[number]

    async def drop(self) -> None:
        """Cut the connections as a network does."""
        for socket in list(self.sockets):
            request = socket._req
            if request is not None and request.transport is not None:
                request.transport.abort()

    async def close(self) -> None:
        for socket in list(self.sockets):
            await socket.close(code=1001)
