"""Schedules with everything behind them: ledger, runner, outbox, a bot whose receiver is on loopback."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select

from agent.schedules.draft import ScheduleDraft, Task
from agent.schedules.parts import build_schedules
from agent.schedules.rows import run_t
from channels.actions import BotDraft
from channels.standing import MayTalk
from channels.targets import address_of
from storage.audit import Audit
from storage.clock import Clock
from storage.database import SqliteDatabase
from storage.principal import Principal, principal
from storage.tables.people import User
from tests.bot_house import BotHouse
from tests.fakes.quick_http import QuickServer, Request, Response, answer

OWNER = principal(id="user:1", name="boss", role="owner")
MEMBER = principal(id="user:2", name="member", role="member")
OPERATOR = principal(id="user:3", name="operator", role="operator")


class Receiver:
    """Takes what bots push; answers with an id, or as told."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        self.server = QuickServer(self._take)

    def _take(self, request: Request) -> Response:
        if self.status != 200:
            return answer({"error": "no"}, self.status)
        self.got.append(json.loads(request.body))
        return answer({"ok": True}, x_request_id=f"r{len(self.got)}")

    @property
    def texts(self) -> list[str]:
        return [item["text"] for item in self.got]


class ScheduleHouse(BotHouse):
    """One process's worth of parts. Made anew on the same database it is a restart."""

    def __init__(self, db: SqliteDatabase, clock: Clock, folder: Path, **more: Any) -> None:
        super().__init__(db, clock, folder / "files")
        self.folder = folder / "jobs"
        self.folder.mkdir(exist_ok=True)
        self.asked: list[str] = []
        self.reply: Callable[[str], str] = lambda prompt: "{}"
        self.parts = build_schedules(
            db=db,
            clock=clock,
            vault=self.vault,
            audit=Audit(clock, b"a" * 32),
            words=self.words,
            background=self.background,
            ledger=self.ledger,
            outbox=self.outbox,
            runner=self.runner,
            egress=self.egress,
            loop=self.answers,
            router=more.pop("router", None),
            answer=more.pop("answer", None),
            address_of=address_of,
            may_talk=MayTalk(bots=self.bots),
            folder=self.folder,
            hidden=(),
        )
        self.parts.handler.ask = self._ask
        self.runner.handlers["schedule"] = self.parts.handler
        self.parts.join(self.ledger)
        self.schedules, self.ticker, self.views = (
            self.parts.actions,
            self.parts.clockwork.ticker,
            self.parts.actions.views,
        )

    async def _ask(self, work: Any, prompt: str) -> str:
        self.asked.append(prompt)
        return self.reply(prompt)

    async def people(self) -> None:
        """The users behind OWNER, MEMBER and OPERATOR."""
        rows = [
            {"id": n, "tenant": "main", "name": who.name, "name_key": who.name, "role": who.role, "password_hash": ""}
            | {"created_at": 1, "totp_secret": "", "recovery_hashes": "[]", "version": 1, "lang": "zh_CN"}
            | {"totp_last_step": 0, "theme": "auto"}
            for n, who in enumerate((OWNER, MEMBER, OPERATOR), 1)
        ]
        await self.db.write(lambda c: c.execute(User.__table__.insert(), rows))  # type: ignore[attr-defined]

    async def webhook(self, name: str, base: str) -> None:
        """A bot that only pushes."""
        draft = BotDraft(name=name, type="webhook", mode="push", settings={"endpoint": f"{base}/in"}, secrets={})
        await self.actions.save(OWNER, draft)

    async def make(self, name: str = "job", kind: str = "message", who: Principal = OWNER, **more: Any) -> int:
        """Save a schedule; fields of the task may be given beside those of the draft."""
        own = {key: more.pop(key) for key in list(more) if key in Task.__dataclass_fields__}
        task = Task(**({"text": "hello"} if kind in ("message", "prompt") else {}) | own)
        draft = ScheduleDraft(name=name, kind=kind, task=task, **{"expression": "0 9 * * *"} | more)
        return (await self.schedules.save(who, draft)).id

    async def runs(self) -> list[Any]:
        """All rows of runs, in order."""
        return list(await self.db.read(lambda c: c.execute(select(run_t).order_by(run_t.c.id)).all()))

    async def settled(self, n: int) -> list[Any]:
        """Wait until `n` runs are neither queued nor running."""

        async def enough() -> bool:
            return sum(run.state not in ("queued", "running") for run in await self.runs()) >= n

        await self.until(enough)
        return await self.runs()

    def script(self, name: str, text: str) -> None:
        """A script in the folder of commands."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.chmod(path, 0o755)


async def quiet(house: ScheduleHouse) -> None:
    """Let what was handed over begin."""
    for _ in range(20):
        await asyncio.sleep(0)
