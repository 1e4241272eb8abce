"""The product as a real process between a vendor and a model, both processes of their own."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from benchmarks.parts.client import Client, post
from storage.settings import ROOT
from tests.fakes.feishu_events import FeishuEvents, Posted
from tests.serving import Serving

BOT = "hr-bot"
PATH = f"/webhooks/feishu/{BOT}"
CHANNELS = """channels:
  - name: {bot}
    type: feishu
    mode: webhook
    app_id: cli_test
    app_secret: app-secret
    encrypt_key: {events.encrypt_key}
    verification_token: {events.verification_token}
    api_base: {vendor}
    access: open
"""
LLM = """providers:
  - name: fake
    type: openai
    endpoint: {model}/v1
    api_key: sk-benchmark
    models: [fake]
    timeout: 120
"""


@contextmanager
def process(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A Python module as a process; gives the first line that it prints."""
    with subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, cwd=ROOT) as running:
        try:
            assert running.stdout is not None
            yield running, running.stdout.readline().strip()
        finally:
            running.terminate()


def port_of(line: str) -> int:
    """The port in `listening on http://127.0.0.1:<port> …`."""
    found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
    if found is None:
        raise RuntimeError(f"did not start: {line!r}")
    return int(found[1])


@dataclass
class News:
    """What the vendor tells: for each message answered, when its answer was there."""

    at: dict[str, float] = field(default_factory=dict)
    _waits: dict[str, asyncio.Future[float]] = field(default_factory=dict)

    async def listen(self, port: int) -> None:
        """Hear until cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while line := await reader.readline():
                to, at = line.decode().split()
                self.at.setdefault(to, float(at))
                if (wait := self._waits.pop(to, None)) is not None and not wait.done():
                    wait.set_result(float(at))
        finally:
            writer.close()

    async def answered(self, message: str, seconds: float = 120.0) -> float:
        """Wait for the answer to a message; the time at which the vendor had it whole."""
        if message in self.at:
            return self.at[message]
        wait: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waits[message] = wait
        async with asyncio.timeout(seconds):
            return await wait


class Stand:
    """`async with Stand(folder, model_port=…, embedder="off") as stand`: started, provisioned, connected."""

    def __init__(
        self, folder: Path, *, model_port: int, embedder: str, command: Sequence[str] = (), faults: float = 0.0
    ) -> None:
        self.folder, self.events, self.news = folder, FeishuEvents(), News()
        self._vendor = process("benchmarks.parts.vendor", "--faults", str(faults))
        settings = {"ZHIXING_EMBEDDER": embedder, "ZHIXING_ALLOW_LOCAL_VENDORS": "1"}
        prefix = {"command": list(command)} if command else {}
        self._model_port = model_port
        self._make: Callable[[], Serving] = lambda: Serving(folder, **prefix, **settings)  # type: ignore[arg-type]

    async def __aenter__(self) -> Self:
        _, line = self._vendor.__enter__()
        vendor, news = f"http://127.0.0.1:{port_of(line)}", int(line.rsplit(" ", 1)[1])
        config = self.folder / "data" / "config"
        config.mkdir(parents=True)
        (config / "channels.yaml").write_text(CHANNELS.format(bot=BOT, events=self.events, vendor=vendor))
        (config / "llm.yaml").write_text(LLM.format(model=f"http://127.0.0.1:{self._model_port}"))
        self.server = self._make()
        try:
            await asyncio.to_thread(self.server.__enter__)
        except BaseException:
            await asyncio.to_thread(self.server.stop)
            self._vendor.__exit__(None, None, None)
            raise
        self.client = Client(self.server.port)
        self._listening = asyncio.create_task(self.news.listen(news))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.cancel()
        await self.client.__aexit__()
        await asyncio.to_thread(self.server.stop)
        self._vendor.__exit__(None, None, None)

    # ---- messages

    def event(self, person: str, text: str) -> tuple[Posted, bytes]:
        """A signed and encrypted event and its whole request."""
        posted = self.events.message(text, person=person)
        return posted, post(PATH, posted.body, posted.headers)

    async def ask(self, person: str, text: str) -> tuple[float, float]:
        """One message through the whole way: ms to the acknowledgement, time at which its answer was at the vendor."""
        posted, raw = self.event(person, text)
        status, took = await self.client.send(raw)
        if status != 200:
            raise RuntimeError(f"a signed event was answered {status}")
        return took, await self.news.answered(posted.message_id)

    # ---- what is seen from beside

    def resident(self) -> float:
        """Resident memory of the product in MB."""
        taken: int = psutil.Process(self.server.process.pid).memory_info().rss
        return taken / 1e6

    def processor(self) -> float:
        """Seconds of processor time that the product has used."""
        times = psutil.Process(self.server.process.pid).cpu_times()
        return float(times.user + times.system)

    def rows(self, query: str, *values: object) -> list[tuple[float, ...]]:
        """Ask the product's database, reading only."""
        db = sqlite3.connect(f"file:{self.folder / 'data' / 'db' / 'zhixing.db'}?mode=ro", uri=True)
        try:
            return db.execute(query, values).fetchall()
        finally:
            db.close()

    async def until(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Look now and then until something is so. False where it is not in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            if await asyncio.to_thread(ready):
                return True
            await asyncio.sleep(0.2)
        return False
