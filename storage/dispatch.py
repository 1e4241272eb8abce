"""Who runs the next job. `Dispatcher` is the interface; `LocalDispatcher` serves one process on SQLite."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections import deque
from pathlib import Path
from typing import IO, Protocol

from storage.background import Background
from storage.errors import AppError, Conflict
from storage.ledger import JobView, Ledger
from storage.runner import Runner

log = logging.getLogger(__name__)

MOST_RUNNING = 1000
MOST_STARTING = 5
STARTING_SECONDS = 1.0
PAUSES = (0.2, 1.0, 5.0, 15.0, 30.0)


class Dispatcher(Protocol):
    """Runs jobs of one lane one at a time in order, different lanes side by side, fairly across tenants."""

    async def start(self) -> None:
        """Go on with what the ledger has open, then with what is submitted."""
        ...

    def submit(self, job: JobView) -> None:
        """A job has been committed. Returns at once."""
        ...

    async def stop(self, seconds: float) -> None:
        """Claim nothing more; give running jobs `seconds` to end. What does not end is resumed at the next start."""
        ...

    def waiting(self) -> int:
        """Jobs accepted and not yet running."""
        ...


class FolderLock:
    """Held while a process works on a data folder, so that no second one does."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file: IO[str] = path.open("a+")

    def take(self) -> None:
        """Raises `Conflict` with the holder's process id if another process has it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            raise Conflict("data.in_use", pid=self._file.read(20).strip() or "?") from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def free(self) -> bool:
        """True if nobody has it. Takes it for a moment."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return True

    def release(self) -> None:
        self._file.close()


class LocalDispatcher:
    """In-memory lanes rebuilt from the ledger at start. No polling.

    Of a thousand jobs that run nearly all wait for a model. Only `MOST_STARTING` are on their way to it at a time:
    more would not be quicker, but would keep vendors waiting for their acknowledgements.
    """

    def __init__(
        self, ledger: Ledger, runner: Runner, background: Background, *, most_running: int = MOST_RUNNING
    ) -> None:
        self.ledger, self.runner, self.background = ledger, runner, background
        self.most_running = most_running
        self._lanes: dict[str, deque[int]] = {}
        self._busy: set[str] = set()
        self._ready: dict[str, deque[str]] = {}  # tenant -> lanes with work
        self._tenants: deque[str] = deque()
        self._running = 0
        self._starting: set[int] = set()
        runner.on_wait = self._waits
        self._stopping = False

    async def start(self) -> None:
        for job in await self.ledger.open_jobs():
            self.submit(job)

    def submit(self, job: JobView) -> None:
        lane = self._lanes.setdefault(job.lane, deque())
        if job.id in lane:
            return
        lane.append(job.id)
        if len(lane) == 1 and job.lane not in self._busy:
            self._enqueue(job.tenant, job.lane)
        self._fill()

    def waiting(self) -> int:
        return sum(len(lane) for lane in self._lanes.values())

    def _enqueue(self, tenant: str, lane: str) -> None:
        ready = self._ready.setdefault(tenant, deque())
        if not ready:
            self._tenants.append(tenant)
        ready.append(lane)

    def _fill(self) -> None:
        while self._running < self.most_running and self._tenants and not self._stopping:
            if len(self._starting) >= MOST_STARTING:
                return
            tenant = self._tenants.popleft()
            ready = self._ready[tenant]
            lane = ready.popleft()
            if ready:
                self._tenants.append(tenant)  # next tenant first: round robin
            self._running += 1
            self._busy.add(lane)
            self._starting.add(self._lanes[lane][0])
            _ = self.background.spawn(f"lane {lane}", self._drive(tenant, lane))

    async def _drive(self, tenant: str, lane: str) -> None:
        """Run the lane's next job, then give the place back, so that a long lane cannot starve others."""
        jobs = self._lanes[lane]
        job = jobs.popleft()
        late = asyncio.get_running_loop().call_later(STARTING_SECONDS, self._waits, job)
        try:
            await self._run(job)
        finally:
            late.cancel()
            self._starting.discard(job)
            self._running -= 1
            self._busy.discard(lane)
            if jobs:
                self._enqueue(tenant, lane)
            else:
                self._lanes.pop(lane, None)
            self._fill()

    def _waits(self, job: int) -> None:
        """A job waits for something else than us: the next one may start."""
        if job in self._starting:
            self._starting.discard(job)
            self._fill()

    async def _run(self, job: int) -> None:
        for attempt in range(1000):
            task = self.background.spawn(f"job {job}", self.runner.run(job))
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                task.cancel()
                raise
            if task.cancelled():
                return
            error = task.exception()
            if error is None:
                return
            if not isinstance(error, AppError):
                log.error("job %s left open: %r", job, error)
                return
            # the database does not work now: the job stays open and is tried again
            await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])

    async def stop(self, seconds: float) -> None:
        self._stopping = True
        running = list(self.runner.running.values())
        if running and seconds > 0:
            await asyncio.wait(running, timeout=seconds)
