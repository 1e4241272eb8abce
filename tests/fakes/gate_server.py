"""A small panel behind the real front and gate: `python -m tests.fakes.gate_server FOLDER [ungated]`.

A process of its own that prints its port. Ungated it is NiceGUI as it comes, to show that the attacks are real.
`/api/test/…` makes sessions, ends them and counts what handlers saw.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from nicegui import Client, events, ui
from sqlmodel import SQLModel
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router

import storage.tables  # noqa: F401
from routes.front import Front, nicegui_pages
from routes.headers import Headers
from security.gate import SCOPE_WHO, Gate
from storage.background import Background
from storage.clock import Clock
from storage.database import SqliteDatabase, sqlite_engine
from storage.principal import SYSTEM
from tests.security_house import GOOD, House

UNGATED = "ungated" in sys.argv
FOLDER = Path(sys.argv[1]) if __name__ == "__main__" else Path()
seen: dict[str, list[object]] = {"clicks": [], "uploads": [], "values": [], "pages": []}


def pages(gate: Gate) -> None:
    """A page with a button, an input and an upload; a parametrised one."""

    @ui.page("/")
    async def home() -> None:
        client = ui.context.client
        who = SYSTEM if UNGATED else client.request.scope[SCOPE_WHO]
        if not UNGATED:
            gate.claim(client.id, who)
        seen["pages"].append(who.name)
        ui.label(f"hello {who.name}")
        ui.button("press", on_click=lambda: seen["clicks"].append(who.name)).props("data-testid=press")
        ui.input("name", on_change=lambda e: seen["values"].append(e.value)).props("data-testid=name")

        async def got(e: events.UploadEventArguments) -> None:
            seen["uploads"].append(who.name)

        ui.upload(on_upload=got, auto_upload=True).props("data-testid=upload")

    @ui.page("/item/{n}")
    async def item(n: str) -> None:
        ui.label(n)


def routes(house: House) -> Router:
    """What tests ask of the server."""

    async def login(request: Request) -> JSONResponse:
        name = request.query_params["name"]
        step = await house.sign_in.password(name, GOOD, ip="127.0.0.1", agent="test")
        return JSONResponse({"cookie": step.value, "session": step.sid})

    async def revoke(request: Request) -> JSONResponse:
        await house.sessions.revoke(request.query_params["session"])
        return JSONResponse({})

    async def state(_: Request) -> JSONResponse:
        clients = {
            client.id: {
                "button": next((e.id for e in client.elements.values() if isinstance(e, ui.button)), None),
                "upload": next((e.id for e in client.elements.values() if isinstance(e, ui.upload)), None),
                "listener": next(
                    (li.id for e in client.elements.values() if isinstance(e, ui.button) for li in _listeners(e)), None
                ),
                "connected": client.has_socket_connection,
            }
            for client in Client.instances.values()
        }
        return JSONResponse({**seen, "clients": clients})

    async def ping(_: Request) -> JSONResponse:
        return JSONResponse({"ok": True})

    return Router(
        [
            Route("/api/test/login", login, methods=["POST"]),
            Route("/api/test/revoke", revoke, methods=["POST"]),
            Route("/api/test/state", state),
            Route("/healthz", ping),
        ]
    )


def _listeners(element: ui.element) -> list[object]:
    return list(element._event_listeners.values())


async def build() -> tuple[Front, Gate, House]:
    """The composition that app.py makes, on a fresh database with the users anna and bert."""
    path = FOLDER / "db" / "zhixing.db"
    path.parent.mkdir(parents=True)
    engine = sqlite_engine(path, size=1)
    SQLModel.metadata.create_all(engine)
    engine.dispose()
    house = House(SqliteDatabase(path), Clock())  # type: ignore[arg-type]
    _, owner = await house.owner()
    await house.people.create(owner, name="bert", role="member", password=GOOD)
    await house.sessions.load()
    gate = Gate(
        sessions=house.sessions,
        setup=house.setup,
        addresses=house.addresses,
        background=Background(),
        clock=house.clock,
    )
    pages(gate)
    parent = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    ui.run_with(parent, reconnect_timeout=30, binding_refresh_interval=1.0, show_welcome_message=False)
    if not UNGATED:
        gate.guard(Headers(parent))
    return (
        Front(routes(house), parent if UNGATED else gate, addresses=house.addresses, pages=nicegui_pages()),
        gate,
        house,
    )


async def main() -> None:
    """Serve until killed."""
    front, gate, _ = await build()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        front, ws="websockets-sansio", log_level="warning", proxy_headers=False, ws_max_size=1_100_000
    )
    gate.start()
    print(listener.getsockname()[1], flush=True)
    await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    asyncio.run(main())
