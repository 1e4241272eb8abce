"""The API with the whole house behind it, in one process, and clients that hold keys of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

import house as house_module
from agent.models.provider import ProviderDraft
from channels.actions import BotDraft
from house import House
from routes.api.application import Uses, api_app
from security.exposure import Exposure
from security.keys import KeyMade
from security.throttle import Rate
from storage import migrate
from storage.principal import SYSTEM, TENANT, Principal, principal
from storage.settings import ROOT, Settings
from storage.words import Words
from tests.bot_house import Answers

OWNER = principal(id="user:9000", name="anna", role="owner", lang="en")
FAST = {"caller": Rate(per_second=10_000, at_once=100_000), "stranger": Rate(per_second=10_000, at_once=100_000)}
PASSWORD = "kY7#mvQ2pLx9-tree"
SECONDS = 20.0


class ApiHouse:
    """A started house and its API. `answers` stands in for the agent unless `agent` is asked for."""

    def __init__(self, house: House, app: Any) -> None:
        self.house, self.app = house, app
        self.answers = Answers()
        self._clients: list[httpx.AsyncClient] = []

    async def key(self, *scopes: str, name: str = "test", who: Principal = SYSTEM, days: int | None = None) -> KeyMade:
        return await self.house.keys.create(who, name=name, scopes=scopes or ("*",), days=days)

    def client(self, secret: str = "", *, lang: str = "en", ip: str = "127.0.0.1", **headers: str) -> httpx.AsyncClient:
        """A client that holds a key or token."""
        given = {"accept-language": lang, **headers}
        if secret:
            given["authorization"] = f"Bearer {secret}"
        transport = httpx.ASGITransport(self.app, client=(ip, 4711))
        made = httpx.AsyncClient(transport=transport, base_url="http://panel", headers=given, timeout=SECONDS)
        self._clients.append(made)
        return made

    async def caller(self, *scopes: str, **more: Any) -> httpx.AsyncClient:
        """A client with a fresh key."""
        return self.client((await self.key(*scopes)).secret, **more)

    async def person(self, name: str, role: str) -> int:
        return await self.house.people.create(OWNER, name=name, role=role, password=PASSWORD)

    async def webhook_bot(self, url: str, name: str = "alerts") -> None:
        draft = BotDraft(name=name, type="webhook", mode="push", settings={"endpoint": url}, secrets={})
        await self.house.bot_actions.save(OWNER, draft)

    async def ended(self, client: httpx.AsyncClient, number: int) -> dict[str, Any]:
        """The task once it has ended."""
        found = await client.get(f"/api/v1/tasks/{number}/events")
        assert found.status_code == 200, found.text
        return events_of(found.text)[-1][2]

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


@asynccontextmanager
async def api_house(
    folder: Path, *, agent: bool = False, rates: dict[str, Rate] | None = None, start: bool = True, **more: Any
) -> AsyncIterator[ApiHouse]:
    """The house of a folder. Opened again on the same folder it is a restart."""
    house_module.DRAIN_SECONDS = 0.1  # what a test holds back does not end by itself
    (folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    values: dict[str, Any] = {"metrics_port": 0, "embedder": "none", "setup_code": "1234-5678", **more}
    settings = Settings(data=folder / "data", key_file=folder / "key", allow_local_vendors=True, **values)
    migrate.prepare(settings)
    words = Words(ROOT / "assets" / "locale")
    house = House(settings, words=words, environ={}, exposure=Exposure(wide=False, how="loopback"))
    app = api_app(
        uses_of(house),
        bearer=house.bearer,
        words=words,
        clock=house.clock,
        background=house.background,
        rates=rates or FAST,
    )
    made = ApiHouse(house, app)
    if not agent:
        house.runner.handlers["message"] = made.answers
    if start:
        _ = await house.start()
    if not await house.models.list(OWNER):
        await house.models.save(OWNER, ProviderDraft(name="demo", type="demo"))
    try:
        yield made
    finally:
        await made.close()
        await house.stop()


def uses_of(house: House) -> Uses:
    """As door.py gives them."""
    return Uses(
        tasks=house.tasks,
        talks=house.talks,
        messages=house.messages,
        schedules=house.schedules.actions,
        bots=house.bot_actions,
        models=house.models,
        usage=house.usage,
        memory=house.memory.actions if house.memory is not None else None,
        trace=house.trace,
        checks=house.checks,
        audit=house.audit_view,
        keys=house.keys,
        tokens=house.tokens,
        readiness=house.readiness,
        load=lambda: (house.dispatcher.waiting(), len(house.runner.running)),
    )


def events_of(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Server-sent events: kind, id, data."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"])))
    return found


class Reader:
    """Reads one stream as it comes, over ASGI itself; goes away when told."""

    def __init__(self, app: Any, path: str, secret: str, *, method: str = "GET", body: object = None, **headers: str):
        self.app, self.text, self.status = app, "", 0
        self._gone, self._grew = asyncio.Event(), asyncio.Event()
        raw = json.dumps(body).encode() if body is not None else b""
        given = {"authorization": f"Bearer {secret}", "content-type": "application/json", **headers}
        self._body: list[bytes] = [raw]
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "scheme": "http",
            "query_string": b"",
            "headers": [(k.replace("_", "-").lower().encode(), v.encode()) for k, v in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("panel", 80),
        }
        self.task = asyncio.get_running_loop().create_task(self.app(self._scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.text += message.get("body", b"").decode()
        self._grew.set()

    async def until(self, seen: Callable[[str], bool]) -> str:
        """Wait until the text is so."""
        async with asyncio.timeout(SECONDS):
            while not seen(self.text):
                self._grew.clear()
                if self.task.done():
                    break
                await self._grew.wait()
        assert seen(self.text), self.text
        return self.text

    async def whole(self) -> str:
        async with asyncio.timeout(SECONDS):
            await self.task
        return self.text

    async def leave(self) -> None:
        self._gone.set()
        async with asyncio.timeout(SECONDS):
            await self.task


__all__ = ["OWNER", "PASSWORD", "TENANT", "ApiHouse", "Reader", "api_house", "events_of"]
