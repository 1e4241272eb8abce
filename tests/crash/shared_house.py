"""Several real processes on one PostgreSQL between fake vendors and a fake model, to be killed one by one."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.crash.kill_house import KillHouse, Question
from tests.postgres import Cluster
from tests.serving import Serving

OPEN = (
    "SELECT (SELECT count(*) FROM job WHERE status IN ('todo', 'doing'))"
    " + (SELECT count(*) FROM delivery WHERE status IN ('pending', 'sending'))"
)
HOME = "SELECT owner FROM lease WHERE name LIKE 'bot:%' AND name <> 'bot:0' ORDER BY name LIMIT 1"


class SharedHouse(KillHouse):
    """As `KillHouse`, with several processes that share a database and a key, each with its own data folder."""

    def __init__(self, folder: Path, cluster: Cluster, *, processes: int = 3, pause: float = 0.0) -> None:
        super().__init__(folder, pause=pause)
        self.cluster, self.processes = cluster, processes
        self.database = cluster.database()
        self.servers: dict[int, Serving] = {}
        self._turn = 0

    async def start_all(self) -> None:
        """Start all of them side by side, on an empty database, with one key."""
        key = self.folder / "master.key"
        key.touch(mode=0o600)
        key.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
        await asyncio.gather(*(self.start_one(n) for n in range(self.processes)))

    async def start_one(self, number: int) -> None:
        """Start one and wait until it is ready."""
        folder = self.folder / f"m{number}"
        if not folder.exists():
            await asyncio.to_thread(shutil.copytree, self.folder / "data", folder / "data")
        server = Serving(
            folder,
            wait=False,
            ZHIXING_ALLOW_LOCAL_VENDORS="1",
            ZHIXING_KEY_FILE=str(self.folder / "master.key"),
            DATABASE_URL=self.cluster.url(self.database),
        )
        await asyncio.to_thread(server.__enter__)
        self.servers[number] = server
        await asyncio.to_thread(server.ready, 60)

    async def kill(self, number: int) -> None:
        """As the kernel does it when memory runs out."""
        server = self.servers.pop(number)
        code = await asyncio.to_thread(server.stop, signal.SIGKILL)
        assert code == -signal.SIGKILL

    def home(self) -> int:
        """The process that holds the first bot's lease."""
        owner = self.look(HOME)[0][0]
        place = self.look(f"SELECT place FROM lease WHERE name = 'process:{owner}'")[0][0]
        pid = int(str(place).rpartition(":")[2])
        return next(n for n, server in self.servers.items() if server.process.pid == pid)

    async def post(self, questions: Sequence[Question], *, renamed: bool = False) -> None:
        """Each to one of the processes in turn, as a load balancer does."""

        servers = list(self.servers.values())
        self._turn += 1
        await asyncio.gather(
            *(
                self.post_to(servers[(n + self._turn) % len(servers)], question, renamed=renamed)
                for n, question in enumerate(questions)
            )
        )

    async def insist(self, questions: Sequence[Question], seconds: float = 60) -> None:
        """Post until all are acknowledged, as vendors do."""
        async with asyncio.timeout(seconds):
            while left := [q for q in questions if q.tag not in self.acknowledged]:
                await self.post(left)
                await asyncio.sleep(0.2)

    async def answered(self, count: int, seconds: float = 60) -> None:
        """Wait until so many questions have an answer."""
        async with asyncio.timeout(seconds):
            while len(self.answers()) < count:
                await asyncio.sleep(0.02)

    async def settled(self, seconds: float = 60) -> float:
        """Wait until nothing is left to do or to send; the seconds that it took."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                while (await asyncio.to_thread(self.look, OPEN))[0][0]:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            jobs = self.look("SELECT id, lane, status, attempts, reason FROM job WHERE status IN ('todo', 'doing')")
            rows = self.look("SELECT id, status, attempts, error FROM delivery WHERE status IN ('pending', 'sending')")
            entries = self.look("SELECT id, status, lock, worker_id FROM procrastinate_jobs")
            leases = self.look("SELECT name, place FROM lease")
            said = "\n".join(server.said[-3000:] for server in self.servers.values())
            raise AssertionError(f"not settled:\n{jobs}\n{rows}\n{entries}\n{leases}\n{said}") from None
        return time.monotonic() - began

    def look(self, query: str, *, dead: bool = False) -> list[tuple[Any, ...]]:
        return self.cluster.sql(self.database, query)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.model.gate.set()
        await asyncio.gather(*(asyncio.to_thread(server.stop) for server in self.servers.values()))
        await super().__aexit__(kind, error, at)
        self.cluster.drop(self.database)
