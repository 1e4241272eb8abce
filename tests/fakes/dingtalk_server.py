"""A loopback DingTalk: open API, old API and group robots, as strict as protocols.md 2 says the vendor is.

In tests: `async with FakeDingTalk() as ding: … ding.messages`.
By hand: `python -m tests.fakes.dingtalk_server --port N`; `GET /_fake/messages` lists what arrived and
`POST /_fake/fault {"place": "send", "kind": "qps", "times": 2}` arms faults.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.dingtalk_cards import FAULT, Cards
from tests.fakes.dingtalk_gateway import Gateway

NEEDED = {
    "sampleText": {"content"},
    "sampleMarkdown": {"title", "text"},
    "sampleImageMsg": {"photoURL"},
    "sampleLink": {"title", "text", "messageUrl", "picUrl"},
    "sampleActionCard": {"title", "text", "singleTitle", "singleURL"},
    "sampleAudio": {"mediaId", "duration"},
    "sampleFile": {"mediaId", "fileName", "fileType"},
    "sampleVideo": {"duration", "videoMediaId", "videoType", "picMediaId"},
}
for count in range(2, 6):
    buttons = {f"action{what}{n}" for what in ("Title", "URL") for n in range(1, count + 1)}
    NEEDED[f"sampleActionCard{count}"] = {"title", "text"} | buttons


@dataclass
class Message:
    """Something that a person would see."""

    way: str  # direct, group, robot, session, card
    to: str
    key: str
    param: dict[str, Any]
    id: str
    at: float

    @property
    def text(self) -> str:
        return str(self.param.get("text") or self.param.get("content") or "")


@dataclass
class Robot:
    """A group's custom robot."""

    secret: str = ""
    keywords: tuple[str, ...] = ()
    allowed_ip: bool = True
    sent: deque[float] = field(default_factory=deque)


class FakeDingTalk:
    """The vendor. `now` gives milliseconds; tests may pass their clock's."""

    def __init__(
        self,
        client_id: str = "dingtest",
        client_secret: str = "ding-secret",
        robot_code: str = "",
        now: Callable[[], int] | None = None,
    ) -> None:
        self.client_id, self.client_secret, self.robot_code = client_id, client_secret, robot_code or client_id
        self.now = now or (lambda: time.time_ns() // 1_000_000)
        self.messages: list[Message] = []
        self.calls: list[tuple[str, str]] = []
        self.tokens: dict[str, bool] = {}
        self.token_calls = 0
        self.strangers: set[str] = set()
        self.absent_groups: set[str] = set()
        self.sessions: dict[str, int] = {}
        self.robots: dict[str, Robot] = {}
        self.media: dict[str, bytes] = {}
        self.downloads: dict[str, bytes] = {}
        self.problems: list[str] = []
        self.down: Callable[[], bool] = lambda: False
        self.hold = asyncio.Event()
        self.hold.set()
        self.held = asyncio.Event()
        self._faults: dict[str, deque[dict[str, Any]]] = defaultdict(deque)
        self._runner: web.AppRunner | None = None
        self.url = ""
        self.gateway, self.cards = Gateway(self), Cards(self)

    # ---- life

    async def start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=40_000_000)
        app.add_routes(
            [
                web.post("/v1.0/oauth2/accessToken", self._token),
                web.post("/v1.0/robot/oToMessages/batchSend", self._direct),
                web.post("/v1.0/robot/groupMessages/send", self._group),
                web.post("/v1.0/robot/messageFiles/download", self._download),
                web.post("/media/upload", self._upload),
                web.post("/robot/send", self._robot),
                web.post("/robot/sendBySession", self._session),
                web.get("/files/{code}", self._file),
                web.get("/_fake/messages", self._list),
                web.post("/_fake/fault", self._arm),
                *self.gateway.routes(),
                *self.cards.routes(),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        bound = self._runner.addresses[0]
        self.url = f"http://127.0.0.1:{bound[1]}"

    async def stop(self) -> None:
        self.hold.set()
        await self.gateway.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> FakeDingTalk:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # ---- what tests ask and set

    def fault(self, place: str, kind: str, times: int = 1, **more: Any) -> None:
        """Let the next `times` calls at `place` (token, send, robot, session, card, stream, upload) go wrong.

        kind: qps, expired, status (status=503), html, drop (done, then no answer), refuse (code=…), scope, ip,
        invalid, flow, filtered, slow (waits until `hold` is set), errcode (errcode=…, errmsg=…).
        """
        self._faults[place].extend({"kind": kind, **more} for _ in range(times))

    def expire_tokens(self) -> None:
        """All tokens become invalid; the next one differs."""
        for token in self.tokens:
            self.tokens[token] = False

    def callback(
        self, words: str = "hello", /, *, timestamp: int | None = None, secret: str | None = None, **fields: Any
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body of a robot callback as the vendor would post it; `fields` replace those of the body."""
        at = str(self.now() if timestamp is None else timestamp)
        headers = {
            "content-type": "application/json; charset=utf-8",
            "timestamp": at,
            "sign": sign(secret or self.client_secret, at),
        }
        return headers, json.dumps(self.message(words, **fields), ensure_ascii=False).encode()

    def message(self, words: str = "hello", /, **fields: Any) -> dict[str, Any]:
        """A robot message's JSON, of one person in a direct chat unless `fields` say otherwise."""
        self._count = getattr(self, "_count", 0) + 1
        session = hashlib.sha256(f"{self.url}{self._count}".encode()).hexdigest()
        until = self.now() + 90 * 60_000
        self.sessions[session] = until
        body: dict[str, Any] = {
            "conversationId": "cidDIRECT==",
            "conversationType": "1",
            "chatbotCorpId": "dingcorp",
            "chatbotUserId": "$:LWCP_v1:$robot",
            "msgId": f"msg{self._count:06d}==",
            "senderNick": "小王",
            "isAdmin": False,
            "senderStaffId": "staff1",
            "senderId": "$:LWCP_v1:$person1",
            "sessionWebhookExpiredTime": until,
            "createAt": self.now(),
            "senderCorpId": "dingcorp",
            "sessionWebhook": f"{self.url}/robot/sendBySession?session={session}",
            "robotCode": self.robot_code,
            "senderPlatform": "Mac",
            "msgtype": "text",
            "text": {"content": words},
        }
        body.update(fields)
        return {k: v for k, v in body.items() if v is not ...}

    # ---- faults

    def _next(self, place: str) -> dict[str, Any]:
        return self._faults[place].popleft() if self._faults[place] else {"kind": ""}

    async def _broken(self, place: str, request: web.Request) -> web.StreamResponse | None:
        """The answer of an armed fault that comes before the work is done; None to go on."""
        fault = self._next(place)
        request[FAULT] = fault
        if self.down():
            return web.Response(status=503, text="upstream")
        match fault["kind"]:
            case "slow":
                self.held.set()
                await self.hold.wait()
            case "qps":
                return error(403, "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", "qps limit")
            case "expired":
                self.expire_tokens()
            case "status":
                return web.Response(status=fault.get("status", 503), text=fault.get("text", "upstream"))
            case "html":
                return web.Response(text="<html>maintenance</html>", content_type="text/html")
            case "refuse":
                return error(fault.get("status", 400), fault["code"], fault.get("message", "refused"))
            case "scope":
                detail = {"requiredScopes": ["qyapi_robot_sendmsg"]}
                code = "Forbidden.AccessDenied.AccessTokenPermissionDenied"
                return error(403, code, "应用尚未开通所需的权限", accessdenieddetail=detail)
            case "ip":
                return error(403, "Forbidden.AccessDenied.IpNotInWhiteList", "ip 1.2.3.4 not in white list")
            case "errcode":
                return web.json_response({"errcode": fault["errcode"], "errmsg": fault.get("errmsg", "")})
            case "body":
                return web.json_response(fault["body"])
        return None

    @staticmethod
    async def dropped(request: web.Request) -> None:
        """For the fault `drop`: what was asked is done, and the connection ends without an answer."""
        if request[FAULT]["kind"] == "drop" and request.transport is not None:
            request.transport.abort()

    # ---- open API

    async def opened(self, place: str, request: web.Request) -> tuple[dict[str, Any], web.StreamResponse | None]:
        """The body of a call with a token, or the refusal."""
        self.calls.append((request.method, request.path))
        broken = await self._broken(place, request)
        if broken is not None:
            return {}, broken
        token = request.headers.get("x-acs-dingtalk-access-token", "")
        if not self.tokens.get(token):
            return {}, error(400, "InvalidAuthentication", "不合法的access_token")
        return await self._body(request)

    async def _body(self, request: web.Request) -> tuple[dict[str, Any], web.StreamResponse | None]:
        if "application/json" not in request.headers.get("content-type", ""):
            return {}, error(400, "invalidContentType", "application/json expected")
        try:
            body = json.loads(await request.text())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return {}, error(400, "invalidJson", "body is not JSON")
        return body, None

    async def _token(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        self.token_calls += 1
        broken = await self._broken("token", request)
        if broken is not None:
            return broken
        body, bad = await self._body(request)
        if bad is not None:
            return bad
        if (body.get("appKey"), body.get("appSecret")) != (self.client_id, self.client_secret):
            return error(400, "invalidClientIdOrSecret", "无效的clientId或者clientSecret")
        live = [t for t, holds in self.tokens.items() if holds]
        token = live[0] if live else f"token-{len(self.tokens) + 1}-{hashlib.sha1(self.url.encode()).hexdigest()}"
        self.tokens[token] = True
        return web.json_response({"accessToken": token, "expireIn": 7200})

    async def _direct(self, request: web.Request) -> web.StreamResponse:
        body, bad = await self.opened("send", request)
        if bad is not None:
            return bad
        users = body.get("userIds")
        if not isinstance(users, list) or not users or not all(isinstance(u, str) and u for u in users):
            return error(400, "invalidParameter.userIds.invalid", "userIds")
        if len(users) > 20:
            return error(400, "invalidParameter.userIds.overMax", "userIds")
        empty: dict[str, Any] = {
            "invalidStaffIdList": [u for u in users if u in self.strangers],
            "flowControlledStaffIdList": [],
            "filteredStaffIdList": [],
        }
        lists = {
            "invalid": "invalidStaffIdList",
            "flow": "flowControlledStaffIdList",
            "filtered": "filteredStaffIdList",
        }
        if request[FAULT]["kind"] in lists:
            empty[lists[request[FAULT]["kind"]]] = users
        reached = [u for u in users if not any(u in names for names in empty.values())]
        return await self._said(request, body, "direct", reached, empty)

    async def _group(self, request: web.Request) -> web.StreamResponse:
        body, bad = await self.opened("send", request)
        if bad is not None:
            return bad
        group = body.get("openConversationId")
        if not isinstance(group, str) or not group.startswith("cid") or group in self.absent_groups:
            return error(400, "invalidParameter.openConversationId.invalid", "openConversationId")
        return await self._said(request, body, "group", [group], {})

    async def _said(
        self, request: web.Request, body: dict[str, Any], way: str, to: list[str], more: dict[str, Any]
    ) -> web.StreamResponse:
        if body.get("robotCode") != self.robot_code:
            return error(400, "invalidParameter.robotCode.notExsit", "robotCode")
        key, text = body.get("msgKey"), body.get("msgParam")
        if key not in NEEDED:
            return error(400, "invalidParameter.msgKey.invalid", "msgKey")
        if not isinstance(text, str) or len(text.encode()) > 15_000:
            return error(400, "invalidParameter.msgParam.invalid", "msgParam")
        try:
            param = json.loads(text)
        except ValueError:
            param = None
        if not isinstance(param, dict) or not NEEDED[key] <= set(param):
            return error(400, "invalidParameter.msgParam.invalid", "msgParam")
        query = base64.b64encode(hashlib.sha256(f"{len(self.messages)}{self.url}".encode()).digest()).decode()
        for name in to:
            self.messages.append(Message(way, name, key, param, query, time.monotonic()))
        await self.dropped(request)
        return web.json_response({"processQueryKey": query, **more})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        body, bad = await self.opened("download", request)
        if bad is not None:
            return bad
        if body.get("robotCode") != self.robot_code or body.get("downloadCode") not in self.downloads:
            return error(400, "invalidParameter.downloadCode.invalid", "downloadCode")
        return web.json_response({"downloadUrl": f"{self.url}/files/{body['downloadCode']}"})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        data = self.downloads.get(request.match_info["code"])
        return web.Response(body=data) if data is not None else web.Response(status=404)

    # ---- old API

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        broken = await self._broken("upload", request)
        if broken is not None:
            return broken
        if not self.tokens.get(request.query.get("access_token", "")):
            return web.json_response({"errcode": 40014, "errmsg": "不合法的access_token"})
        if request.query.get("type") not in ("image", "voice", "video", "file"):
            return web.json_response({"errcode": 40004, "errmsg": "type"})
        part = (await request.post()).get("media")
        if not isinstance(part, web.FileField):
            return web.json_response({"errcode": 43008, "errmsg": "media"})
        media_id = f"@fake{len(self.media)}"
        self.media[media_id] = part.file.read()
        return web.json_response({"errcode": 0, "errmsg": "ok", "media_id": media_id, "type": "file"})

    async def _robot(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        broken = await self._broken("robot", request)
        if broken is not None:
            return broken
        robot = self.robots.get(request.query.get("access_token", ""))
        if robot is None:
            return old(300001, "token is not exist")
        body, bad = await self._body(request)
        if bad is not None:
            return old(43004, "无效的HTTP HEADER Content-Type")
        if robot.secret:
            at, given = request.query.get("timestamp", ""), request.query.get("sign", "")
            if not at.isdigit() or abs(self.now() - int(at)) > 3_600_000:
                return old(310000, "invalid timestamp")
            if not hmac.compare_digest(given.encode(), sign(robot.secret, at).encode()):
                return old(310000, "sign not match")
        if not robot.allowed_ip:
            return old(310000, "ip 1.2.3.4 not in whitelist")
        kind = str(body.get("msgtype"))
        param = body.get(kind)
        if kind not in ("text", "markdown", "link", "actionCard", "feedCard") or not isinstance(param, dict):
            return old(400105, "unsupported msgtype")
        text = json.dumps(param, ensure_ascii=False)
        if len(text.encode()) > 20_000:
            return old(460101, "message too long, exceed 20000 bytes")
        if robot.keywords and not any(word in text for word in robot.keywords):
            return old(310000, "keywords not in content")
        now = self.now() / 1000
        while robot.sent and robot.sent[0] <= now - 60:
            robot.sent.popleft()
        if len(robot.sent) >= 20:
            return old(130101, "send too fast, exceed 20 times per minute")
        robot.sent.append(now)
        shown = {**param, "at": body.get("at", {})}
        self.messages.append(
            Message("robot", request.query["access_token"], kind, shown, f"r{len(self.messages)}", time.monotonic())
        )
        await self.dropped(request)
        return old(0, "ok")

    async def _session(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        broken = await self._broken("session", request)
        if broken is not None:
            return broken
        until = self.sessions.get(request.query.get("session", ""), 0)
        if self.now() > until:
            return old(300001, "session is expired")
        if "x-acs-dingtalk-access-token" in request.headers:
            self.problems.append("an access token was sent to a session webhook")
        body, bad = await self._body(request)
        kind = str(body.get("msgtype"))
        if bad is not None or not isinstance(body.get(kind), dict):
            return old(400105, "unsupported msgtype")
        name = f"s{len(self.messages)}"
        self.messages.append(Message("session", request.query["session"], kind, body[kind], name, time.monotonic()))
        await self.dropped(request)
        return old(0, "ok")

    # ---- by hand

    async def _list(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response([asdict(message) for message in self.messages])

    async def _arm(self, request: web.Request) -> web.StreamResponse:
        self.fault(**(await request.json()))
        return web.json_response({})


def sign(secret: str, timestamp: str) -> str:
    """The vendor's digest, written again here so that ours is checked against another hand's."""
    mac = hmac.HMAC(bytes(secret, "utf-8"), digestmod="sha256")
    mac.update(timestamp.encode() + b"\n" + secret.encode())
    return base64.standard_b64encode(mac.digest()).decode("ascii")


def error(status: int, code: str, message: str, **more: Any) -> web.Response:
    """An error of the v1.0 API."""
    body = {"code": code, "message": message, "requestid": "REQ-1", **more}
    return web.json_response(body, status=status)


def old(errcode: int, errmsg: str) -> web.Response:
    """An answer of the old API: always 200."""
    return web.json_response({"errcode": errcode, "errmsg": errmsg})


async def _serve(args: argparse.Namespace) -> None:
    fake = FakeDingTalk(args.client_id, args.client_secret)
    fake.robots["fake-token"] = Robot(secret="SECfake")
    await fake.start(args.port)
    print(f"api_base and oapi_base: {fake.url}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=18790)
    parser.add_argument("--client-id", default="dingtest")
    parser.add_argument("--client-secret", default="ding-secret")
    asyncio.run(_serve(parser.parse_args()))
