"""Facts for the probes: a real listener of ours in a good state, and a careless one that shows what red looks like."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from routes.listener import bounded
from security.egress_client import EgressClient
from security.exposure import Exposure
from security.probes.facts import Door, Facts
from storage.audit import guard
from storage.settings import Settings
from tests.fakes.login_house import front
from tests.security_house import House

LOOPBACK = Exposure(wide=False, how="loopback")
ACCEPTED = Exposure(wide=True, how="accepted", accepted=("exposure.plain",))
TLS = Exposure(wide=True, how="tls")


@asynccontextmanager
async def listening(app: ASGIApp, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Door]:
    """Serve an app on a port of its own, in this event loop."""
    sock = socket.create_server((host, 0))
    options: dict[str, Any] = {} if tls is None else {"ssl_context_factory": lambda *_: tls}
    config = uvicorn.Config(
        app,
        http=bounded(lambda _: False),
        log_level="critical",
        lifespan="off",
        proxy_headers=False,
        ws="websockets-sansio",
        **options,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve([sock]))
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        yield Door(host=host, port=sock.getsockname()[1], tls=tls is not None)
    finally:
        server.should_exit = True
        await task


async def careless(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers everybody with everything, reads any body, sets a naked cookie."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"text/html"), (b"set-cookie", b"zhixing=abc"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def settings_in(folder: Path) -> Settings:
    """A data folder and a key as they should be."""
    data, key = folder / "data", folder / "keys" / "master.key"
    for path in (data, data / "db", data / "config", key.parent):
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
    key.write_text("k")
    key.chmod(0o600)
    return Settings(data=data, key_file=key)


async def good_facts(house: House, door: Door, folder: Path) -> Facts:
    """Facts in which every check is green, but for what only the host can say."""
    await house.db.write(guard)
    await house.sessions.load()
    return Facts(
        settings=settings_in(folder),
        exposure=LOOPBACK,
        door=door,
        db=house.db,
        clock=house.clock,
        vault=house.vault,
        audit=house.audit,
        addresses=house.addresses,
        egress=EgressClient(clock=house.clock),
        passwords=house.passwords,
        guessing=house.guessing,
        sessions=house.sessions,
        setup=house.setup,
    )


@asynccontextmanager
async def good(house: House, folder: Path) -> AsyncIterator[Facts]:
    """A house with one owner, served on loopback."""
    await house.owner()
    async with listening(front(house)) as door:
        facts = await good_facts(house, door, folder)
        try:
            yield facts
        finally:
            await facts.egress.close()


@asynccontextmanager
async def carelessly(facts: Facts, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Facts]:
    """The same facts with a careless listener."""
    async with listening(careless, tls=tls) as door:
        yield replace(facts, door=door)
