"""The process's log: one JSON object a line in `<data>/logs`, rotated, without secrets; in words on the console.

Files are written by a thread of their own: a slow disk holds up neither the event loop nor an answer.
"""

from __future__ import annotations

import copy
import json
import logging
import logging.handlers
import os
import queue
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

FILE = "zhixing.log"
MOST_BYTES = 10_000_000
MOST_FILES = 5
MOST_WAITING = 10_000
MOST_TEXT = 16_000
LEAST_SECRET = 6
MASK = "***"
# They log addresses with tokens in them, or every request.
QUIET = ("httpx", "httpcore", "uvicorn.access", "websockets", "asyncio", "alembic")

_NAMES = (
    r"(?:app|client|corp|robot|webhook)?_?-?(?:secret|password|passwd|pwd)|(?:api|encrypt|private|master)[_-]?key"
    r"|(?:[a-z]+[_-])*(?:access|refresh|verification)[_-]?token|token|authorization|(?:set-)?cookie|x-api-key"
)
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
_PATTERNS = (
    # name: value, name=value, "name": "value"; the value ends at a quote, a blank or a separator
    re.compile(rf"(?i)\b({_NAMES})(\\?[\"']?\s*[:=]\s*\\?[\"']?(?:bearer |basic )?)([^\s\"'\\,;&}}]+)"),
    re.compile(r"(?i)([?&](?:sign|signature|ticket|code|key)(=))([^&\s\"'\\]+)"),
    re.compile(r"(?i)(/bot/v2/hook(/))([\w-]+)"),
    re.compile(r"(?i)\b(bearer( ))([\w.~+/=-]{8,})"),
    re.compile(r"()()\b(sk-[\w-]{8,}|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*|AKIA[0-9A-Z]{16})"),
    re.compile(r"(?s)()()(-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$))"),
)


class Redactor:
    """Masks what looks like a secret, and every value that it was told of."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._known: re.Pattern[str] | None = None

    def hide(self, value: str) -> None:
        """From now on this value never appears in a log. Values too short to be told from words are left out."""
        if len(value) >= LEAST_SECRET and value not in self._told:
            self._told.add(value)
            # the longest first: one secret may begin with another
            ordered = sorted(self._told, key=len, reverse=True)
            self._known = re.compile("|".join(re.escape(text) for text in ordered))

    def clean(self, text: str) -> str:
        """The text with secrets masked."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for pattern in _PATTERNS:
            text = pattern.sub(_masked, text)
        return text

    def value(self, value: object, name: str = "") -> object:
        """The same for a value that will be JSON: text within is cleaned, what a secret's name holds is masked."""
        if isinstance(value, dict):
            return {str(key): self.value(item, str(key)) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item, name) for item in value]
        if value is None or isinstance(value, (int, float)):
            return value
        text = str(value)[:MOST_TEXT]
        return MASK if text and _SECRET_NAME.fullmatch(name) else self.clean(text)


def _masked(match: re.Match[str]) -> str:
    name, between, _ = match.groups()
    return (name if name.endswith(between) else name + between) + MASK


class JsonLines(logging.Formatter):
    """One JSON object a line: at (UTC), level, logger, message, task, error, and what `extra` named."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self.redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._text(record.getMessage()),
        }
        task = getattr(record, "taskName", None)  # Python 3.12 and later
        if task and not task.startswith("Task-"):
            line["task"] = task
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                line[name] = self.redactor.value(value, name)
        if record.exc_info:
            line["error"] = self._text(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)

    def _text(self, text: str) -> str:
        return self.redactor.clean(text[:MOST_TEXT])


_STANDARD = {*logging.LogRecord("", 0, "", 0, "", (), None).__dict__, "message", "asctime", "taskName"}


class Plain(logging.Formatter):
    """For people who watch the console: time, level, text."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
        self.redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self.redactor.clean(super().format(record)[:MOST_TEXT])


class _Private(logging.handlers.RotatingFileHandler):
    """Only the owner may read the files."""

    def _open(self) -> Any:
        handle = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(handle, "a", encoding="utf-8")


class _Hand(logging.handlers.QueueHandler):
    """Hands records over without waiting. Where too many wait, new ones are dropped and counted."""

    def __init__(self, waiting: queue.Queue[Any]) -> None:
        super().__init__(waiting)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # the text is made here: what the arguments point to may change before the thread writes it
        made = copy.copy(record)
        made.msg, made.args = record.getMessage(), None
        return made

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class Logs:
    """The log of a running process. `redactor.hide(value)` for each secret that is opened."""

    def __init__(
        self, folder: Path, *, console: TextIO | None = None, level: str = "INFO", console_level: str = ""
    ) -> None:
        """Take over the root logger. Call `stop` at the end.

        Args:
            folder: made if missing; an unwritable one leaves the console only.
            console: where people read; none for tests.
            console_level: for the console alone, where it shall say less than the file.
        """
        self.redactor, self.file = Redactor(), folder / FILE
        self._console, self._level, self._console_level = console, level, console_level or level
        self._handlers: list[logging.Handler] = []
        self._hand: _Hand | None = None
        self._listener: logging.handlers.QueueListener | None = None

    def start(self) -> None:
        """Begin to write. What was logged before is lost."""
        if self._console is not None:
            plain = logging.StreamHandler(self._console)
            plain.setFormatter(Plain(self.redactor))
            plain.setLevel(self._console_level)
            self._handlers.append(plain)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            written = _Private(self.file, maxBytes=MOST_BYTES, backupCount=MOST_FILES, encoding="utf-8")
        except OSError as error:
            sys.stderr.write(f"{self.file}: {error.strerror}\n")
        else:
            written.setFormatter(JsonLines(self.redactor))
            self._handlers.append(written)
        waiting: queue.Queue[Any] = queue.Queue(MOST_WAITING)
        self._hand = _Hand(waiting)
        self._listener = logging.handlers.QueueListener(waiting, *self._handlers, respect_handler_level=True)
        self._listener.start()
        root = logging.getLogger()
        root.addHandler(self._hand)
        root.setLevel(self._level)
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)

    @property
    def dropped(self) -> int:
        """Records lost because the disk was too slow for them."""
        return self._hand.dropped if self._hand else 0

    def stop(self) -> None:
        """Write what waits and let go of the root logger. Safe to repeat."""
        if self._listener is None or self._hand is None:
            return
        logging.getLogger().removeHandler(self._hand)
        self._listener.stop()
        for handler in self._handlers:
            handler.close()
        self._listener = None


def tail(folder: Path, lines: int = 500, *, level: str = "", contains: str = "") -> list[dict[str, Any]]:
    """The newest entries, newest first. Reads files: call it in a thread.

    Args:
        level: only this level (`error`); empty for all.
        contains: only entries with this text anywhere.
    """
    found: list[dict[str, Any]] = []
    for path in [folder / FILE, *(folder / f"{FILE}.{n}" for n in range(1, MOST_FILES + 1))]:
        if not path.is_file():
            continue
        for raw in reversed(path.read_text(encoding="utf-8", errors="replace").splitlines()):
            if contains and contains.lower() not in raw.lower():
                continue
            try:
                entry = json.loads(raw)
            except ValueError:
                continue  # the last line of a process that was killed
            if isinstance(entry, dict) and (not level or entry.get("level") == level):
                found.append(entry)
                if len(found) >= lines:
                    return found
    return found
