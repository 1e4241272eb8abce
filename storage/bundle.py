"""The support bundle: what someone who helps needs to know about an installation, without secrets or conversations."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sqlite3
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from storage.clock import Clock
from storage.errors import AppError
from storage.logs import FILE, MOST_FILES, Redactor
from storage.migrate import revision
from storage.settings import VERSION, Settings

# Settings whose value is told; of every other one only whether it is set.
TOLD = {"host", "port", "metrics_port", "allow_local_vendors", "embedder"}
MOST_LOG_BYTES = 20_000_000


def write_bundle(
    settings: Settings, target: Path, clock: Clock, found: Sequence[AppError], more: Mapping[str, object] | None = None
) -> None:
    """Write a zip that only its owner can read. Works beside a running server; reads files, so call it in a thread.

    Args:
        found: what `storage.preflight.findings` said.
        more: further files by name: text as it is, anything else as JSON. Cleaned like all the rest.

    Raises:
        OSError: the target cannot be written.
    """
    redactor = Redactor()
    parts: dict[str, object] = {
        "about.json": about(settings, clock),
        "findings.json": [{"code": error.code, **{k: str(v) for k, v in error.params.items()}} for error in found],
        "counts.json": counts(settings.db_file),
        "config.json": {path.name: path.stat().st_size for path in sorted(settings.config_dir.glob("*.yaml"))},
    }
    parts |= {name: content for name, content in (more or {}).items() if not isinstance(content, str)}
    plain = {name: content for name, content in (more or {}).items() if isinstance(content, str)}
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in parts.items():
            bundle.writestr(name, json.dumps(redactor.value(content), ensure_ascii=False, indent=2))
        for name, text in plain.items():
            bundle.writestr(name, "\n".join(redactor.clean(line) for line in text.splitlines()))
        left = MOST_LOG_BYTES
        for path in [settings.logs_dir / FILE, *(settings.logs_dir / f"{FILE}.{n}" for n in range(1, MOST_FILES + 1))]:
            if path.is_file() and left > 0:
                text = path.read_text(encoding="utf-8", errors="replace")[-left:]
                left -= len(text)
                bundle.writestr(f"logs/{path.name}", "\n".join(_line(redactor, line) for line in text.splitlines()))


def _line(redactor: Redactor, line: str) -> str:
    # cleaned when it was written, and once more with what this version knows
    try:
        return json.dumps(redactor.value(json.loads(line)), ensure_ascii=False)
    except ValueError:
        return redactor.clean(line)


def about(settings: Settings, clock: Clock) -> dict[str, object]:
    """Versions, machine and settings."""
    told = {
        field.name: getattr(settings, field.name) if field.name in TOLD else bool(getattr(settings, field.name))
        for field in fields(settings)
    }
    place = settings.data if settings.data.is_dir() else Path("/")
    return {
        "version": VERSION,
        "at": clock.now().isoformat(),
        "python": sys.version,
        "system": platform.platform(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "sqlite": sqlite3.sqlite_version,
        "revision": _revision(settings.db_file),
        "settings": told,
        "free_mb": shutil.disk_usage(place).free // 1_048_576,
        "packages": {d.name: d.version for d in sorted(importlib.metadata.distributions(), key=lambda d: d.name)},
    }


def _revision(path: Path) -> str:
    try:
        return revision(path) or ""
    except AppError as error:
        return str(error)


def counts(path: Path) -> dict[str, object]:
    """How many rows each table has, and the jobs and deliveries by status. Never their content."""
    if not path.is_file():
        return {}
    found: dict[str, object] = {"bytes": path.stat().st_size}
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)
    except sqlite3.Error as error:
        return {**found, "error": str(error)}
    try:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
        for name in names:
            quoted = '"' + name.replace('"', '""') + '"'
            found[name] = connection.execute(f"SELECT count(*) FROM {quoted}").fetchone()[0]  # noqa: S608 - quoted name
        for name in ("job", "delivery"):
            if name in names:
                rows = connection.execute(f"SELECT status, count(*) FROM {name} GROUP BY 1 ORDER BY 1")  # noqa: S608 - fixed name
                found[f"{name} by status"] = dict(rows.fetchall())
    except sqlite3.Error as error:
        found["error"] = str(error)
    finally:
        connection.close()
    return found
