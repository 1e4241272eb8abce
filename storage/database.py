"""The database: one writer that commits together what waits, readers in threads. PostgreSQL: storage/postgres.py.

Group commit: while one commit is being synced, further writes queue up and share the next one, so full sync
costs a fraction of a sync per write. Each write has its own savepoint; a failing one undoes itself alone.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import QueuePool

from storage.errors import AppError, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_TOGETHER = 64  # more would make what is urgent wait longer than a sync costs
MOST_WAITING = 10_000


class Database(Protocol):
    """What all rooms use. `fn` runs in a thread with a connection in a transaction and must not keep it."""

    dialect: str

    async def write(
        self, fn: Callable[[Connection], T], *, durable: bool = True, urgent: bool = False, shared: bool = False
    ) -> T:
        """Run `fn` and return its result once committed. Where processes share the database it may be run again.

        Args:
            urgent: go before all that waits and is not: a vendor waits for its acknowledgement.
            durable: wait until the commit is on disk. False is for what a crashed machine may repeat:
                the write survives the end of the process, but maybe not a power cut.
            shared: `fn` may run beside writes of other processes, for keys and conditions in its statements guard
                it, and once more if it is not known whether it was committed. Others run one after another.

        Raises:
            Unavailable: disk full, locked or too many waiting; nothing was written.
        """
        ...

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` on a snapshot and return its result. Never waits for the writer."""
        ...

    def close(self) -> None:
        """End threads and connections; what waits is still written."""
        ...


def problem(error: DBAPIError) -> AppError:
    """The typed form of a driver's error."""
    text = str(error.orig).lower()
    if "disk is full" in text or "no space" in text:
        return Unavailable("db.full")
    if "locked" in text or "busy" in text:
        return Unavailable("db.locked")
    if "malformed" in text or "not a database" in text or "disk i/o" in text:
        return Unavailable("db.damaged")
    if "readonly" in text or "unable to open" in text:
        return Unavailable("db.unwritable")
    return Unavailable("db.unreachable")


def sqlite_engine(path: Path, *, size: int = 4, readonly: bool = False) -> Engine:
    """An engine with the pragmas that we rely on. Transactions are begun by us, not by the driver."""
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=5,
        connect_args={"check_same_thread": False, "timeout": 5.0, "cached_statements": 400},
    )

    def on_connect(raw: sqlite3.Connection, _record: object) -> None:
        raw.isolation_level = None
        pragmas = [
            "journal_mode=WAL",
            "synchronous=FULL",
            "busy_timeout=5000",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-8000",
            "journal_size_limit=67108864",
            "mmap_size=0",
            "secure_delete=ON",
        ]
        if readonly:
            pragmas = ["query_only=ON", "busy_timeout=5000", "cache_size=-8000", "mmap_size=0"]
        for pragma in pragmas:
            raw.execute(f"PRAGMA {pragma}")
        # only the writer checkpoints: SQLite < 3.51.3 can damage a WAL that two connections reset
        if readonly:
            raw.execute("PRAGMA wal_autocheckpoint=0")

    begin = "BEGIN" if readonly else "BEGIN IMMEDIATE"
    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", lambda c: c.exec_driver_sql(begin))
    return engine


def new_id(result: Any) -> int:
    """The number that the database gave to an inserted row."""
    return int(result.inserted_primary_key[0])


class _Write:
    __slots__ = ("durable", "fn", "future", "loop")

    def __init__(self, fn: Callable[[Connection], Any], durable: bool) -> None:
        self.fn, self.durable = fn, durable
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()


_AWAKE = object()
"""Stands in the queue for something urgent."""


class SqliteDatabase:
    """SQLite in WAL mode: one writer thread, three reader connections."""

    dialect = "sqlite"

    def __init__(self, path: Path, *, readers: int = 3) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.writer = sqlite_engine(path, size=1)
        self.reader = sqlite_engine(path, size=readers, readonly=True)
        self._inbox: queue.SimpleQueue[_Write | object | None] = queue.SimpleQueue()
        self._urgent: deque[_Write] = deque()
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix="db-read")
        self._closed = False
        self._synchronous = True
        self._thread = threading.Thread(target=self._run, name="db-write", daemon=True)
        self._thread.start()

    async def write(
        self, fn: Callable[[Connection], T], *, durable: bool = True, urgent: bool = False, shared: bool = False
    ) -> T:
        if self._closed or self._inbox.qsize() > MOST_WAITING:
            raise Unavailable("db.busy")
        item = _Write(fn, durable)
        if urgent:
            self._urgent.append(item)
        self._inbox.put(_AWAKE if urgent else item)
        result: T = await item.future
        return result

    async def read(self, fn: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, fn)

    def _read(self, fn: Callable[[Connection], T]) -> T:
        try:
            with self.reader.connect() as connection, connection.begin():
                return fn(connection)
        except (OperationalError, InterfaceError) as error:
            raise problem(error) from error

    def _run(self) -> None:
        with self.writer.connect() as connection:
            last = False
            while not last:
                batch, last = self._batch()
                if batch:
                    self._together(connection, batch)

    def _batch(self) -> tuple[list[_Write], bool]:
        """Wait for work. What is to be committed together, the urgent first, and whether it is the last."""
        batch: list[_Write] = []
        item = self._inbox.get()
        while True:
            while self._urgent and len(batch) < MOST_TOGETHER:
                batch.append(self._urgent.popleft())
            if item is None:
                return [*batch, *self._urgent], True
            if isinstance(item, _Write):
                batch.append(item)
            if len(batch) >= MOST_TOGETHER or self._inbox.empty():
                return batch, False
            item = self._inbox.get()

    def _together(self, connection: Connection, batch: list[_Write]) -> None:
        done: list[tuple[_Write, Any, BaseException | None]] = []
        try:
            durable = any(item.durable for item in batch)
            raw: Any = connection.connection.driver_connection
            if durable != self._synchronous:
                raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._synchronous = durable
            with connection.begin():
                for item in batch:
                    if item.future.cancelled():
                        continue
                    raw.execute("SAVEPOINT one")  # by the driver: a nested transaction costs a fifth of a message
                    try:
                        result = item.fn(connection)
                        done.append((item, result, None))
                    except Exception as error:
                        if not raw.in_transaction:  # a full disk ended it, with all that the batch had done
                            known = isinstance(error, (DBAPIError, sqlite3.Error))
                            raise error if known else sqlite3.OperationalError("transaction ended") from error
                        raw.execute("ROLLBACK TO one")
                        typed = problem(error) if isinstance(error, (OperationalError, InterfaceError)) else error
                        done.append((item, None, typed))
                    raw.execute("RELEASE one")
        except (DBAPIError, sqlite3.Error) as error:
            log.exception("commit failed")
            whole = problem(error) if isinstance(error, DBAPIError) else Unavailable("db.unreachable")
            done = [(item, None, whole) for item in batch]
        for loop in {item.loop for item, _, _ in done}:
            mine = [entry for entry in done if entry[0].loop is loop]
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, mine)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._inbox.put(None)
        self._thread.join(timeout=10)
        self._pool.shutdown(wait=True)
        self.writer.dispose()
        self.reader.dispose()


def _resolve(done: list[tuple[_Write, Any, BaseException | None]]) -> None:
    for item, result, error in done:
        if item.future.done():
            continue
        if error is not None:
            item.future.set_exception(error)
        else:
            item.future.set_result(result)
