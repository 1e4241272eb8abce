"""The AI bot side of the fake WeCom: one long connection, logins, pings, callbacks, replies."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

if TYPE_CHECKING:
    from tests.fakes.wecom_server import FakeWeCom


class AiBot:
    """Serves the connection of one bot; a newer one takes over."""

    def __init__(self, fake: FakeWeCom) -> None:
        self.fake = fake
        self.bot_id, self.secret = "aib1", "bot-secret"
        self.sockets: list[web.WebSocketResponse] = []
        self.logins = self.pings = 0
        self.deaf = False
        self.streams: dict[str, dict[str, Any]] = {}
        self.frames: list[dict[str, Any]] = []
        self.open_requests: set[str] = set()
        self.faults: deque[Any] = deque()  # an errcode, `silent` or `cut`, for the next replies
        self._numbers = itertools.count(1)
        self._changed = asyncio.Condition()

    async def connect(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT and not self.deaf:
                    await self._frame(socket, json.loads(message.data))
                    await self._tell()
        finally:
            if socket in self.sockets:
                self.sockets.remove(socket)
            await self._tell()
        return socket

    async def _frame(self, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        cmd, number, body = frame["cmd"], frame["headers"]["req_id"], frame.get("body", {})
        self.frames.append(frame)
        if cmd == "aibot_subscribe":
            good = (body.get("bot_id"), body.get("secret")) == (self.bot_id, self.secret)
            if good:
                for other in list(self.sockets):
                    await self.event({"eventtype": "disconnected_event"}, other)
                self.sockets.append(socket)
                self.logins += 1
            await self._answer(socket, number, 0 if good else 40058)
        elif socket not in self.sockets:
            await self._answer(socket, number, 40001)
        elif cmd == "ping":
            self.pings += 1
            await self._answer(socket, number, 0)
        elif cmd in ("aibot_respond_msg", "aibot_send_msg"):
            await self._said(socket, cmd, number, body)

    async def _said(self, socket: web.WebSocketResponse, cmd: str, number: str, body: dict[str, Any]) -> None:
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, int):
            await self._answer(socket, number, fault)
            return
        if cmd == "aibot_respond_msg":
            stream = body.get("stream", {})
            text = stream.get("content", "")
            known = self.streams.get(number)
            if number not in self.open_requests or len(text.encode()) > 20_480 or (known and known["finish"]):
                await self._answer(socket, number, 40008)
                return
            frames = (known or {}).get("frames", [])
            self.streams[number] = {**stream, "frames": [*frames, text]}
        else:
            from tests.fakes.wecom_server import Message

            kind = body.get("msgtype", "")
            if kind != "markdown" or not body.get("chatid"):
                await self._answer(socket, number, 40008)
                return
            self.fake.messages.append(Message("bot", body["chatid"], kind, body["markdown"]))
        if fault == "cut" and socket._req is not None and socket._req.transport is not None:
            socket._req.transport.abort()
        elif fault != "silent":
            await self._answer(socket, number, 0)

    @staticmethod
    async def _answer(socket: web.WebSocketResponse, number: str, errcode: int) -> None:
        words = "ok" if errcode == 0 else "refused"
        await socket.send_str(json.dumps({"headers": {"req_id": number}, "errcode": errcode, "errmsg": words}))

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # ---- what tests ask and do

    async def until(self, true: Any, seconds: float = 5.0) -> None:
        """Wait until `true()` holds."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(true)

    def message(self, words: str = "hello", /, **fields: Any) -> dict[str, Any]:
        """The body of a message callback."""
        body: dict[str, Any] = {
            "msgid": f"m{next(self._numbers)}",
            "aibotid": self.bot_id,
            "chattype": "single",
            "from": {"userid": "zhangsan"},
            "create_time": self.fake.now() // 1000,
            "msgtype": "text",
            "text": {"content": words},
        }
        body.update(fields)
        return {k: v for k, v in body.items() if v is not ...}

    async def say(self, words: str = "hello", /, **fields: Any) -> str:
        """Push a message to the bot and return its request id."""
        number = f"req{next(self._numbers)}"
        self.open_requests.add(number)
        frame = {"cmd": "aibot_msg_callback", "headers": {"req_id": number}, "body": self.message(words, **fields)}
        await self.sockets[-1].send_str(json.dumps(frame, ensure_ascii=False))
        return number

    async def event(self, event: dict[str, Any], socket: web.WebSocketResponse | None = None, **fields: Any) -> None:
        """Push an event."""
        body = {"msgid": f"e{next(self._numbers)}", "event": event, **fields}
        frame = {"cmd": "aibot_event_callback", "headers": {"req_id": f"ev{next(self._numbers)}"}, "body": body}
        await (socket or self.sockets[-1]).send_str(json.dumps(frame))

    async def drop(self) -> None:
        """Cut the connection as a network does."""
        for socket in list(self.sockets):
            if socket._req is not None and socket._req.transport is not None:
                socket._req.transport.abort()

    async def close(self) -> None:
        for socket in list(self.sockets):
            await socket.close(code=1001)
