"""The real house, as app.py builds it, in this process: with fake vendors and a fake model, without the panel."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from agent.models.provider import ModelSpec, ProviderDraft
from channels.actions import BotDraft
from channels.base import RawRequest, RawResponse
from house import House
from security.exposure import Exposure
from storage import migrate
from storage.ledger import delivery_t, job_t
from storage.principal import Principal, principal
from storage.settings import ROOT, Settings
from storage.words import Words
from tests.fakes.feishu_events import FeishuEvents

OWNER = principal(id="user:1", name="anna", role="owner", lang="en")
OPEN = ("todo", "doing", "waiting")
_words: list[Words] = []


def settings_in(folder: Path, **more: Any) -> Settings:
    (folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "data": folder / "data",
        "key_file": folder / "master.key",
        "allow_local_vendors": True,
        "embedder": "off",
        "metrics_port": 0,
        "setup_code": "1234-5678-test",
    }
    return Settings(**{**values, **more})


class Operating:
    """A started house, and ways to talk with it."""

    def __init__(self, house: House) -> None:
        self.house, self.events = house, FeishuEvents()
        self._keys = itertools.count(1)
        self._conversation = 0

    async def provider(self, url: str, name: str = "fake", *, who: Principal = OWNER, **more: Any) -> None:
        """A model service."""
        draft = ProviderDraft(
            name=name, endpoint=f"{url}/v1", keys=("sk-test-key-1",), models=(ModelSpec(name="fake"),), **more
        )
        await self.house.models.save(who, draft)

    async def feishu(self, base: str, name: str = "hr-bot", **settings: str) -> None:
        """A Feishu bot whose secrets the fakes know."""
        mode = settings.pop("mode", "webhook")
        secret = settings.pop("app_secret", "app-secret")
        whole = {"app_id": "cli_test", "api_base": base, "access": "open", "stream": "off"} | settings
        secrets = {
            "app_secret": secret,
            "encrypt_key": self.events.encrypt_key,
            "verification_token": self.events.verification_token,
        }
        await self.house.bot_actions.save(
            OWNER, BotDraft(name=name, type="feishu", mode=mode, settings=whole, secrets=secrets)
        )

    async def robot(self, endpoint: str, name: str = "alerts", **secrets: str) -> None:
        """A group robot that only pushes."""
        draft = BotDraft(name=name, type="webhook", mode="push", settings={"endpoint": endpoint}, secrets=secrets)
        await self.house.bot_actions.save(OWNER, draft)

    async def call(self, body: bytes, headers: dict[str, str], name: str = "hr-bot") -> RawResponse:
        """A callback of Feishu."""
        request = RawRequest(
            method="POST",
            path=f"/webhooks/feishu/{name}",
            query={},
            headers={key.lower(): value for key, value in headers.items()},
            body=body,
            ip="203.0.113.9",
        )
        return await self.house.bots.receive("feishu", name, "main", request)

    async def hear(self, text: str = "你好", **more: Any) -> None:
        """A message of a person in Feishu."""
        posted = self.events.message(text, **more)
        assert (await self.call(posted.body, posted.headers)).status == 200

    async def ask(self, text: str = "hello") -> int:
        """A message in the playground; the task's id."""
        if not self._conversation:
            self._conversation = await self.house.chat.create(OWNER)
        accepted = await self.house.chat.send(OWNER, self._conversation, text, client_key=f"k{next(self._keys)}")
        return accepted.job_id

    async def jobs(self) -> list[Any]:
        return list(await self.house.db.read(lambda c: c.execute(select(job_t).order_by(job_t.c.id)).all()))

    async def deliveries(self) -> list[Any]:
        return list(await self.house.db.read(lambda c: c.execute(select(delivery_t).order_by(delivery_t.c.id)).all()))

    async def until(self, ready: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
        """Wait for a state of the ledger."""
        async with asyncio.timeout(seconds):
            while not await ready():
                await asyncio.sleep(0.01)

    async def settled(self, n: int = 1) -> None:
        """Wait until `n` tasks have ended, and what they say has come to an end or been refused once."""

        async def over() -> bool:
            ended = [job for job in await self.jobs() if job.status not in OPEN]
            open_ = [row for row in await self.deliveries() if row.status in ("pending", "sending") and not row.error]
            return len(ended) >= n and not open_

        await self.until(over)
        await self.house.spending.flush()


@asynccontextmanager
async def operating(folder: Path, **settings: Any) -> AsyncIterator[Operating]:
    """A started house in a folder."""
    if not _words:
        _words.append(Words(ROOT / "assets" / "locale"))
    made = settings_in(folder, **settings)
    await asyncio.to_thread(migrate.prepare, made)
    house = House(made, words=_words[0], environ={}, exposure=Exposure(wide=False, how="loopback"))
    try:
        await house.start()
        yield Operating(house)
    finally:
        await house.stop()
        gc.unfreeze()
