"""Who runs the next job where several processes share a PostgreSQL database: procrastinate.

The ledger stays the truth. A queue entry says only that a lane has work: it is written in the transaction of the job,
its lock makes the lane run in one process at a time, and whoever fetches it does all that the lane has. Entries of a
process whose heartbeat stopped are replaced, and a lane that has work but no entry gets one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, and_, func, select, text

from storage.background import Background
from storage.bus import Bus
from storage.dispatch import MOST_STARTING, PAUSES, STARTING_SECONDS
from storage.errors import AppError
from storage.ledger import OPEN, JobView, Ledger, job_t
from storage.postgres import LOCK_RESCUE, PostgresDatabase
from storage.runner import Runner

if TYPE_CHECKING:
    import procrastinate

log = logging.getLogger(__name__)
T = TypeVar("T")

QUEUE, TASK = "zhixing", "lane"
MOST_RUNNING = 250  # in each process; more processes run more
MOST_COUNTED = 1_000
BEAT, DEAD, LOOK, POLL = 2.0, 7.0, 2.0, 1.0
GONE = "not found"  # of an entry that was replaced

# the more a tenant has waiting, the later its next job: others come in between
_ENLIST = text(
    "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(:queue, :task,"
    " -(SELECT count(*)::int FROM (SELECT 1 FROM job WHERE status = 'todo' AND tenant = :tenant LIMIT :most) AS more),"
    " :lane, NULL, CAST(:args AS jsonb), NULL)::procrastinate_job_to_defer_v1])"
)
# entries that nobody works on: their process is dead, or has given them up
_DROP = text(
    "DELETE FROM procrastinate_jobs AS entry WHERE queue_name = :queue AND status = 'doing' AND NOT EXISTS"
    " (SELECT 1 FROM procrastinate_workers AS worker WHERE worker.id = entry.worker_id"
    " AND worker.last_heartbeat >= now() - make_interval(secs => :dead)) RETURNING lock"
)
_LEFT = text(
    "SELECT DISTINCT lane, tenant FROM job WHERE status IN ('todo', 'doing') AND NOT EXISTS"
    " (SELECT 1 FROM procrastinate_jobs AS entry WHERE entry.lock = job.lane AND queue_name = :queue"
    " AND entry.status IN ('todo', 'doing')) LIMIT :most"
)
_UP = text("SELECT now() - pg_postmaster_start_time() > make_interval(secs => :seconds)")
_OLDEST = select(job_t.c.id).where(job_t.c.status.in_(OPEN)).order_by(job_t.c.id).limit(1)


def enlist(c: Connection, tenant: str, lane: str) -> None:
    """Write a queue entry for a lane."""
    args = json.dumps({"lane": lane})
    values = {"queue": QUEUE, "task": TASK, "tenant": tenant, "lane": lane, "args": args, "most": MOST_COUNTED}
    c.execute(_ENLIST, values)


async def patiently(call: Callable[[], Awaitable[T]], stopping: Callable[[], bool]) -> T:
    """Repeat a call of the queue while the database is away: its worker would end, and with it what it runs."""
    from procrastinate.exceptions import ConnectorException, UniqueViolation

    while True:
        try:
            return await call()
        except UniqueViolation:
            raise
        except ConnectorException as error:
            if stopping() or GONE in str(error.__cause__):
                raise
            log.warning("the queue waits for the database: %r", error.__cause__)
        await asyncio.sleep(POLL / 2)


def connector(conninfo: str, stopping: Callable[[], bool]) -> Any:
    """procrastinate's connector, patient, and calm where another process was first."""
    import procrastinate
    from procrastinate.exceptions import ConnectorException, UniqueViolation

    class Patient(procrastinate.PsycopgConnector):
        async def execute_query_async(self, query: Any, **arguments: Any) -> None:
            call = super().execute_query_async
            try:
                await patiently(lambda: call(query, **arguments), stopping)
            except ConnectorException as error:
                if GONE not in str(error.__cause__):
                    raise
                log.info("an entry of the queue was taken over meanwhile")

        async def execute_query_one_async(self, query: Any, **arguments: Any) -> dict[str, Any]:
            call = super().execute_query_one_async
            try:
                return await patiently(lambda: call(query, **arguments), stopping)
            except UniqueViolation:
                if "fetch_job" not in str(query):
                    raise
                return {"id": None}  # another process was first on this lane: look again

        async def execute_query_all_async(self, query: Any, **arguments: Any) -> list[dict[str, Any]]:
            call = super().execute_query_all_async
            return await patiently(lambda: call(query, **arguments), stopping)

        async def listen_notify(self, on_notification: Any, channels: Any) -> None:
            call = super().listen_notify
            await patiently(lambda: call(on_notification, channels), stopping)

    return Patient(conninfo=conninfo, min_size=1, max_size=4, timeout=5, kwargs={"application_name": "zhixing queue"})


class SharedDispatcher:
    """Implements `Dispatcher` in each of the processes. Tie `enlist` to the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        runner: Runner,
        background: Background,
        db: PostgresDatabase,
        bus: Bus,
        *,
        most_running: int = MOST_RUNNING,
        dead: float = DEAD,
    ) -> None:
        self.ledger, self.runner, self.background, self.db, self.bus = ledger, runner, background, db, bus
        self.most_running, self.dead = most_running, dead
        self._stopping = False
        self._waiting = 0
        self._jobs: dict[int, asyncio.Task[None]] = {}
        self._busy: dict[str, asyncio.Event] = {}
        self._enlisted: set[int] = set()
        self._starting = asyncio.Semaphore(MOST_STARTING)
        self._on_way: set[int] = set()
        self._tasks: list[asyncio.Task[None]] = []
        runner.on_wait = self._waits
        runner.stop_elsewhere = lambda job: bus.tell("stop", job=job)
        bus.hear("stop", lambda data: self._stop_here(int(data["job"])))

    def enlist(self, c: Connection, job: JobView) -> None:
        """Write the queue entry of a new job, in its transaction."""
        enlist(c, job.tenant, job.lane)
        self._enlisted.add(job.id)

    async def start(self) -> None:
        await self._rescue()
        self._tasks = [self.background.spawn("queue", self._work()), self.background.spawn("rescue", self._look())]

    def submit(self, job: JobView) -> None:
        """A job has been committed. If its entry was too, the database has told all processes."""
        if job.id in self._enlisted:
            self._enlisted.discard(job.id)
        else:
            _ = self.background.spawn(f"enlist {job.id}", self._again(job.tenant, job.lane))

    async def _again(self, tenant: str, lane: str) -> None:
        """A job goes on that had stood still."""
        await self.db.write(lambda c: enlist(c, tenant, lane), shared=True)

    def waiting(self) -> int:
        return self._waiting

    async def stop(self, seconds: float) -> None:
        self._stopping = True
        running = list(self.runner.running.values())
        if running and seconds > 0:
            await asyncio.wait(running, timeout=seconds)
        for task in [*self._jobs.values(), *self._tasks]:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    # ---- the queue

    async def _work(self) -> None:
        """procrastinate's worker, begun anew whatever ends it."""
        import procrastinate

        while not self._stopping:
            app = procrastinate.App(connector=connector(self.db.conninfo, lambda: self._stopping))
            app.task(name=TASK, queue=QUEUE)(self._lane)
            try:
                async with app.open_async():
                    await self._worker(app)
            except procrastinate.exceptions.ProcrastinateException as error:
                log.warning("the queue's worker ended: %r", error)
            await asyncio.sleep(POLL)

    async def _worker(self, app: procrastinate.App) -> None:
        await app.run_worker_async(
            queues=[QUEUE],
            concurrency=self.most_running,
            install_signal_handlers=False,
            update_heartbeat_interval=BEAT,
            stalled_worker_timeout=86_400,
            shutdown_graceful_timeout=1,
            delete_jobs="always",
            fetch_job_polling_interval=POLL,
        )

    async def _lane(self, lane: str) -> None:
        """Do all that a lane has, one after another."""
        while lane in self._busy:  # its entry was replaced while this process was slow, but it goes on here
            await self._busy[lane].wait()
        over = self._busy[lane] = asyncio.Event()
        last = 0
        try:
            while not self._stopping:
                job = await self._oldest(lane)
                if job is None or job == last:
                    return  # `last` is held by another process
                await self._run(job)
                last = job
                if len(self._busy) >= self.most_running:
                    return  # others wait for a place; the lane's next entry goes on
        finally:
            del self._busy[lane]
            over.set()

    async def _oldest(self, lane: str) -> int | None:
        for pause in (*PAUSES, None):
            try:
                found = await self.db.read(lambda c: c.execute(_OLDEST.where(job_t.c.lane == lane)).scalar())
            except AppError:
                if pause is None:
                    raise
                await asyncio.sleep(pause)
            else:
                return None if found is None else int(found)
        return None

    async def _run(self, job: int) -> None:
        """Run a job, or wait for it where it runs in this process already: a worker that ends leaves it running."""
        task = self._jobs.get(job)
        if task is None:
            task = self._jobs[job] = self.background.spawn(f"job {job}", self._attempts(job))
            task.add_done_callback(lambda _: self._jobs.pop(job, None))
        await asyncio.wait([task])

    async def _attempts(self, job: int) -> None:
        await self._starting.acquire()
        self._on_way.add(job)
        late = asyncio.get_running_loop().call_later(STARTING_SECONDS, self._waits, job)
        try:
            for pause in PAUSES:
                try:
                    return await self.runner.run(job)
                except AppError as error:
                    # the database does not work now: the job stays open and is tried again
                    log.warning("job %s waits: %s", job, error)
                    await asyncio.sleep(pause)
            log.error("job %s left open", job)
        finally:
            late.cancel()
            self._waits(job)

    def _waits(self, job: int) -> None:
        """A job waits for something else than us: the next one may start."""
        if job in self._on_way:
            self._on_way.discard(job)
            self._starting.release()

    def _stop_here(self, job: int) -> None:
        if job in self.runner.running:
            _ = self.runner.stop(job)

    # ---- rescue

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self._rescue()
            except AppError as error:
                log.warning("nobody is rescued now: %s", error)

    async def _rescue(self) -> None:
        """Not a job of the queue: a process killed inside it would keep its lock."""
        lanes = await self.db.write(self._give_back, durable=False, shared=True)
        if lanes:
            log.warning("%s conversations were taken over from a process that is gone", lanes)
        todo = and_(job_t.c.status == "todo")
        self._waiting = await self.db.read(
            lambda c: int(c.execute(select(func.count()).select_from(job_t).where(todo)).scalar_one())
        )

    def _give_back(self, c: Connection) -> int:
        if not c.execute(text(f"SELECT pg_try_advisory_xact_lock({LOCK_RESCUE})")).scalar():
            return 0  # another process looks
        gone: set[str] = set()
        if c.execute(_UP, {"seconds": self.dead + BEAT}).scalar():  # else nobody could send a heartbeat
            gone = {str(row.lock) for row in c.execute(_DROP, {"queue": QUEUE, "dead": self.dead})}
        for row in c.execute(_LEFT, {"queue": QUEUE, "most": MOST_COUNTED}).all():
            enlist(c, row.tenant, row.lane)
        return len(gone)
