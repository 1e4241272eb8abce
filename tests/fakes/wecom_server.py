"""A loopback WeCom: group robots, the app's API and callbacks, the AI bot's long connection (protocols.md 3)."""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.fakes.wecom_bot import AiBot


@dataclass
class Message:
    """Something that a person would see."""

    way: str  # robot, app, bot
    to: str
    kind: str
    content: dict[str, Any]

    @property
    def text(self) -> str:
        return str(self.content.get("content", ""))


@dataclass
class Robot:
    """A group's robot."""

    sent: deque[float] = field(default_factory=deque)


class FakeWeCom:
    """The vendor. `now` gives milliseconds."""

    def __init__(
        self,
        corp_id: str = "wwcorp",
        corp_secret: str = "wecom-secret",
        agent_id: str = "1000002",
        now: Callable[[], int] | None = None,
    ) -> None:
        self.corp_id, self.corp_secret, self.agent_id = corp_id, corp_secret, agent_id
        self.now = now or (lambda: time.time_ns() // 1_000_000)
        self.messages: list[Message] = []
        self.calls: list[tuple[str, str]] = []
        self.tokens: dict[str, bool] = {}
        self.token_calls = 0
        self.strangers: set[str] = set()
        self.robots: dict[str, Robot] = {}
        self.callback_token, self.aes_key = "cb-token", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
        self.bot = AiBot(self)
        self._faults: dict[str, deque[dict[str, Any]]] = defaultdict(deque)
        self._runner: web.AppRunner | None = None
        self.url = ""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/cgi-bin/webhook/send", self._robot),
            web.get("/cgi-bin/gettoken", self._token),
            web.post("/cgi-bin/message/send", self._app),
            web.get("/", self.bot.connect),
        ]

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self.bot.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> FakeWeCom:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def fault(self, place: str, times: int = 1, **fault: Any) -> None:
        """The next calls at `place` (robot, token, app) go wrong: errcode=…, status=…, html=True or drop=True."""
        self._faults[place].extend(dict(fault) for _ in range(times))

    def callback(
        self, fields: dict[str, Any] | None = None, *, timestamp: int | None = None, **more: Any
    ) -> tuple[dict[str, str], bytes]:
        """Query and body of an app callback as the vendor would post it."""
        self._count = getattr(self, "_count", 0) + 1
        said: dict[str, Any] = {
            "ToUserName": self.corp_id,
            "FromUserName": "zhangsan",
            "CreateTime": self.now() // 1000,
            "MsgType": "text",
            "Content": "hello",
            "MsgId": f"{7_000_000_000 + self._count}",
            "AgentID": self.agent_id,
        }
        said |= (fields or {}) | more
        xml = "".join(f"<{k}><![CDATA[{v}]]></{k}>" for k, v in said.items() if v is not ...)
        encrypted = self.sealed(f"<xml>{xml}</xml>".encode())
        body = f"<xml><ToUserName><![CDATA[{self.corp_id}]]></ToUserName><AgentID><![CDATA[{self.agent_id}]]></AgentID>"
        body += f"<Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"
        return self.query(encrypted, timestamp=timestamp), body.encode()

    def query(self, encrypted: str, *, timestamp: int | None = None) -> dict[str, str]:
        """The signed query of a callback."""
        at = str(self.now() // 1000 if timestamp is None else timestamp)
        parts = [self.callback_token, at, "nonce1", encrypted]
        parts.sort()
        return {
            "msg_signature": hashlib.sha1("".join(parts).encode("ascii")).hexdigest(),
            "timestamp": at,
            "nonce": "nonce1",
        }

    def sealed(self, message: bytes, receiver: str | None = None) -> str:
        """Encrypt as the vendor does, written again here by another hand."""
        key = base64.b64decode(self.aes_key + "=")
        plain = b"R" * 16 + len(message).to_bytes(4, "big") + message + (receiver or self.corp_id).encode()
        fill = 32 - len(plain) % 32
        plain += bytes([fill] * fill)
        cipher = Cipher(algorithms.AES256(key), modes.CBC(key[:16])).encryptor()
        return base64.b64encode(cipher.update(plain) + cipher.finalize()).decode()

    def _broken(self, place: str) -> tuple[web.Response | None, bool]:
        fault = self._faults[place].popleft() if self._faults[place] else {}
        if "errcode" in fault:
            return answer(fault["errcode"], fault.get("errmsg", "")), False
        if "status" in fault:
            return web.Response(status=fault["status"], text="upstream"), False
        if "html" in fault:
            return web.Response(text="<html>", content_type="text/html"), False
        return None, bool(fault.get("drop"))

    async def _robot(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        bad, drop = self._broken("robot")
        if bad is not None:
            return bad
        robot = self.robots.get(request.query.get("key", ""))
        if robot is None:
            return answer(93000, "invalid webhook url")
        body = await request.json()
        kind = str(body.get("msgtype"))
        content = body.get(kind)
        limits = {"text": 2048, "markdown": 4096}
        if kind not in limits or not isinstance(content, dict):
            return answer(40008, "invalid message type")
        if len(str(content.get("content", "")).encode()) > limits[kind]:
            return answer(40058, f"exceed max length {limits[kind]}")
        now = self.now() / 1000
        while robot.sent and robot.sent[0] <= now - 60:
            robot.sent.popleft()
        if len(robot.sent) >= 20:
            return answer(45009, "api freq out of limit")
        robot.sent.append(now)
        self.messages.append(Message("robot", request.query["key"], kind, content))
        if drop and request.transport is not None:
            request.transport.abort()
        return answer(0, "ok")

    async def _token(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        self.token_calls += 1
        bad, _ = self._broken("token")
        if bad is not None:
            return bad
        if request.query.get("corpid") != self.corp_id:
            return answer(40013, "invalid corpid")
        if request.query.get("corpsecret") != self.corp_secret:
            return answer(40001, "invalid credential")
        token = f"wetoken{len(self.tokens)}"
        self.tokens[token] = True
        return answer(0, "ok", access_token=token, expires_in=7200)

    async def _app(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        bad, drop = self._broken("app")
        if bad is not None:
            return bad
        if not self.tokens.get(request.query.get("access_token", "")):
            return answer(40014, "invalid access_token")
        body = await request.json()
        if str(body.get("agentid")) != self.agent_id:
            return answer(301002, "not allow operate another agent")
        kind, to = str(body.get("msgtype")), str(body.get("touser", ""))
        content = body.get(kind)
        if kind not in ("text", "markdown") or not isinstance(content, dict):
            return answer(40008, "invalid message type")
        if len(str(content.get("content", "")).encode()) > 2048:
            return answer(40058, "exceed max length 2048")
        if not to or to in self.strangers:
            return answer(81013, "user & party & tag all invalid")
        self.messages.append(Message("app", to, kind, content))
        if drop and request.transport is not None:
            request.transport.abort()
        return answer(0, "ok", msgid=f"wemsg{len(self.messages)}", invaliduser="")


def answer(errcode: int, errmsg: str, **more: Any) -> web.Response:
    """Always HTTP 200."""
    return web.json_response({"errcode": errcode, "errmsg": errmsg, **more})


async def _serve(args: argparse.Namespace) -> None:
    fake = FakeWeCom()
    fake.robots["fake-key"] = Robot()
    await fake.start(args.port)
    print(f"api_base: {fake.url}  socket: {fake.url.replace('http', 'ws', 1)}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=18791)
    asyncio.run(_serve(parser.parse_args()))
