"""A real serving process on a free port, for tests that need one: starts it, reads what it says, ends it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType

from storage.settings import ROOT

ADDRESS = re.compile(r"https?://[\w.\[\]:-]+:\d+")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Serving:
    """`with Serving(folder) as server:` waits until /readyz answers 200. `said` is all that the process printed."""

    def __init__(
        self,
        folder: Path,
        *,
        command: Sequence[str] = (sys.executable, str(ROOT / "app.py"), "serve"),
        wait: bool = True,
        **settings: str,
    ) -> None:
        self.folder, self.port, self.command, self._wait = folder, free_port(), list(command), wait
        self.address = f"http://127.0.0.1:{self.port}"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ZHIXING_") and k != "DATABASE_URL"}
        self.env = clean | {
            "ZHIXING_DATA": str(folder / "data"),
            "ZHIXING_KEY_FILE": str(folder / "master.key"),
            "ZHIXING_PORT": str(self.port),
            "ZHIXING_METRICS_PORT": "0",
            "ZHIXING_EMBEDDER": "none",
            "PYTHONUNBUFFERED": "1",
            **settings,
        }
        self.out: list[str] = []
        self.err: list[str] = []
        self._changed = Condition()

    def __enter__(self) -> Serving:
        self.process = subprocess.Popen(
            self.command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder
        )
        pairs = ((self.process.stdout, self.out), (self.process.stderr, self.err))
        self._threads = [Thread(target=self._listen, args=pair, daemon=True) for pair in pairs]
        for thread in self._threads:
            thread.start()
        if self._wait:
            self.ready()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _listen(self, stream: object, lines: list[str]) -> None:
        for line in stream:  # type: ignore[attr-defined]
            with self._changed:
                lines.append(line)
                self._changed.notify_all()
        # the end of its output comes a moment before its own: who waits must see both
        try:
            self.process.wait(10)
        finally:
            with self._changed:
                self._changed.notify_all()

    @property
    def said(self) -> str:
        return "".join(self.out) + "".join(self.err)

    def heard(self, pattern: str, seconds: float = 40) -> re.Match[str]:
        """Wait until the process has printed something that fits; fails where it ended without."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: re.search(pattern, self.said) or self.process.poll() is not None, seconds
            )
        match = re.search(pattern, self.said)
        assert match, f"never said {pattern!r} ({found}):\n{self.said[-4000:]}"
        return match

    def ready(self, seconds: float = 40) -> None:
        """Wait until it is able to work."""
        self.heard(ADDRESS.pattern, seconds)
        for _ in range(int(seconds * 20)):
            try:
                if self.get("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        raise AssertionError(f"not ready:\n{self.said[-4000:]}")

    def get(self, path: str) -> tuple[int, str]:
        """Status and text."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.address + path, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self, with_signal: int = signal.SIGTERM, seconds: float = 20) -> int:
        """End it and return its exit code; what does not end is killed and counts as -9."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        for thread in self._threads:
            thread.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return int(self.process.returncode)


def refusal(folder: Path, **settings: str) -> tuple[int, str]:
    """Exit code and output of a start that is expected to be refused."""
    with Serving(folder, wait=False, **settings) as server:
        try:
            server.process.wait(40)
        except subprocess.TimeoutExpired:
            return 0, server.said
        code = server.stop()
    return code, server.said
