"""PostgreSQL behind the same interface as SQLite: several processes, each with a few connections and threads.

What SQLite gives by having one writer, an advisory lock gives here: writes run one after another across all
processes, unless they say that they guard themselves (`shared`). PostgreSQL syncs commits together by itself.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from storage.database import MOST_WAITING
from storage.errors import AppError, Invalid, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

LOCK_WRITE, LOCK_SCHEMA, LOCK_RESCUE = 0x7A68_0001, 0x7A68_0002, 0x7A68_0003
MOST_COLLISIONS = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
# seconds for which a call outlasts a database that is away: a vendor waits for what is urgent and asks again itself
URGENT_PATIENCE, SHARED_PATIENCE, PATIENCE = 1.5, 25.0, 4.0

# what a frozen process holds must not stop the others for long; what is unreachable must be noticed soon
OPTIONS = "-c idle_in_transaction_session_timeout=10000 -c lock_timeout=10000 -c statement_timeout=120000"
CONNECT = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "zhixing",
}

COLLIDED = ("40001", "40P01")
UNIQUE = "23505"
AWAY = ("08", "57P")  # classes: connection, the server is told to stop or begins
CODES = {
    "53100": "db.full",
    "53200": "db.busy",
    "53300": "db.busy",
    "55P03": "db.locked",
    "57014": "db.slow",
    "25006": "db.unwritable",
}


def address(text: str) -> URL:
    """The address from the settings, for SQLAlchemy.

    Raises:
        Invalid: `start.database_url`; it may hold a password, so nothing of it is shown.
    """
    try:
        url = make_url(text.strip())
    except ArgumentError:
        url = None
    if url is None or url.drivername.partition("+")[0] not in ("postgresql", "postgres") or not url.database:
        raise Invalid("start.database_url", field="DATABASE_URL")
    return url.set(drivername="postgresql+psycopg")


def conninfo(url: URL) -> str:
    """The same for the driver itself."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def engine_for(url: URL, size: int, origin: str = "", **more: Any) -> Engine:
    """An engine whose connections say who they are.

    Args:
        origin: the process's id; triggers name it when they tell the others of changed rows.

    Raises:
        Unavailable: `start.no_postgres_driver`.
    """
    options = f"{OPTIONS} -c zhixing.origin={origin}" if origin else OPTIONS
    try:
        engine = create_engine(
            url,
            pool_size=size,
            max_overflow=0,
            pool_timeout=10,
            connect_args={**CONNECT, "options": options},
            **more,
        )
        event.listen(engine, "connect", _on_connect)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise Unavailable("start.no_postgres_driver") from error
    return engine


def _on_connect(raw: Any, _record: object) -> None:
    raw.adapters.register_dumper(str, _dumper())


def _dumper() -> Any:
    """PostgreSQL's texts cannot hold a zero character; people and vendors can send one."""
    global _made
    if _made is None:
        from psycopg.types.string import StrDumperUnknown

        class Clean(StrDumperUnknown):
            def dump(self, obj: str) -> Any:
                return super().dump(obj.replace("\x00", "\ufffd") if "\x00" in obj else obj)

        _made = Clean
    return _made


_made: Any = None


def state_of(error: DBAPIError) -> str:
    """PostgreSQL's five-character code; empty where the server could not tell."""
    return str(getattr(error.orig, "sqlstate", None) or "")


def away(error: DBAPIError) -> bool:
    """True if the database is not there now, and may be soon."""
    state = state_of(error)
    if state:
        return state.startswith(AWAY) or state == "25P03"
    return error.connection_invalidated or type(error.orig).__name__ in ("OperationalError", "InterfaceError")


def problem(error: DBAPIError) -> AppError | None:
    """The typed form of a driver's error; None for what is a defect of the statement."""
    if away(error):
        return Unavailable("db.unreachable")
    code = CODES.get(state_of(error))
    if code is None and state_of(error) in COLLIDED:
        code = "db.locked"
    return None if code is None else Unavailable(code)


class PostgresDatabase:
    """Threads for what is urgent, for other writes and for reads, each with its connection.

    Attributes:
        origin: this process's id among those that share the database, another one at each start.
    """

    dialect = "postgresql"

    def __init__(self, url: str, *, writers: int = 4, urgent: int = 2, readers: int = 4) -> None:
        self.url = address(url)
        self.origin = secrets.token_hex(6)
        self.writer = engine_for(self.url, writers + urgent, self.origin)
        self.reader = engine_for(
            self.url,
            readers,
            self.origin,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
        )
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="db-write")
        self._urgent = ThreadPoolExecutor(urgent, thread_name_prefix="db-urgent")
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="db-read")
        self._waiting = 0
        self._closed = False

    @property
    def conninfo(self) -> str:
        """The address for the driver, password included."""
        return conninfo(self.url)

    async def write(
        self, fn: Callable[[Connection], T], *, durable: bool = True, urgent: bool = False, shared: bool = False
    ) -> T:
        if self._closed or self._waiting > MOST_WAITING:
            raise Unavailable("db.busy")
        patience = URGENT_PATIENCE if urgent else SHARED_PATIENCE if shared else PATIENCE
        pool = self._urgent if urgent else self._writers
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                pool, self._write, fn, durable, shared, time.monotonic() + patience
            )
        finally:
            self._waiting -= 1

    async def read(self, fn: Callable[[Connection], T]) -> T:
        if self._closed:
            raise Unavailable("db.busy")
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, self._read, fn, time.monotonic() + PATIENCE
        )

    def _read(self, fn: Callable[[Connection], T], until: float) -> T:
        pause = FIRST_PAUSE
        while True:
            try:
                with self.reader.connect() as connection, connection.begin():
                    return fn(connection)
            except DBAPIError as error:
                pause = self._again(error, until, pause)

    def _write(self, fn: Callable[[Connection], T], durable: bool, shared: bool, until: float) -> T:
        pause, collisions = FIRST_PAUSE, 0
        while True:
            ready = False
            try:
                with self.writer.connect() as connection:
                    with connection.begin():
                        _prepare(connection, durable, shared)
                        result = fn(connection)
                        ready = True
                    return result
            except DBAPIError as error:
                collisions += 1
                state = state_of(error)
                again = state in COLLIDED or (isinstance(error, IntegrityError) and state == UNIQUE)
                if again and collisions <= (MOST_COLLISIONS if state in COLLIDED else 2):
                    continue  # another process was first: look again at what is there now
                if ready and not shared and away(error):
                    raise Unavailable("db.unreachable") from error  # it may be written: not twice
                pause = self._again(error, until, pause)

    def _again(self, error: DBAPIError, until: float, pause: float) -> float:
        """Wait a little for a database that is away; raise everything else."""
        if away(error) and time.monotonic() + pause < until and not self._closed:
            time.sleep(pause)
            return min(pause * 2, LONGEST_PAUSE)
        typed = problem(error)
        if typed is None:
            raise error
        raise typed from error

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for pool in (self._urgent, self._writers, self._readers):
            pool.shutdown(wait=True)
        self.writer.dispose()
        self.reader.dispose()


def _prepare(connection: Connection, durable: bool, shared: bool) -> None:
    # what the processes agree on is always on disk: restarted in a hurry, the server would forget a receipt or a claim
    wanted = [] if durable or shared else ["set_config('synchronous_commit', 'off', true)"]
    if not shared:
        wanted.append(f"pg_advisory_xact_lock({LOCK_WRITE})")
    if wanted:
        connection.exec_driver_sql(f"SELECT {', '.join(wanted)}")
