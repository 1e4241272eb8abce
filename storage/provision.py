"""YAML files under `config/` in the data folder: read whole, refused whole, applied at start and when they change.

The reader takes what people mean: no octal numbers, no times as sixtieths, no `on` as true, no key twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from storage.errors import AppError, Invalid

log = logging.getLogger(__name__)

T = TypeVar("T")
MOST_BYTES = 1_000_000
_ENV = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
Environ = Mapping[str, str]


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and aliases, and reads only plain numbers and true/false."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not used here", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(getattr(key, "value", ""))
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|false|False)$", "tTfF"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+)\.[0-9]+(?:[eE][-+]?[0-9]+)?$", "-+0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigFile:
    """One file and what it feeds.

    Attributes:
        name: file name, e.g. `llm.yaml`.
        key: the list in it, e.g. `providers`.
        apply: checks all entries and brings the database in line; raises `AppError` and changes nothing if one is bad.
    """

    name: str
    key: str
    apply: Callable[[str, Sequence[Mapping[str, object]]], Awaitable[None]]


@dataclass(slots=True)
class FileState:
    """What became of a file: `error` is None while it is in force."""

    stamp: tuple[int, int] = (0, 0)
    error: AppError | None = None
    line: int = 0
    entries: int = 0
    params: dict[str, str] = field(default_factory=dict)


class Provisioning:
    """Applies the files of a folder. A bad file never stops what runs: the old entries go on."""

    def __init__(self, folder: Path, files: Sequence[ConfigFile], environ: Environ, *, alone: bool = True) -> None:
        """`alone`: False where processes share the database; then one without a file takes nothing away."""
        self.folder, self.files, self._environ, self._alone = folder, files, environ, alone
        self.states: dict[str, FileState] = {}

    async def look(self) -> None:
        """Apply every file that is new, changed or gone since the last look. Never raises for a bad file."""
        for file in self.files:
            path = self.folder / file.name
            stamp = await asyncio.to_thread(_stamp, path)
            old = self.states.get(file.name)
            if old is not None and old.stamp == stamp:
                continue
            if old is None and stamp == (0, 0):
                old = self.states[file.name] = FileState()
                if self._alone:
                    await self._apply(file, [], old)
                continue
            state = self.states[file.name] = FileState(stamp=stamp)
            try:
                entries = await asyncio.to_thread(self._read, path, file.key) if stamp != (0, 0) else []
            except Invalid as error:
                self._refused(file, state, error)
            else:
                await self._apply(file, entries, state)

    async def _apply(self, file: ConfigFile, entries: list[Mapping[str, object]], state: FileState) -> None:
        try:
            await file.apply(file.name, entries)
        except AppError as error:
            self._refused(file, state, error)
        else:
            state.entries = len(entries)

    def _refused(self, file: ConfigFile, state: FileState, error: AppError) -> None:
        state.error, state.line = error, int(str(error.params.get("line", 0)))
        log.error("%s is refused whole, the old entries go on: %s", file.name, error)

    def _read(self, path: Path, key: str) -> list[Mapping[str, object]]:
        try:
            if path.stat().st_size > MOST_BYTES:
                raise Invalid("config.too_large", file=path.name)
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise Invalid("config.not_utf8", file=path.name) from error
        except OSError as error:
            raise Invalid("config.unreadable", file=path.name, reason=error.strerror or "") from error
        return read_entries(text, key, path.name, self._environ)


def read_entries(text: str, key: str, file: str, environ: Environ) -> list[Mapping[str, object]]:
    """The list `key` of a YAML text, `${NAME}` filled from the environment; `line` of each entry under `__line__`.

    Raises:
        Invalid: `config.syntax`, `config.shape`, `config.env`, with file and line; nothing of the text is shown,
            it may be a secret.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return []
            raw = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise Invalid("config.syntax", file=file, line=line, problem=_problem(error, text, line)) from error
    except yaml.YAMLError as error:
        raise Invalid("config.syntax", file=file, line=1, problem=type(error).__name__) from error
    if not isinstance(raw, dict) or not isinstance(raw.get(key), list) or set(raw) != {key}:
        raise Invalid("config.shape", file=file, line=1, key=key)
    lines = _lines(node, key)
    entries: list[Mapping[str, object]] = []
    for number, item in enumerate(raw[key]):
        line = lines[number] if number < len(lines) else 1
        if not isinstance(item, dict):
            raise Invalid("config.shape", file=file, line=line, key=key)
        entries.append({str(k): _filled(v, file, line, environ) for k, v in item.items()} | {"__line__": line})
    return entries


def each(file: str, entries: Sequence[Mapping[str, object]], read: Callable[[Mapping[str, object]], T]) -> list[T]:
    """Read every entry; a refusal is told with its file and line."""
    made = []
    for entry in entries:
        plain = {key: value for key, value in entry.items() if key != "__line__"}
        try:
            made.append(read(plain))
        except Invalid as error:
            error.params |= {"file": file, "line": entry.get("__line__", 1)}
            raise
    return made


def _lines(node: yaml.Node, key: str) -> list[int]:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == key and isinstance(value, yaml.SequenceNode):
                return [item.start_mark.line + 1 for item in value.value]
    return []


def _filled(value: object, file: str, line: int, environ: Environ) -> object:
    if isinstance(value, str):

        def replace(match: re.Match[str]) -> str:
            found = environ.get(match[1])
            if found is None:
                raise Invalid("config.env", file=file, line=line, name=match[1])
            return found

        return _ENV.sub(replace, value)
    if isinstance(value, list):
        return [_filled(item, file, line, environ) for item in value]
    if isinstance(value, dict):
        return {str(k): _filled(v, file, line, environ) for k, v in value.items()}
    return value


def _problem(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    row = text.splitlines()[line - 1] if 0 < line <= len(text.splitlines()) else ""
    if re.search(r":\s*\*", row):
        return 'quote values that begin with *, e.g. "*/30 * * * *"'
    if "\t" in row[: len(row) - len(row.lstrip())]:
        return "indent with spaces, not with tabs"
    return str(error.problem or "cannot be read")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
