"""Runs the command of a schedule: an argv, no shell, in its own process group, in a sandbox where the host has one.

The only place of the house that starts a program that an admin chose. Whether it may run is decided before.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.errors import Rejected, Unavailable

MOST_OUTPUT = 64_000
GRACE_SECONDS = 3.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HIDDEN = ("/root", "/home", "/run", "/var", "/mnt", "/media", "/srv", "/boot")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """How a program ended. `output` is what it said on both channels, its middle left out where it was too long."""

    code: int
    output: str
    cut: bool = False


class Commands:
    """Starts programs in one folder.

    Args:
        folder: their working folder; made if it is missing. Scripts belong below it.
        hidden: folders that a sandboxed program must not see: the data folder, the master key's.
    """

    def __init__(self, folder: Path, hidden: Sequence[Path]) -> None:
        self.folder, self._hidden = folder, tuple(hidden)
        self._boxed: bool | None = None

    async def sandbox(self) -> bool:
        """True if this host can confine programs. Tried out once: a container may forbid what is installed."""
        if self._boxed is None:
            self._boxed = await self._try()
        return self._boxed

    def words(self, argv: Sequence[str]) -> list[str]:
        """The argv with its program found: `python` is ours where the host has none.

        Raises:
            Rejected: `schedule.program`, there is no such program.
        """
        name = argv[0]
        if "/" in name:
            path = self.folder / name
            if not path.is_file():
                raise Rejected("schedule.program", name=name)
            return [str(path), *argv[1:]]
        found = shutil.which(name, path=PATH)
        if found is None and name in ("python", "python3"):
            found = sys.executable
        if found is None:
            raise Rejected("schedule.program", name=name)
        return [found, *argv[1:]]

    async def run(self, argv: Sequence[str], *, seconds: float, environment: Mapping[str, str]) -> Ran:
        """Run a program to its end. It and all that it started are gone afterwards, however this ends.

        Raises:
            Rejected: `schedule.program`; `schedule.command_time`, it took longer than `seconds`.
            Unavailable: `schedule.command_start`.
        """
        await asyncio.to_thread(self.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        words = await asyncio.to_thread(self.words, argv)
        line = [*(self._box(words[0]) if await self.sandbox() else _tied()), *words]
        try:
            process = await asyncio.create_subprocess_exec(
                *line,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self.folder,
                env={"PATH": PATH, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "HOME": str(self.folder), **environment},
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable("schedule.command_start", why=error.strerror or type(error).__name__) from error
        said = _Said()
        try:
            async with asyncio.timeout(seconds):
                code = await _finished(process, said)
        except TimeoutError:
            raise Rejected("schedule.command_time", seconds=int(seconds), output=said.text()[-2_000:]) from None
        finally:
            await _end(process)
        return Ran(code=code, output=said.text(), cut=said.cut)

    def _box(self, program: str) -> list[str]:
        """What is put before a program: it sees the system read-only, its own folder, and no data of ours."""
        line = [shutil.which("bwrap") or "bwrap", "--die-with-parent", "--new-session", "--unshare-all", "--share-net"]
        line += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]  # noqa: S108 - its own
        kept = _kept(program)
        for place in [*HIDDEN, *(str(path) for path in self._hidden)]:
            if os.path.isdir(place) and not any(keep == place or keep.startswith(f"{place}/") for keep in kept):
                line += ["--tmpfs", place]
        line += ["--ro-bind-try", "/run/systemd/resolve", "/run/systemd/resolve"]  # names are looked up through it
        return [*line, "--bind", str(self.folder), str(self.folder), "--chdir", str(self.folder), "--"]

    async def _try(self) -> bool:
        if shutil.which("bwrap") is None:
            return False
        await asyncio.to_thread(self.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._box("/bin/true"),
                "/bin/true",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            async with asyncio.timeout(5):
                return await process.wait() == 0
        except (OSError, TimeoutError):
            return False


class _Said:
    """What a program says, its beginning and its end; however much it is, memory stays bounded."""

    def __init__(self) -> None:
        self._head, self._tail = bytearray(), bytearray()
        self.cut = False

    async def read(self, stream: asyncio.StreamReader | None) -> None:
        """Read to the end."""
        while stream is not None and (piece := await stream.read(16_384)):
            room = MOST_OUTPUT // 2 - len(self._head)
            self._head += piece[: max(0, room)]
            self._tail += piece[max(0, room) :]
            if len(self._tail) > MOST_OUTPUT:
                del self._tail[: -MOST_OUTPUT // 2]
                self.cut = True

    def text(self) -> str:
        """As text; what cannot be read is marked."""
        tail = self._tail
        if len(tail) > MOST_OUTPUT // 2:
            tail, self.cut = tail[-MOST_OUTPUT // 2 :], True
        whole = bytes(self._head) + (b"\n[...]\n" if self.cut else b"") + bytes(tail)
        text = whole.decode("utf-8", "replace")
        return "".join(ch for ch in text if ch.isprintable() or ch in "\n\t").strip()


async def _finished(process: asyncio.subprocess.Process, said: _Said) -> int:
    """Its exit code, with all that it said. What it leaves running must not keep us waiting for more."""
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(said.read(process.stdout))
        while process.returncode is None and not reading.done():
            await asyncio.wait([reading], timeout=0.1)
        if not reading.done():
            await asyncio.wait([reading], timeout=0.5)
            _signal(process.pid, signal.SIGKILL)
    return await process.wait()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the whole group: what a program leaves behind does not go on."""
    _signal(process.pid, signal.SIGTERM if process.returncode is None else signal.SIGKILL)
    if process.returncode is None:
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            _signal(process.pid, signal.SIGKILL)
        await process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def _tied() -> list[str]:
    """Ties a program to our life, where the host can: if we are killed, it is too."""
    found = shutil.which("setpriv", path=PATH)
    return [found, "--pdeathsig", "KILL", "--"] if found else []


def _kept(program: str) -> list[str]:
    """Folders that a program needs to be seen: its own, and those of the Python that runs it."""
    real = os.path.realpath(program)
    kept = [os.path.dirname(program), os.path.dirname(real)]
    if os.path.basename(real).startswith("python"):
        kept += [sys.prefix, sys.base_prefix]
    return kept
