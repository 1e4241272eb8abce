"""Feishu's open API on loopback: checks tokens, headers, content and signatures as the vendor would.

For benchmarks: `python -m tests.fakes.feishu_server --port 9901`; `GET /_fake/messages` tells what was received.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.feishu_cards import Cards
from tests.fakes.feishu_gateway import Gateway
from tests.fakes.quick_http import QuickServer, Request, Response, answer

IDEMPOTENT_SECONDS = 3600
TABLE = re.compile(r"^ {0,3}\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)+\|?\s*$", re.MULTILINE)
REPLY = re.compile(r"/open-apis/im/v1/messages/([^/]+)/reply")
HOOK = re.compile(r"/open-apis/bot/v2/hook/([^/]+)")


@dataclass(kw_only=True)
class Sent:
    """One message as the vendor shows it to people."""

    id: str
    app: str
    to: str  # message replied to, or receive id
    how: str  # reply, send or hook
    kind: str
    content: Any
    uuid: str = ""
    thread: bool = False
    at: float = 0.0

    @property
    def text(self) -> str:
        """All text that a reader would see."""
        found: list[str] = []

        def walk(value: Any) -> None:
            if isinstance(value, dict):
                for key in ("title", "text", "content"):
                    if isinstance(value.get(key), str):
                        found.append(value[key])
                for inner in value.values():
                    if isinstance(inner, (dict, list)):
                        walk(inner)
            elif isinstance(value, list):
                for inner in value:
                    walk(inner)

        walk({k: v for k, v in self.content.items() if k != "config"} if isinstance(self.content, dict) else {})
        return "\n".join(found)


@dataclass
class Fault:
    """What goes wrong with the next `count` requests whose path contains `path`."""

    kind: str  # rate, error, html, refuse, drop, slow, code
    path: str = "/im/v1/messages"
    count: int = 1
    seconds: float = 1.0
    code: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class FeishuServer:
    """One fake platform with any number of apps and group robots."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.apps: dict[str, str] = {"cli_test": "app-secret"}
        self.robots: dict[str, str] = {"hook-token": "robot-secret"}
        self.robot_keywords: tuple[str, ...] = ()
        self.bot_open_id = "ou_bot"
        self.tokens: dict[str, tuple[str, float]] = {}
        self.token_calls = 0
        self.expire = 7200
        self.messages: list[Sent] = []
        self.uploads: dict[str, bytes] = {}
        self.resources: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.quoted: dict[str, list[dict[str, Any]]] = {}
        self.refused: list[tuple[str, int]] = []
        self.gone: set[str] = set()
        self.faults: deque[Fault] = deque()
        self.delay = 0.0
        self.requests = 0
        self._uuids: dict[tuple[str, str], tuple[str, float]] = {}
        self._born: dict[str, dict[str, str]] = {}
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()
        self.cards = Cards(self)
        self.gateway = Gateway(self)
        self.http = QuickServer(self.handle)

    @property
    def base(self) -> str:
        return self.http.base

    async def start(self, port: int = 0) -> FeishuServer:
        await self.http.start(port)
        await self.gateway.start()
        return self

    async def stop(self) -> None:
        await self.gateway.stop()
        await self.http.stop()

    async def until(self, ready: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait until something is so; looked at after each request."""
        async with asyncio.timeout(seconds):
            while not ready():
                self._changed.clear()
                await self._changed.wait()

    async def count(self, n: int, seconds: float = 10.0) -> list[Sent]:
        """Wait for `n` messages."""
        await self.until(lambda: len(self.messages) >= n, seconds)
        return self.messages

    def changed(self) -> None:
        self._changed.set()

    def fail(self, kind: str, **more: Any) -> None:
        """Let the next requests fail, see `Fault`."""
        self.faults.append(Fault(kind, **more))

    def forget_tokens(self) -> None:
        """As if all access tokens had run out."""
        self.tokens.clear()

    # ---- one request

    def handle(self, request: Request) -> Response:
        self.requests += 1
        try:
            response = self._faulty(request)
        finally:
            self._changed.set()
        if self.delay:
            response.after = max(response.after, self.delay)
        return response

    def _faulty(self, request: Request) -> Response:
        fault = next((f for f in self.faults if f.path in request.path), None)
        if fault is None:
            return self._route(request)
        fault.count -= 1
        if fault.count <= 0:
            self.faults.remove(fault)
        if fault.kind == "rate":
            headers = {"x_ogw_ratelimit_reset": str(fault.seconds)}
            return answer({"code": fault.code or 99991400, "msg": "request trigger frequency limit"}, 429, **headers)
        if fault.kind == "error":
            return answer({"code": 2200, "msg": "Internal Error"}, 500)
        if fault.kind == "html":
            return Response(502, b"<html>bad gateway</html>", {"content-type": "text/html"})
        if fault.kind == "refuse":
            return Response(drop=True)
        if fault.kind == "code":
            return answer({"code": fault.code, "msg": f"fault {fault.code}"}, 400, **fault.headers)
        response = self._route(request)
        if fault.kind == "drop":
            response.drop = True
        elif fault.kind == "slow":
            response.after = fault.seconds
        return response

    def _route(self, request: Request) -> Response:
        path = request.path
        if path == "/open-apis/auth/v3/tenant_access_token/internal":
            return self._token(request)
        if path == "/callback/ws/endpoint":
            return self.gateway.address(request)
        if hook := HOOK.fullmatch(path):
            return self._robot(hook[1], request)
        if path == "/_fake/messages":
            return answer([vars(m) for m in self.messages[-int(request.query.get("last", "100000")) :]])
        app = self._app(request)
        if app is None:
            return self._refuse(path, 99991663, "Invalid access token for authorization", 400)
        if path == "/open-apis/bot/v3/info":
            bot = {"open_id": self.bot_open_id, "app_name": "Test bot", "activate_status": 2, "ip_white_list": []}
            return answer({"code": 0, "msg": "ok", "bot": bot})
        if path.startswith("/open-apis/cardkit/"):
            return self.cards.handle(app, request)
        if path == "/open-apis/im/v1/messages" and request.method == "POST":
            return self._send(app, request)
        if (reply := REPLY.fullmatch(path)) and request.method == "POST":
            return self._reply(app, reply[1], request)
        return self.cards.media(app, request)

    def _refuse(self, path: str, code: int, message: str, status: int = 400) -> Response:
        self.refused.append((path, code))
        return answer({"code": code, "msg": message}, status, x_tt_logid=f"log-{len(self.refused)}")

    def _token(self, request: Request) -> Response:
        self.token_calls += 1
        try:
            raw = json.loads(request.body)
        except ValueError:
            return self._refuse(request.path, 9499, "Bad Request")
        app = str(raw.get("app_id", ""))
        if self.apps.get(app) is None or self.apps[app] != raw.get("app_secret"):
            return self._refuse(request.path, 10014, "app secret invalid", 200)
        token = f"t-{app}-{next(self._numbers)}"
        self.tokens[token] = (app, self.clock() + self.expire)
        return answer({"code": 0, "msg": "ok", "tenant_access_token": token, "expire": self.expire})

    def _app(self, request: Request) -> str | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        app, until = self.tokens.get(token, ("", 0.0))
        return app if scheme == "Bearer" and app and self.clock() < until else None

    # ---- messages

    def _send(self, app: str, request: Request) -> Response:
        kind = request.query.get("receive_id_type", "")
        if kind not in ("open_id", "user_id", "union_id", "email", "chat_id"):
            return self._refuse(request.path, 99992402, "field validation failed")
        try:
            raw = json.loads(request.body)
        except ValueError:
            return self._refuse(request.path, 9499, "Bad Request")
        to = raw.get("receive_id")
        if not isinstance(to, str) or not to:
            return self._refuse(request.path, 99992402, "receive_id required")
        if to == "oc_not_member":
            return self._refuse(request.path, 230002, "Bot/User can NOT be out of the chat.")
        return self._keep(app, to, "send", raw, request)

    def _reply(self, app: str, parent: str, request: Request) -> Response:
        if parent == "om_zhixing_probe":
            return self._refuse(request.path, 230001, "invalid message id")
        if parent in self.gone:
            return self._refuse(request.path, 230011, "The message was withdrawn.")
        try:
            raw = json.loads(request.body)
        except ValueError:
            return self._refuse(request.path, 9499, "Bad Request")
        return self._keep(app, parent, "reply", raw, request)

    def _keep(self, app: str, to: str, how: str, raw: Any, request: Request) -> Response:
        path = request.path
        if not request.headers.get("content-type", "").startswith("application/json"):
            return self._refuse(path, 9499, "content type")
        uuid = raw.get("uuid", "")
        if not isinstance(uuid, str) or len(uuid) > 50:
            return self._refuse(path, 99992402, "uuid max len is 50")
        problem, content = self._content(raw)
        if problem:
            return self._refuse(path, problem, f"invalid content, ext=ErrCode: {problem}")
        known = self._uuids.get((app, uuid)) if uuid else None
        if known is not None and self.clock() - known[1] < IDEMPOTENT_SECONDS:
            return answer({"code": 0, "msg": "success", "data": self._seen(known[0])})
        sent = Sent(
            id=f"om_out_{next(self._numbers)}",
            app=app,
            to=to,
            how=how,
            kind=raw["msg_type"],
            content=content,
            uuid=uuid,
            thread=bool(raw.get("reply_in_thread")),
            at=time.time(),
        )
        self.cards.shown(sent)
        self.messages.append(sent)
        self._born[sent.id] = {
            "message_id": sent.id,
            "msg_type": sent.kind,
            "create_time": str(int(sent.at * 1000)),
        }
        if uuid:
            self._uuids[(app, uuid)] = (sent.id, self.clock())
        return answer({"code": 0, "msg": "success", "data": self._born[sent.id]})

    def _seen(self, number: str) -> dict[str, str]:
        """What the first call with this key was answered."""
        return self._born[number]

    def _content(self, raw: Any) -> tuple[int, Any]:
        kind, text = raw.get("msg_type"), raw.get("content")
        if not isinstance(text, str):
            return 230001, None
        try:
            content = json.loads(text)
        except ValueError:
            return 230001, None
        if not isinstance(content, dict):
            return 230001, None
        size = len(text.encode())
        if kind == "text":
            if not isinstance(content.get("text"), str) or not content["text"]:
                return 230001, None
            return (230025 if size > 150_000 else 0), content
        if kind in ("image", "file", "audio", "media"):
            key = content.get("image_key" if kind == "image" else "file_key")
            return (0 if key in self.uploads else 230001), content
        if size > 30_000:
            return 230025, None
        if kind == "post":
            good = all(isinstance(v, dict) and isinstance(v.get("content"), list) for v in content.values())
            return (0 if content and "post" not in content and good else 230001), content
        if kind == "interactive":
            return self.cards.check(content), content
        return 230001, None

    def _robot(self, token: str, request: Request) -> Response:
        secret = self.robots.get(token)
        if secret is None:
            return self._refuse(request.path, 19001, "param invalid: incoming webhook access token invalid", 200)
        try:
            raw = json.loads(request.body)
        except ValueError:
            return self._refuse(request.path, 9499, "Bad Request", 200)
        if len(request.body) > 20_000:
            return self._refuse(request.path, 9499, "Bad Request", 200)
        if secret:
            timestamp = str(raw.get("timestamp", ""))
            digest = hmac.new(f"{timestamp}\n{secret}".encode(), b"", hashlib.sha256).digest()
            fresh = timestamp.isdigit() and abs(time.time() - int(timestamp)) < 3600
            if not fresh or raw.get("sign") != base64.b64encode(digest).decode():
                return self._refuse(request.path, 19021, "sign match fail or timestamp is not within one hour", 200)
        if self.robot_keywords and not any(word in request.body.decode() for word in self.robot_keywords):
            return self._refuse(request.path, 19024, "Key Words Not Found", 200)
        kind = raw.get("msg_type")
        content = raw.get("card") if kind == "interactive" else raw.get("content")
        if kind not in ("text", "post", "interactive", "image", "share_chat") or not isinstance(content, dict):
            return self._refuse(request.path, 19002, "params error, msg_type need", 200)
        self.messages.append(Sent(id="", app="", to=token, how="hook", kind=kind, content=content, at=time.time()))
        return answer({"StatusCode": 0, "StatusMessage": "success", "code": 0, "data": {}, "msg": "success"})


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9901)
    parser.add_argument("--app", default="cli_test")
    parser.add_argument("--secret", default="app-secret")
    parser.add_argument("--delay", type=float, default=0.0)
    given = parser.parse_args()
    server = FeishuServer()
    server.apps = {given.app: given.secret}
    server.delay = given.delay
    await server.start(given.port)
    print(server.base, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
