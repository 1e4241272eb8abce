"""Shows answers at the vendors while they are written: tells a bot when one of its jobs begins and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from sqlalchemy import Connection, select

from storage.background import Background
from storage.database import Database
from storage.jobs import JobView
from storage.ledger import conversation_t, job_t
from storage.live import Live, LiveEvent


@runtime_checkable
class Streams(Protocol):
    """A bot that can show an answer while it is written."""

    @property
    def streams(self) -> bool:
        """True if it is set up for that."""
        ...

    def begin(self, job: int, address: str, text: Callable[[], str]) -> None:
        """A job of this bot has begun; `text` tells what is there so far. Returns at once."""
        ...

    async def abandon(self, job: int) -> None:
        """The job ended and will say nothing. What a job says comes by `Channel.send`, with the key `<job>-0`.

        A bot may also have `rest(job)`: the job waits for a person, perhaps for hours. What is shown is to stand still
        until the job begins again or is answered. Without it the job is abandoned meanwhile.
        """
        ...


class Streaming:
    """Watches what happens and tells the bots.

    Args:
        find: the running bot of a tenant by name, or None.
        any_streams: False while no bot at all shows answers so; then jobs cost nothing here.
    """

    def __init__(
        self,
        db: Database,
        live: Live,
        background: Background,
        find: Callable[[str, str], object | None],
        any_streams: Callable[[], bool] = lambda: True,
    ) -> None:
        self.db, self.live, self.background, self.find, self.any_streams = db, live, background, find, any_streams
        self._shown: dict[int, Streams] = {}
        self._running: set[int] = set()
        self._told: set[int] = set()
        self._stop: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to watch."""
        self._stop = self.live.watch(None, self._on_event)

    def stop(self) -> None:
        """Watch no more."""
        self._stop()

    def _on_event(self, event: LiveEvent) -> None:
        if event.job is None:
            return
        if event.kind == "job.started" and event.job in self._told:
            self._told.discard(event.job)
        elif event.kind == "job.started" and self.any_streams():
            self._running.add(event.job)
            _ = self.background.spawn(f"show {event.job}", self._begin(event.job))
        elif event.kind == "job.waiting":
            bot = self._shown.get(event.job)
            if bot is not None:
                rest = getattr(bot, "rest", bot.abandon)
                _ = self.background.spawn(f"rest {event.job}", rest(event.job))
        elif event.kind == "job.ended":
            self._running.discard(event.job)
            bot = self._shown.pop(event.job, None)
            if bot is not None and not event.data.get("message_ids"):
                _ = self.background.spawn(f"abandon {event.job}", bot.abandon(event.job))

    def begun(self, job: JobView) -> None:
        """A job begins in this process: nothing has to be looked up for the event that follows."""
        self._told.add(job.id)
        if job.kind == "message" and self.any_streams():
            self._running.add(job.id)
            self._show(job.id, job.tenant, job.bot, job.address)

    def _show(self, job: int, tenant: str, name: str, address: str) -> None:
        bot = self.find(tenant, name)
        if isinstance(bot, Streams) and bot.streams:
            self._shown[job] = bot
            bot.begin(job, address, lambda: self.live.text_so_far(job))

    async def _begin(self, job: int) -> None:
        def fn(c: Connection) -> tuple[str, str, str] | None:
            query = (
                select(job_t.c.tenant, job_t.c.bot, job_t.c.address, conversation_t.c.address.label("newest"))
                .join(conversation_t, conversation_t.c.id == job_t.c.conversation_id)
                .where(job_t.c.id == job, job_t.c.kind == "message")  # a run of a schedule is told when it is over
            )
            row = c.execute(query).first()
            return None if row is None else (row.tenant, row.bot, row.address or row.newest)

        found = await self.db.read(fn)
        if found is None or job not in self._running:
            return  # it ended before we looked: its answer goes out whole
        self._show(job, *found)
