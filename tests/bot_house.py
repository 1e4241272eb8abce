"""Bots with everything behind them, from the callback's bytes to the vendor's receipt, in one process."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from channels.actions import BotActions, BotDraft
from channels.files import WorkspaceFiles
from channels.registry import Bots
from channels.sender import Sender
from channels.streaming import Streaming
from routes.webhooks import WebhookRoute
from security.egress_client import EgressClient
from storage.audit import Audit
from storage.background import Background
from storage.clock import Clock
from storage.database import SqliteDatabase
from storage.dispatch import LocalDispatcher
from storage.envelope import Outgoing
from storage.errors import AppError
from storage.ledger import Ending, JobView, Ledger, delivery_t, job_t, message_t
from storage.live import Live
from storage.outbox import Outbox
from storage.principal import principal
from storage.runner import Runner, Work
from storage.vault import Vault
from storage.words import Words
from tests.rules.reading import ROOT

ADMIN = principal(id="user:1", name="admin", role="admin")


class Answers:
    """Says what it was told, or what the test wants; `gate` holds it back, `stream` is told piece by piece."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.say: Callable[[Work], Ending] | None = None
        self.stream: Callable[[Work], AsyncIterator[None]] | None = None
        self.ran: list[JobView] = []

    async def run(self, work: Work) -> Ending:
        self.ran.append(work.job)
        if self.stream is not None:
            async for _ in self.stream(work):
                pass
        await self.gate.wait()
        if self.say is not None:
            return self.say(work)
        return Ending(say=(Outgoing(kind="answer", text=f"re: {work.job.title}"),))

    def excuse(self, job: JobView, error: AppError) -> Ending:
        return Ending(status="failed", reason=error.code, say=(Outgoing(kind="notice", text=error.code),))


class BotHouse:
    """One process's worth of parts. Made anew on the same database it is a restart."""

    def __init__(self, db: SqliteDatabase, clock: Clock, files: Path, **more: Any) -> None:
        self.db, self.clock = db, clock
        self.ledger, self.background, self.live = Ledger(db, clock), Background(), Live()
        self.outbox, self.words = Outbox(self.ledger), Words(ROOT / "assets" / "locale")
        self.egress = EgressClient(allow_local_vendors=True)
        self.vault = Vault(b"k" * 32, clock)
        self.answers = Answers()
        self.files = WorkspaceFiles(root=files)
        self.bots = Bots(
            db=db,
            vault=self.vault,
            clock=clock,
            egress=self.egress,
            ledger=self.ledger,
            background=self.background,
            live=self.live,
            words=self.words,
            local=True,
            read=self.files.read,
            **more,
        )
        self.actions = BotActions(db=db, vault=self.vault, audit=Audit(clock, b"a" * 32), clock=clock, bots=self.bots)
        self.runner = Runner(self.ledger, self.live, {"message": self.answers})
        self.dispatcher = LocalDispatcher(self.ledger, self.runner, self.background)
        self.sender = Sender(
            outbox=self.outbox, bots=self.bots, background=self.background, clock=clock, live=self.live
        )
        self.streaming = Streaming(db, self.live, self.background, self.bots.channel, self.bots.any_streams)
        self.route = WebhookRoute(self.bots, self.words)
        self.ledger.on_job = self.dispatcher.submit
        self.ledger.on_deliveries = self.sender.submit

    async def start(self) -> BotHouse:
        await self.bots.start()
        self.streaming.start()
        await self.sender.start()
        await self.dispatcher.start()
        return self

    async def stop(self) -> None:
        await self.dispatcher.stop(0.1)
        await self.sender.stop(0.5)
        self.streaming.stop()
        await self.bots.stop()
        await self.background.stop(1)
        await self.egress.close()

    async def feishu(self, base: str, name: str = "hr-bot", **settings: str) -> None:
        """A Feishu bot whose secrets the fakes know."""
        mode = settings.pop("mode", "webhook")
        whole = {"app_id": "cli_test", "api_base": base, "access": "open", "stream": "off"} | settings
        secrets = {
            "app_secret": "app-secret",
            "encrypt_key": "encrypt-key-of-the-test",
            "verification_token": "verification-token",
        }
        draft = BotDraft(name=name, type="feishu", mode=mode, settings=whole, secrets=secrets)
        await self.actions.save(ADMIN, draft)

    # ---- asking over HTTP

    async def post(
        self,
        path: str,
        body: bytes | Iterable[bytes],
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "POST",
        stall: bool = False,
    ) -> tuple[int, Any]:
        """One request to the route; the answer's status and JSON."""
        pieces = [body] if isinstance(body, bytes) else body
        told = itertools.chain(((piece, True) for piece in pieces), ((b"", False),))
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if stall:
                await asyncio.Event().wait()
            piece, more = next(told)
            return {"type": "http.request", "body": piece, "more_body": more}

        async def send(event: Any) -> None:
            sent.append(event)

        raw = [(k.lower().encode(), v.encode("latin-1", "replace")) for k, v in (headers or {}).items()]
        if isinstance(body, bytes):
            raw.append((b"content-length", str(len(body)).encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": raw,
            "client": ("203.0.113.9", 1234),
        }
        async with asyncio.timeout(30):
            await self.route(scope, receive, send)
        text = b"".join(event.get("body", b"") for event in sent[1:])
        return sent[0]["status"], json.loads(text) if text else None

    # ---- looking

    async def stored(self) -> tuple[int, int, int]:
        """How many messages from people, jobs and deliveries there are."""

        def fn(c: Any) -> tuple[int, int, int]:
            said = select(func.count()).select_from(message_t).where(message_t.c.direction == "in")
            return (
                c.execute(said).scalar_one(),
                c.execute(select(func.count()).select_from(job_t)).scalar_one(),
                c.execute(select(func.count()).select_from(delivery_t)).scalar_one(),
            )

        return await self.db.read(fn)

    async def deliveries(self) -> list[Any]:
        """All deliveries in order."""
        return list(await self.db.read(lambda c: c.execute(select(delivery_t).order_by(delivery_t.c.id)).all()))

    async def until(self, ready: Callable[[], Any], seconds: float = 10.0) -> None:
        """Wait for something that an await may tell; looked at between the loop's turns."""
        async with asyncio.timeout(seconds):
            while True:
                found = ready()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return
                await asyncio.sleep(0.005)

    async def delivered(self, n: int) -> list[Any]:
        """Wait until `n` deliveries have their receipt."""

        async def enough() -> bool:
            return sum(row.status == "delivered" for row in await self.deliveries()) >= n

        await self.until(enough)
        return await self.deliveries()
