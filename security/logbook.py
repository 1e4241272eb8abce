"""The log for people: the newest entries of the files, filtered, page by page, and what is new since."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from storage.errors import Invalid
from storage.logs import FILE, MOST_FILES
from storage.principal import Principal

LEVELS = ("debug", "info", "warning", "error", "critical")
PIECE = 256 * 1024
MOST_ENTRIES = 200
MOST_READ = 64 * 1024 * 1024
KNOWN = frozenset({"at", "level", "logger", "message", "error", "task"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which entries: from a level up, of a logger and those below it, with a text anywhere, before a time (ms)."""

    level: str = ""
    logger: str = ""
    search: str = ""
    before: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of the log. `more` is what the record named besides; `error` a trace, which may be empty."""

    at: int
    level: str
    logger: str
    message: str
    error: str = ""
    more: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogbookActions:
    """Reads `<data>/logs`. Right: log.view."""

    folder: Path

    async def newest(self, who: Principal, wanted: Wanted, *, limit: int = 100) -> list[Entry]:
        """The newest entries that fit, newest first.

        Raises:
            Invalid: `log.level`.
        """
        who.require("log.view")
        if wanted.level and wanted.level not in LEVELS:
            raise Invalid("log.level", field="level")
        return await asyncio.to_thread(_newest, self.folder, wanted, min(limit, MOST_ENTRIES))

    async def stamp(self, who: Principal) -> tuple[int, int]:
        """Changes when something was written."""
        who.require("log.view")
        return await asyncio.to_thread(_stamp, self.folder / FILE)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_size


def _newest(folder: Path, wanted: Wanted, limit: int) -> list[Entry]:
    found: list[Entry] = []
    levels = LEVELS[LEVELS.index(wanted.level) :] if wanted.level else ()
    needle = wanted.search.strip().lower().encode()
    read = 0
    for path in [folder / FILE, *(folder / f"{FILE}.{n}" for n in range(1, MOST_FILES + 1))]:
        for raw in _backwards(path):
            read += len(raw)
            if read > MOST_READ:
                return found
            if needle and needle not in raw.lower():
                continue
            entry = _entry(raw)
            if entry is None or not _fits(entry, wanted, levels):
                continue
            found.append(entry)
            if len(found) >= limit:
                return found
    return found


def _fits(entry: Entry, wanted: Wanted, levels: tuple[str, ...]) -> bool:
    if levels and entry.level not in levels:
        return False
    if wanted.before and entry.at >= wanted.before:
        return False
    return not wanted.logger or entry.logger == wanted.logger or entry.logger.startswith(f"{wanted.logger}.")


def _entry(raw: bytes) -> Entry | None:
    """One line; None for the last one of a process that was killed."""
    try:
        line: Any = orjson.loads(raw)
        at = int(datetime.fromisoformat(str(line["at"])).astimezone(UTC).timestamp() * 1000)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    more = {
        str(k): v if isinstance(v, str) else orjson.dumps(v, default=str).decode()
        for k, v in line.items()
        if k not in KNOWN
    }
    task = str(line.get("task", ""))
    return Entry(
        at=at,
        level=str(line.get("level", "")),
        logger=str(line.get("logger", "")),
        message=str(line.get("message", "")),
        error=str(line.get("error", "")),
        more={**({"task": task} if task else {}), **more},
    )


def _backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last one first, read in pieces."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        at = file.seek(0, 2)
        rest = b""
        while at > 0:
            size = min(PIECE, at)
            at -= size
            file.seek(at)
            lines = (file.read(size) + rest).split(b"\n")
            rest = lines[0]
            for line in reversed(lines[1:]):
                if line:
                    yield line
        if rest:
            yield rest
