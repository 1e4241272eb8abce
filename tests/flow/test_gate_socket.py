"""Show 6: without the session, with a hostile Origin or with another's page no handler runs, and uploads are refused.

Against a real server with NiceGUI and real Socket.IO clients. Each refusal has its positive control beside it.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import socketio

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Panel:
    """The server under test, and what a browser would do with it."""

    port: int
    open: list[socketio.AsyncClient] = field(default_factory=list)
    http: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=10)

    async def login(self, name: str) -> tuple[str, str]:
        """Cookie value and session id."""
        answer = (await self.http.post("/api/test/login", params={"name": name})).json()
        return answer["cookie"], answer["session"]

    async def page(self, cookie: str) -> str:
        """Open a page as a browser would; its client id."""
        answer = await self.http.get("/", headers={"cookie": f"zhixing={cookie}"})
        assert answer.status_code == 200, answer.text
        found = re.search(r"client_id\W+([0-9a-f-]{36})", answer.text)
        assert found is not None
        return found[1]

    async def state(self) -> dict[str, Any]:
        return dict((await self.http.get("/api/test/state")).json())

    async def socket(
        self, client_id: str, cookie: str | None, *, origin: str | None = "own", host: str = "127.0.0.1"
    ) -> socketio.AsyncClient:
        """Connect as NiceGUI's page does, with an implicit handshake."""
        client = socketio.AsyncClient(reconnection=False)
        self.open.append(client)
        headers = {} if cookie is None else {"Cookie": f"zhixing={cookie}"}
        if origin is not None:
            headers["Origin"] = f"http://127.0.0.1:{self.port}" if origin == "own" else origin
        query = f"client_id={client_id}&tab_id=t1&document_id=d1&next_message_id=0&implicit_handshake=true"
        async with asyncio.timeout(10):
            await client.connect(
                f"http://{host}:{self.port}/?{query}",
                headers=headers,
                transports=["websocket"],
                socketio_path="/_nicegui_ws/socket.io",
            )
        return client

    async def refused(self, client_id: str, cookie: str | None, **options: Any) -> bool:
        try:
            await self.socket(client_id, cookie, **options)
        except socketio.exceptions.ConnectionError:
            return True
        return False

    async def click(self, client: socketio.AsyncClient, page: str, of: str = "") -> None:
        """Send the event of a press on the page's button."""
        parts = (await self.state())["clients"][of or page]
        message = {"id": parts["button"], "client_id": page, "listener_id": parts["listener"], "args": ["{}"]}
        await client.emit("event", message)

    async def clicks(self, at_least: int) -> list[str]:
        """What handlers have seen, once it is that many."""
        async with asyncio.timeout(10):
            while True:
                found = (await self.state())["clicks"]
                if len(found) >= at_least:
                    return list(found)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.gate_server", str(folder), *options],
        cwd=ROOT,
        env={**os.environ, "NICEGUI_STORAGE_PATH": str(folder / "nicegui")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(tmp_path_factory.mktemp("gate")) as port:
        yield port


@pytest.fixture
async def panel(port: int) -> AsyncIterator[Panel]:
    panel = Panel(port)
    yield panel
    for client in panel.open:
        if client.connected:
            await client.disconnect()
    await panel.http.aclose()


async def test_the_owners_event_runs(panel: Panel) -> None:
    """Positive control for everything below."""
    cookie, _ = await panel.login("anna")
    page = await panel.page(cookie)
    before = len((await panel.state())["clicks"])
    client = await panel.socket(page, cookie)
    await panel.click(client, page)
    assert (await panel.clicks(before + 1))[-1] == "anna"


@pytest.mark.parametrize(
    "attack",
    ["no cookie", "made-up cookie", "hostile origin", "null origin", "no origin", "origin of another port", "https"],
)
async def test_no_socket_without_session_or_with_a_hostile_origin(panel: Panel, attack: str) -> None:
    cookie, _ = await panel.login("anna")
    page = await panel.page(cookie)
    options: dict[str, Any] = {
        "no cookie": {"cookie": None},
        "made-up cookie": {"cookie": "A" * 43},
        "hostile origin": {"origin": "http://evil.example"},
        "null origin": {"origin": "null"},
        "no origin": {"origin": ""},
        "origin of another port": {"origin": "http://127.0.0.1:1"},
        "https": {"origin": f"https://127.0.0.1:{panel.port + 1}"},
    }[attack]
    assert await panel.refused(page, **{"cookie": cookie, **options})
    assert not await panel.refused(page, cookie)


async def test_no_socket_on_anothers_page(panel: Panel) -> None:
    anna, _ = await panel.login("anna")
    bert, _ = await panel.login("bert")
    page = await panel.page(anna)
    assert await panel.refused(page, bert)
    assert await panel.refused("", bert)
    assert not await panel.refused(page, anna)


async def test_a_page_that_is_gone_is_told_to_reload(panel: Panel) -> None:
    cookie, _ = await panel.login("anna")
    client = socketio.AsyncClient(reconnection=False)
    told: list[object] = []
    client.on("connect_error", told.append)
    panel.open.append(client)
    query = "client_id=00000000-0000-4000-8000-000000000000&tab_id=t&document_id=d&implicit_handshake=true"
    with pytest.raises(socketio.exceptions.ConnectionError):
        await client.connect(
            f"http://127.0.0.1:{panel.port}/?{query}",
            headers={"Cookie": f"zhixing={cookie}", "Origin": f"http://127.0.0.1:{panel.port}"},
            transports=["websocket"],
            socketio_path="/_nicegui_ws/socket.io",
        )
    assert "Implicit handshake failed" in str(told)


@pytest.mark.parametrize("name", ["event", "javascript_response", "ack", "log", "handshake"])
async def test_no_message_for_anothers_page(panel: Panel, name: str) -> None:
    """A socket that is connected rightly says another's client id: nothing runs and it is cut."""
    anna, _ = await panel.login("anna")
    bert, _ = await panel.login("bert")
    theirs, own = await panel.page(anna), await panel.page(bert)
    owner = await panel.socket(theirs, anna)
    before = len((await panel.state())["clicks"])
    attacker = await panel.socket(own, bert)
    cut = asyncio.Event()
    attacker.on("disconnect", lambda *_: cut.set())
    parts = (await panel.state())["clients"][theirs]
    more = {"id": parts["button"], "listener_id": parts["listener"], "args": ["{}"]}
    also = {
        "tab_id": "t1",
        "document_id": "d9",
        "next_message_id": 0,
        "request_id": "x",
        "level": "info",
        "message": "m",
    }
    await attacker.emit(name, {"client_id": theirs, **more, **also})
    async with asyncio.timeout(5):
        await cut.wait()
    await panel.click(owner, theirs)
    assert len(await panel.clicks(before + 1)) == before + 1


@pytest.mark.parametrize("frame", [None, 5, "x", [], {"client_id": {}}, {"client_id": 7}])
async def test_a_message_without_a_page_is_cut(panel: Panel, frame: object) -> None:
    cookie, _ = await panel.login("anna")
    client = await panel.socket(await panel.page(cookie), cookie)
    cut = asyncio.Event()
    client.on("disconnect", lambda *_: cut.set())
    await client.emit("event", frame)
    async with asyncio.timeout(5):
        await cut.wait()


async def test_malformed_messages_of_ones_own_page_are_ignored(panel: Panel) -> None:
    cookie, _ = await panel.login("anna")
    page = await panel.page(cookie)
    client = await panel.socket(page, cookie)
    parts = (await panel.state())["clients"][page]
    good = {"id": parts["button"], "client_id": page, "listener_id": parts["listener"], "args": ["{}"]}
    before = len((await panel.state())["clicks"])
    wrong_ids = [{"id": {}}, {"id": "1"}, {"id": True}, {"listener_id": "x"}]
    for bad in (*wrong_ids, {"args": [{}]}, {"args": ["{"]}, {"args": 1}):
        await client.emit("event", {**good, **bad})
    await client.emit("log", {"client_id": page, "level": "__class__", "message": "x"})
    await client.emit("ack", {"client_id": page, "next_message_id": "x"})
    await client.emit("event", good)
    assert len(await panel.clicks(before + 1)) == before + 1
    assert client.connected


async def test_uploads_belong_to_the_session(panel: Panel) -> None:
    anna, session = await panel.login("anna")
    bert, _ = await panel.login("bert")
    page = await panel.page(anna)
    upload = (await panel.state())["clients"][page]["upload"]
    url, own = f"/_nicegui/client/{page}/upload/{upload}", f"http://127.0.0.1:{panel.port}"

    async def send(cookie: str, origin: str = own, size: int = 5) -> int:
        headers = {"origin": origin, **({"cookie": f"zhixing={cookie}"} if cookie else {})}
        return (await panel.http.post(url, files={"f": ("a.txt", b"x" * size)}, headers=headers)).status_code

    before = len((await panel.state())["uploads"])
    assert await send("") == 401
    assert await send(bert) == 403
    assert await send(anna, origin="http://evil.example") == 403
    assert len((await panel.state())["uploads"]) == before
    assert await send(anna) == 200
    assert len((await panel.state())["uploads"]) == before + 1
    await panel.http.post("/api/test/revoke", params={"session": session})
    assert await send(anna) in (401, 403)
    assert len((await panel.state())["uploads"]) == before + 1


async def test_revocation_closes_sockets_within_a_second_and_hears_nothing_more(panel: Panel) -> None:
    cookie, session = await panel.login("anna")
    page = await panel.page(cookie)
    client = await panel.socket(page, cookie)
    cut, sent_away = asyncio.Event(), asyncio.Event()
    client.on("disconnect", lambda *_: cut.set())
    client.on("open", lambda message: sent_away.set() if message["path"] == "/login" else None)
    before = len((await panel.state())["clicks"])
    await panel.click(client, page)
    seen = len(await panel.clicks(before + 1))
    parts = (await panel.state())["clients"][page]
    await panel.http.post("/api/test/revoke", params={"session": session})
    if client.connected:
        message = {"id": parts["button"], "client_id": page, "listener_id": parts["listener"], "args": ["{}"]}
        await client.emit("event", message)
    async with asyncio.timeout(1):
        await cut.wait()
    assert sent_away.is_set()
    state = await panel.state()
    assert len(state["clicks"]) == seen
    assert page not in state["clients"]
    assert await panel.refused(page, cookie)
    assert (await panel.http.get("/", headers={"cookie": f"zhixing={cookie}"})).headers["location"] == "/login"


async def test_revocation_ends_only_that_session(panel: Panel) -> None:
    first, _ = await panel.login("anna")
    _, session = await panel.login("anna")
    page = await panel.page(first)
    client = await panel.socket(page, first)
    await panel.http.post("/api/test/revoke", params={"session": session})
    before = len((await panel.state())["clicks"])
    await panel.click(client, page)
    assert len(await panel.clicks(before + 1)) == before + 1


async def test_open_pages_of_a_session_are_bounded(panel: Panel) -> None:
    cookie, _ = await panel.login("anna")
    first = await panel.page(cookie)
    client = await panel.socket(first, cookie)
    for _ in range(15):  # never connected: they make room for each other, the connected one stays
        await panel.page(cookie)
    assert first in (await panel.state())["clients"]
    assert client.connected
    for _ in range(9):
        await panel.socket(await panel.page(cookie), cookie)
    assert (await panel.http.get("/", headers={"cookie": f"zhixing={cookie}"})).status_code == 503
    other, _ = await panel.login("bert")
    assert (await panel.http.get("/", headers={"cookie": f"zhixing={other}"})).status_code == 200


async def test_the_attacks_are_real(tmp_path: Path) -> None:
    """Without the gate each of them runs the handler: what the tests above refuse is not refused by chance."""
    with serving(tmp_path, "ungated") as port:
        panel = Panel(port)
        page = await panel.page("")
        attacker = await panel.socket(page, None, origin="http://evil.example")
        await panel.click(attacker, page)
        assert len(await panel.clicks(1)) == 1
        upload = (await panel.state())["clients"][page]["upload"]
        answer = await panel.http.post(f"/_nicegui/client/{page}/upload/{upload}", files={"f": ("a.txt", b"x")})
        assert answer.status_code == 200
        assert len((await panel.state())["uploads"]) == 1
        await attacker.disconnect()
        await panel.http.aclose()
