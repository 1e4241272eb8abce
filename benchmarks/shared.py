"""How quick jobs are on a shared PostgreSQL: acknowledging, starting, a lane of twenty. `python -m benchmarks.shared`

Processes' worth of parts in one process, on a server of its own without fsync: orders of magnitude, not digits.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from storage import migrate, migrate_shared
from storage.background import Background
from storage.bus import SharedBus
from storage.clock import Clock
from storage.envelope import Inbound, Outgoing, Part
from storage.errors import AppError
from storage.ledger import Ending, JobView, Ledger
from storage.live import Live
from storage.postgres import PostgresDatabase
from storage.runner import Runner, Work
from storage.shared_dispatch import SharedDispatcher
from tests.postgres import cluster

MESSAGES, PER_SECOND, MACHINES = 300, 10, 3


class Timed:
    """Notes when each job began."""

    def __init__(self) -> None:
        self.began: dict[int, float] = {}
        self.takes = 0.0

    async def run(self, work: Work) -> Ending:
        self.began[work.job.id] = time.monotonic()
        await asyncio.sleep(self.takes)
        return Ending(say=(Outgoing(kind="answer", text="ok"),))

    def excuse(self, job: JobView, error: AppError) -> Ending:
        return Ending(status="failed", reason=error.code)


class Machine:
    """The parts of one process."""

    def __init__(self, url: str, timed: Timed) -> None:
        self.db, self.background = PostgresDatabase(url), Background()
        self.bus = SharedBus(self.db.conninfo, self.db.origin, self.background)
        self.ledger = Ledger(self.db, Clock())
        runner = Runner(self.ledger, Live(), {"message": timed})
        self.dispatcher = SharedDispatcher(self.ledger, runner, self.background, self.db, self.bus)
        self.ledger.enlist, self.ledger.on_job = self.dispatcher.enlist, self.dispatcher.submit

    async def start(self) -> Machine:
        await self.bus.start()
        await self.dispatcher.start()
        return self

    async def stop(self) -> None:
        await self.dispatcher.stop(1)
        await self.bus.stop()
        await self.background.stop()
        self.db.close()


def message(n: int, conversation: str) -> Inbound:
    text = (Part(kind="text", text=f"hello {n}"),)
    return Inbound(
        tenant="main", bot="b", channel="feishu", keys=(f"{conversation}-{n}",), vendor_id=str(n),
        conversation=conversation, kind="direct", sender="ou_1", parts=text,
    )  # fmt: skip


def told(name: str, seconds: list[float]) -> None:
    cuts = statistics.quantiles([1000 * s for s in seconds], n=100)
    print(f"{name}: p50 {cuts[49]:.1f} ms, p95 {cuts[94]:.1f} ms, p99 {cuts[98]:.1f} ms")


async def main(url: str) -> None:
    timed = Timed()
    machines = [await Machine(url, timed).start() for _ in range(MACHINES)]
    ledgers = [machine.ledger for machine in machines]
    await asyncio.sleep(2)

    async def until_done(count: int) -> None:
        while len(timed.began) < count or await ledgers[0].open_jobs():
            await asyncio.sleep(0.01)

    acked, sent = [], dict[int, float]()
    for n in range(MESSAGES):
        begin = time.monotonic()
        done = await ledgers[n % MACHINES].accept(message(n, f"c{n % 50}"))
        sent[done.job_id] = time.monotonic()
        acked.append(sent[done.job_id] - begin)
        await asyncio.sleep(max(0.0, 1 / PER_SECOND - (time.monotonic() - begin)))
    await until_done(MESSAGES)
    told(f"acknowledged at {PER_SECOND} a second", acked)
    told("started after that", [max(0.0, timed.began[job] - at) for job, at in sent.items()])

    timed.began.clear()
    begin = time.monotonic()
    await asyncio.gather(*(ledgers[n % MACHINES].accept(message(n, f"burst{n % 100}")) for n in range(1000)))
    print(f"a burst of 1000: acknowledged in {time.monotonic() - begin:.2f} s", flush=True)
    await until_done(1000)
    print(f"  done in {time.monotonic() - begin:.2f} s")

    timed.began.clear()
    timed.takes = 0.05
    begin = time.monotonic()
    for n in range(20):
        await ledgers[n % MACHINES].accept(message(n, "lane"))
    await until_done(20)
    print(f"20 in one lane, 50 ms each (ideal 1.0 s): {time.monotonic() - begin:.2f} s")
    for machine in machines:
        await machine.stop()


if __name__ == "__main__":
    with cluster() as server:
        name = server.database()
        migrate_shared.prepare(server.url(name), migrate.MIGRATIONS, migrate.revisions())
        asyncio.run(main(server.url(name)))
