"""Runs jobs: claim, recorded steps, one ending. The only execution path, whichever dispatcher calls it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from storage.errors import AppError, Conflict, Lost, Unavailable
from storage.ledger import Ending, JobView, Ledger
from storage.live import Live, LiveEvent

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
DEADLINE = 600.0
OUTSIDE = ("model", "tool")

StepListener = Callable[[str, str, str, int], None]
"""Told of a step that was done just now: name, kind, result, ms. Must not block or raise."""


class Interrupted(Conflict):
    """A step that must not be repeated was cut off by a crash; a person has to say what to do."""

    def __init__(self, name: str, request: str) -> None:
        super().__init__("step.interrupted", name=name)
        self.name, self.request = name, request


class Waits(Exception):
    """The job waits for a person's word and was given back. It goes on when somebody has decided."""


class Work:
    """A claimed job, as its handler sees it: the job and its recorded steps.

    `outside_ms` is the time that this attempt, which began at `begun_at`, spent in models and tools.
    """

    def __init__(
        self, ledger: Ledger, live: Live, job: JobView, on_wait: Callable[[int], None] = lambda job: None
    ) -> None:
        self.ledger, self.live, self.job, self._on_wait = ledger, live, job, on_wait
        self._recorded = {step.n: step for step in job.steps}
        self._n = 0
        self.outside_ms, self.begun_at = 0, ledger.clock.ms()
        self.on_step: Sequence[StepListener] = ()

    @property
    def resumed(self) -> bool:
        """True if an earlier attempt has recorded steps."""
        return bool(self._recorded)

    async def step(
        self, name: str, kind: str, fn: Callable[[], Awaitable[str]], *, request: str = "", repeatable: bool = True
    ) -> str:
        """Run `fn` once and keep its result: a resumed job gets the recorded result and `fn` is not called.

        Args:
            kind: `recall`, `model`, `tool`, `plan`.
            fn: returns the result as text (JSON). What it raises is not recorded.
            repeatable: False records the start on disk first; if the process ends before the result is recorded,
                the step is not run again and `Interrupted` is raised instead.

        Raises:
            Interrupted: see `repeatable`.
            Lost: another attempt holds the job.
        """
        self._n += 1
        n, old = self._n, self._recorded.get(self._n)
        if old is not None and old.name == name and old.status == "done":
            return old.result
        if old is not None and old.name == name and old.status == "started" and not repeatable:
            raise Interrupted(name, old.request)
        started = self.ledger.clock.ms()
        if not repeatable:
            await self.ledger.start_step(self.job, n, name, kind, request)
            self.ledger.crash.reached("tool.before")
        if kind == "model":
            self._on_wait(self.job.id)
        try:
            result = await fn()
        finally:
            took = max(0, self.ledger.clock.ms() - started)
            if kind in OUTSIDE:
                self.outside_ms += took
        for listener in self.on_step:
            listener(name, kind, result, took)
        if kind == "tool":
            self.ledger.crash.reached("tool.after")
        elif kind == "model":
            self.ledger.crash.reached("model.answered")
        await self.ledger.record_step(self.job, n, name, kind, request, result, started, durable=not repeatable)
        return result

    @property
    def coming(self) -> tuple[int, str]:
        """Number of the next step, and its kind if an earlier attempt has begun it already."""
        old = self._recorded.get(self._n + 1)
        return self._n + 1, "" if old is None else old.kind

    async def decision(self, find: Callable[[int], Awaitable[tuple[str, int]]]) -> str:
        """A person's word about what comes next, as a step: kept once it was given.

        Args:
            find: the word, and when it was asked for (ms). Raises `Waits` while there is none.
        """
        n, kind = self.coming
        self._n = n
        if kind == "approval":
            return self._recorded[n].result
        word, asked_at = await find(n)
        self.outside_ms += max(0, self.ledger.clock.ms() - asked_at)
        await self.ledger.record_step(self.job, n, "approval", "approval", "", word, asked_at)
        return word

    def tell(self, kind: str, **data: object) -> None:
        """Publish to whoever watches the conversation."""
        if self.job.conversation_id is not None:
            self.live.publish(LiveEvent(conversation=self.job.conversation_id, job=self.job.id, kind=kind, data=data))


class Handler(Protocol):
    """Does the work of one kind of job."""

    async def run(self, work: Work) -> Ending:
        """Do it and return its ending. Raise `AppError` to end it as failed with that reason."""
        ...

    def excuse(self, job: JobView, error: AppError) -> Ending:
        """The ending when `run` raised, or was given up: what the sender is told."""
        ...


class Runner:
    """Claims and runs single jobs; a dispatcher decides which and when.

    `stop_elsewhere` is asked where a job to be stopped does not run in this process.
    `on_wait` is told of a job that begins to wait for a model, `on_ended` and `on_work` of one that ended (the latter
    with what its attempt did), `on_step` of each step done.
    """

    def __init__(
        self, ledger: Ledger, live: Live, handlers: Mapping[str, Handler], *, deadline: float = DEADLINE
    ) -> None:
        self.ledger, self.live, self.handlers, self.deadline = ledger, live, dict(handlers), deadline
        self.running: dict[int, asyncio.Task[object]] = {}
        self.on_wait: Callable[[int], None] = lambda job: None
        self.on_started: list[Callable[[JobView], None]] = []
        self.stop_elsewhere: Callable[[int], None] = lambda job: None
        self.on_ended: list[Callable[[JobView, Ending], None]] = []
        self.on_work: list[Callable[[Work, Ending], None]] = []
        self.on_step: list[StepListener] = []

    async def run(self, job_id: int) -> None:
        """Run one job to its ending, or return if somebody else holds it.

        Raises:
            Unavailable: the database does not work now; the job stays open and is to be run again.
        """
        job = await self.ledger.claim(job_id)
        if job is None:
            return
        task = asyncio.current_task()
        if task is not None:
            self.running[job.id] = task
        work = Work(self.ledger, self.live, job, self.on_wait)
        work.on_step = self.on_step
        for begun in self.on_started:
            begun(job)
        work.tell("job.started")
        try:
            ending = await self._ending(work)
            finished = await self.ledger.finish(job, ending)
            work.tell("job.ended", status=ending.status, reason=ending.reason, message_ids=list(finished.message_ids))
            for listener in self.on_ended:
                listener(job, ending)
            for told in self.on_work:
                told(work, ending)
        except Waits:
            work.tell("job.waiting")
        except Lost:
            log.info("job %s was taken over or cancelled", job.id)
            work.tell("job.ended", status="cancelled", reason="job.cancelled", message_ids=[])
        finally:
            self.running.pop(job.id, None)

    async def _ending(self, work: Work) -> Ending:
        job = work.job
        handler = self.handlers.get(job.kind)
        if handler is None:
            return Ending(status="failed", reason="job.no_handler", detail=job.kind)
        if job.attempts > MOST_ATTEMPTS:
            return handler.excuse(job, Conflict("job.gave_up", attempts=job.attempts - 1))
        deadline = float(getattr(handler, "deadline", self.deadline))  # some work has longer limits of its own
        try:
            async with asyncio.timeout(deadline):
                return await handler.run(work)
        except (Lost, Waits):
            raise
        except TimeoutError:
            return handler.excuse(job, Unavailable("job.deadline", seconds=int(deadline)))
        except AppError as error:
            if error.code.startswith("db."):
                raise
            return handler.excuse(job, error)
        except Exception as error:
            log.exception("job %s failed", job.id)
            return handler.excuse(job, AppError("job.defect", error=type(error).__name__))

    def stop(self, job_id: int) -> bool:
        """Cancel a job's running attempt in this process. The ledger must have ended it first."""
        task = self.running.get(job_id)
        if task is None:
            self.stop_elsewhere(job_id)
        return bool(task and task.cancel())
