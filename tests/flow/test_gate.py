"""The gate and the front without NiceGUI: Host, Origin, session, sources, bounds; and what reaches the app behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from routes.front import Front, Pages
from routes.headers import Headers
from security.addresses import Lists
from security.gate import EVENTS_AT_ONCE, SCOPE_THEME, SCOPE_WHO, Gate
from security.sessions import key_of
from security.throttle import Rate, Throttle
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.principal import Principal, principal
from tests.security_house import House

ADMIN = principal(id="user:1", name="anna", role="owner")
HOME = "127.0.0.1:18789"


@dataclass
class Inner:
    """Stands for NiceGUI: remembers what reached it."""

    scopes: list[Scope] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                self.heard.append(message["text"])
            return
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if message["type"] == "http.disconnect":
                self.bodies.append(-1)
                break
            if not message.get("more_body"):
                self.bodies.append(size)
                break
        kind = {"x-nicegui-content": "page"} if scope["path"] == "/" else {}
        page = "<html><script>1</script><script src='x'></script></html>"
        await PlainTextResponse(page, headers=kind)(scope, receive, send)


@dataclass
class Door:
    """Front, gate and app behind it."""

    house: House
    inner: Inner
    gate: Gate
    front: Front

    async def ask(
        self, method: str = "GET", path: str = "/", *, host: str = HOME, ip: str = "127.0.0.1", **more: Any
    ) -> Any:
        """One request; headers by keyword."""
        transport = httpx.ASGITransport(self.front, client=(ip, 5555))  # type: ignore[arg-type]
        content = more.pop("content", None)
        headers = [("host", host), *((k.replace("_", "-"), v) for k, v in more.items())]
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(method, path, headers=headers, content=content)


@pytest.fixture
async def door(db: SqliteDatabase, clock: ManualClock) -> AsyncIterator[Door]:
    house, inner, background = House(db, clock), Inner(), Background()
    gate = Gate(
        sessions=house.sessions,
        setup=house.setup,
        addresses=house.addresses,
        background=background,
        clock=clock,
    )
    gate.app = Headers(inner)  # not guard(): NiceGUI itself has its own test
    hot = Router(
        [
            Route(path, lambda _: PlainTextResponse("hot"))
            for path in ("/healthz", "/login", "/webhooks/feishu/a", "/api/v1/x")
        ]
    )
    pages = Pages(lambda: ["/", "/chat", "/trace/{n}"])
    yield Door(house, inner, gate, Front(hot, gate, addresses=house.addresses, pages=pages))
    await background.stop()


async def test_anonymous_requests_reach_nothing(door: Door) -> None:
    await door.house.owner()
    for path in ("/", "/chat", "/trace/5", "/_nicegui/3.18.0/static/nicegui.js", "/_nicegui/client/x/upload/1"):
        for method in ("GET", "POST", "HEAD"):
            answer = await door.ask(method, path, origin=f"http://{HOME}")
            assert answer.status_code in (303, 401), (method, path)
    assert (await door.ask(path="/")).headers["location"] == "/login"
    assert (await door.ask(path="/trace/5?a=1&b=//evil")).headers[
        "location"
    ] == "/login?next=/trace/5%3Fa%3D1%26b%3D//evil"
    assert door.inner.scopes == []


async def test_unknown_paths_reach_nothing_even_with_a_session(door: Door) -> None:
    value, _ = await door.house.owner()
    for path in ("/wp-login.php", "/trace", "/trace/1/2", "/_nicegui", "/_niceguix/", "/chat/", "/docs"):
        assert (await door.ask(path=path, cookie=f"zhixing={value}")).status_code == 404, path
    assert door.inner.scopes == []


async def test_before_an_admin_exists_only_the_setup_answers(door: Door) -> None:
    assert (await door.ask()).headers["location"] == "/setup/code"
    value, _ = await door.house.setup.enter(await door.house.setup.start(), ip="127.0.0.1", agent="")
    for path in ("/", "/chat", "/_nicegui/client/x/upload/1"):
        answer = await door.ask(path=path, cookie=f"zhixing={value}")
        assert answer.status_code in (303, 401)
    assert (await door.ask(cookie=f"zhixing={value}")).headers["location"] == "/setup/admin"
    assert door.inner.scopes == []


async def test_a_live_session_gets_through_as_itself(door: Door) -> None:
    value, who = await door.house.owner()
    answer = await door.ask(cookie=f"other=1; zhixing={value}; x=2", accept_language="en", x_forwarded_prefix="/evil")
    assert answer.status_code == 200
    scope = door.inner.scopes[0]
    found: Principal = scope[SCOPE_WHO]
    assert (found.id, found.role, found.lang, found.session) == ("user:1", "owner", "en", who.session)
    assert scope[SCOPE_THEME] == "auto"
    assert not [name for name, _ in scope["headers"] if name == b"x-forwarded-prefix"]
    assert door.gate.alive(found)
    await door.house.sessions.revoke(key_of(value))
    assert not door.gate.alive(found)
    assert (await door.ask(cookie=f"zhixing={value}")).status_code == 303
    assert len(door.inner.scopes) == 1


@pytest.mark.parametrize(
    "cookie",
    [
        "zhixing=",
        "zhixing=AAAA",
        "zhixing=" + "A" * 43,
        "Zhixing={}",
        "xzhixing={}",
        "zhixing={}x",
        "zhixing=A; zhixing={}",
        "__Host-zhixing={}",
        "a={}",
        "zhixing={}, b",
    ],
)
async def test_no_cookie_but_the_right_one(door: Door, cookie: str) -> None:
    value, _ = await door.house.owner()
    assert (await door.ask(cookie=cookie.replace("{}", value))).status_code == 303
    assert (await door.ask(cookie=f'zhixing="{value}"')).status_code == 200


async def test_over_tls_only_the_host_cookie_counts(door: Door) -> None:
    value, _ = await door.house.owner()
    await door.house.addresses.save(ADMIN, Lists(proxies=("127.0.0.1",)), from_ip="")
    plain = await door.ask(cookie=f"zhixing={value}", x_forwarded_proto="https", x_forwarded_for="198.51.100.7")
    assert plain.status_code == 303
    answer = await door.ask(cookie=f"__Host-zhixing={value}", x_forwarded_proto="https", x_forwarded_for="198.51.100.7")
    assert answer.status_code == 200
    assert door.inner.scopes[0][SCOPE_WHO].ip == "198.51.100.7"
    assert door.inner.scopes[0]["scheme"] == "https"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:18789",
        "",
        "a b",
        "127.0.0.1:18789@evil.example",
    ],
)
async def test_a_strange_host_is_refused(door: Door, host: str) -> None:
    value, _ = await door.house.owner()
    assert (await door.ask(host=host, cookie=f"zhixing={value}")).status_code == 421
    assert (await door.ask(host="localhost:18789", cookie=f"zhixing={value}")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": f"http://{HOME}"}, 200),
        ({"referer": f"http://{HOME}/chat"}, 200),
        ({"sec_fetch_site": "same-origin", "origin": "null"}, 200),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1"}, 403),
        ({"origin": "http://127.0.0.1:18790"}, 403),
        ({"origin": f"http://{HOME}.evil.example"}, 403),
        ({"origin": f"file://{HOME}"}, 403),
        ({"origin": HOME}, 403),
        ({"origin": f"http://{HOME}", "sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "none"}, 403),
        ({"referer": f"http://evil.example/{HOME}"}, 403),
        ({"referer": f"http://evil.example/?http://{HOME}/"}, 403),
        ({"referer": f"http://{HOME}@evil.example/"}, 403),
        ({"origin": "http://evil.example", "referer": f"http://{HOME}/"}, 403),
    ],
)
async def test_unsafe_requests_need_our_own_origin(door: Door, headers: dict[str, str], status: int) -> None:
    value, _ = await door.house.owner()
    answer = await door.ask("POST", "/chat", cookie=f"zhixing={value}", content=b"x", **headers)
    assert answer.status_code == status
    assert len(door.inner.scopes) == (status == 200)


async def test_bodies_are_bounded_with_and_without_their_length(door: Door) -> None:
    value, _ = await door.house.owner()
    own = {"cookie": f"zhixing={value}", "origin": f"http://{HOME}"}

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 50_000

    await door.ask("POST", "/chat", content=b"x" * 900_000, **own)
    await door.ask("POST", "/chat", content=b"x" * 1_100_000, **own)
    await door.ask("POST", "/chat", content=chunks(), **own)
    assert door.inner.bodies == [900_000, -1, -1]


async def test_polling_is_refused(door: Door) -> None:
    value, _ = await door.house.owner()
    path = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
    assert (await door.ask(path=path, cookie=f"zhixing={value}")).status_code == 400


async def test_pages_carry_a_policy_with_a_fresh_nonce(door: Door) -> None:
    value, _ = await door.house.owner()
    nonces = set()
    for _ in range(2):
        answer = await door.ask(cookie=f"zhixing={value}", accept_encoding="gzip")
        policy = answer.headers["content-security-policy"]
        nonce = policy.split("'nonce-")[1].split("'")[0]
        nonces.add(nonce)
        assert answer.text.count(f'<script nonce="{nonce}"') == 2
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "strict-transport-security" not in answer.headers
    assert len(nonces) == 2
    assert not [name for name, _ in door.inner.scopes[0]["headers"] if name == b"accept-encoding"]


async def test_hsts_only_where_encrypted_and_not_at_home(door: Door) -> None:
    value, _ = await door.house.owner()
    await door.house.addresses.save(ADMIN, Lists(proxies=("127.0.0.1",), hosts=("bot.example.com",)), from_ip="")
    own = {"cookie": f"__Host-zhixing={value}", "x_forwarded_proto": "https"}
    assert "strict-transport-security" in (await door.ask(host="bot.example.com", **own)).headers
    assert "strict-transport-security" not in (await door.ask(host="localhost", **own)).headers


async def test_sources_and_bad_proxies(door: Door) -> None:
    lists = Lists(
        proxies=("10.0.0.1",),
        sources={"panel": ("192.168.0.0/16",), "webhooks": ("203.0.113.0/24",), "api": ("10.0.0.0/8",)},
    )
    await door.house.addresses.save(ADMIN, lists, from_ip="192.168.1.1")
    for path, ip, status in (
        ("/login", "192.168.1.1", 200),
        ("/login", "127.0.0.1", 403),
        ("/login", "203.0.113.5", 403),
        ("/webhooks/feishu/a", "203.0.113.5", 200),
        ("/webhooks/feishu/a", "192.168.1.1", 403),
        ("/api/v1/x", "10.5.5.5", 200),
        ("/api/v1/x", "192.168.1.1", 403),
        ("/healthz", "198.51.100.1", 200),
    ):
        assert (await door.ask(path=path, ip=ip)).status_code == status, (path, ip)
    forged = {"x_forwarded_for": "192.168.1.1"}
    assert (await door.ask(path="/login", ip="203.0.113.5", **forged)).status_code == 403
    assert (await door.ask(path="/login", ip="10.0.0.1", **forged)).status_code == 200
    assert (await door.ask(path="/login", ip="10.0.0.1", x_forwarded_for="junk")).status_code == 400


# --- sockets, by hand


async def _socket(
    door: Door, messages: asyncio.Queue[Any], value: str, *, path: str = "/_nicegui_ws/socket.io/", **more: str
) -> list[Any]:
    """Run one socket until it ends; what was sent to the browser."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "websocket.close":
            await messages.put({"type": "websocket.disconnect", "code": 1005})

    headers = {"host": HOME, "origin": f"http://{HOME}", "cookie": f"zhixing={value}", **more}
    scope = {
        "type": "websocket",
        "path": path,
        "query_string": b"EIO=4&transport=websocket&client_id=gone",
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
        "client": ("127.0.0.1", 5),
        "scheme": "ws",
    }
    async with asyncio.timeout(10):
        await door.front(scope, messages.get, send)
    return sent


def _opening() -> asyncio.Queue[Any]:
    messages: asyncio.Queue[Any] = asyncio.Queue()
    messages.put_nowait({"type": "websocket.connect"})
    return messages


def _text(n: int) -> dict[str, str]:
    return {"type": "websocket.receive", "text": str(n)}


async def test_a_message_that_waits_at_revocation_is_not_heard(door: Door) -> None:
    value, _ = await door.house.owner()
    messages = _opening()
    task = asyncio.create_task(_socket(door, messages, value))
    await messages.put(_text(1))
    while door.inner.heard != ["1"]:
        await asyncio.sleep(0)
    await door.house.sessions.revoke(key_of(value))
    await messages.put(_text(2))
    sent = await task
    assert door.inner.heard == ["1"]
    assert sent[-1] == {"type": "websocket.close", "code": 4401}


async def test_an_idle_session_hears_nothing_more(door: Door) -> None:
    value, _ = await door.house.owner()
    messages = _opening()
    task = asyncio.create_task(_socket(door, messages, value))
    await messages.put(_text(1))
    while door.inner.heard != ["1"]:
        await asyncio.sleep(0)
    door.house.clock.advance(13 * 3600)
    await messages.put(_text(2))
    await task
    assert door.inner.heard == ["1"]


@pytest.mark.parametrize(
    "more",
    [
        {"cookie": ""},
        {"origin": "http://evil.example"},
        {"origin": ""},
        {"host": "evil.example", "origin": "http://evil.example"},
        {"path": "/elsewhere"},
        {"path": "/chat"},
        {"path": "/login"},
    ],
)
async def test_sockets_that_are_refused(door: Door, more: dict[str, str]) -> None:
    value, _ = await door.house.owner()
    sent = await _socket(door, _opening(), value, **more)
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert door.inner.scopes == []


async def test_a_flood_is_slowed_down(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    value, _ = await door.house.owner()
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr("security.gate.asyncio.sleep", sleep)
    messages = _opening()
    for n in range(int(EVENTS_AT_ONCE) + 60):
        messages.put_nowait(_text(n))
    messages.put_nowait({"type": "websocket.disconnect", "code": 1000})
    await _socket(door, messages, value)
    assert len([wait for wait in waits if wait > 0]) >= 59
    assert max(waits) == pytest.approx(1, abs=0.1)


async def test_behind_tls_nobody_from_elsewhere_comes_plain(door: Door) -> None:
    door.front.encrypted_only = True
    await door.house.addresses.save(ADMIN, Lists(proxies=("10.0.0.1",), hosts=("bot.example.com",)), from_ip="")
    assert (await door.ask(path="/login")).status_code == 200
    assert (await door.ask(path="/healthz", ip="203.0.113.5")).status_code == 200
    plain = await door.ask(path="/login?a=1", ip="203.0.113.5", host="bot.example.com:80")
    assert (plain.status_code, plain.headers["location"]) == (308, "https://bot.example.com/login?a=1")
    assert (await door.ask("POST", "/login", ip="203.0.113.5", host="bot.example.com")).status_code == 403
    assert (await door.ask(path="/login", ip="203.0.113.5", host="evil.example")).status_code == 403
    assert (await door.ask("POST", "/webhooks/feishu/a", ip="203.0.113.5")).status_code == 403
    forged = {"x_forwarded_proto": "https"}
    assert (await door.ask(path="/login", ip="203.0.113.5", **forged)).status_code == 308
    assert (await door.ask(path="/login", ip="10.0.0.1", x_forwarded_for="203.0.113.5", **forged)).status_code == 200
    half = {"x_forwarded_for": "203.0.113.5", "x_forwarded_proto": "http"}
    assert (await door.ask(path="/login", ip="10.0.0.1", host="bot.example.com", **half)).status_code == 308


async def test_a_flood_from_one_address_is_told_to_wait(door: Door) -> None:
    door.front.throttle = Throttle(door.house.clock, {"panel": Rate(per_second=1, at_once=3)})
    answers = [await door.ask(path="/login", ip="203.0.113.5") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["retry-after"] == "2"
    assert (await door.ask(path="/login", ip="203.0.113.6")).status_code == 200
    assert (await door.ask(path="/webhooks/feishu/a", ip="203.0.113.5")).status_code == 200
