"""Files that a person adds to what they say: kept in the conversation's workspace, where the file tools find them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from agent.actions import ChatActions
from agent.tools.files import MOST_BYTES, MOST_FILES, inside
from storage.envelope import Part
from storage.errors import Invalid, TooLarge
from storage.principal import Principal

_ODD = re.compile(r"[\x00-\x1f\x7f\\/:*?\"<>|\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_NAME = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachments:
    """Keeps files for conversations of the playground. A person reaches only their own."""

    chat: ChatActions
    files_dir: Path

    async def keep(self, who: Principal, conversation_id: int, name: str, data: bytes) -> Part:
        """Store a file under a name that is free; the part says which.

        Right: chat.use. Raises: NotFound, Invalid (name, or the workspace is full), TooLarge.
        """
        await self.chat.conversation(who, conversation_id)
        if len(data) > MOST_BYTES:
            raise TooLarge("file.too_large", limit=MOST_BYTES // 1000)
        wanted = clean_name(name)
        kept = await asyncio.to_thread(_write, self._workspace(who, conversation_id), wanted, data)
        return Part(kind="file", key=kept, name=kept, size=len(data))

    async def parts(self, who: Principal, conversation_id: int, names: list[str]) -> tuple[Part, ...]:
        """The parts for files that were kept before. Right: chat.use. Raises: NotFound, Invalid."""
        if not names:
            return ()
        await self.chat.conversation(who, conversation_id)
        return await asyncio.to_thread(_find, self._workspace(who, conversation_id), names)

    def _workspace(self, who: Principal, conversation_id: int) -> Path:
        return self.files_dir / who.tenant / f"c{conversation_id}"


def clean_name(name: str) -> str:
    """A hostile file name as a plain one: no folders, no hidden characters, no leading dots."""
    plain = _ODD.sub("_", re.split(r"[\\/]", name)[-1]).strip(". ") or "file"
    if len(plain) <= _NAME:
        return plain
    stem, dot, ending = plain.rpartition(".")
    return f"{stem[: _NAME - 12]}.{ending}" if dot and len(ending) < 10 else plain[:_NAME]


def _write(workspace: Path, name: str, data: bytes) -> str:
    workspace.mkdir(parents=True, exist_ok=True, mode=0o700)
    if sum(1 for _ in workspace.rglob("*")) >= MOST_FILES:
        raise Invalid("file.workspace_full", limit=MOST_FILES)
    stem, dot, ending = name.rpartition(".")
    for n in range(1, MOST_FILES + 1):
        free = name if n == 1 else (f"{stem} ({n}).{ending}" if dot and stem else f"{name} ({n})")
        path = inside(workspace, free)
        if path is None:
            break
        try:
            with path.open("xb") as file:  # never over another file, never through a link
                file.write(data)
        except FileExistsError:
            continue
        return free
    raise Invalid("file.name")


def _find(workspace: Path, names: list[str]) -> tuple[Part, ...]:
    found = []
    for name in names:
        path = inside(workspace, name)
        if path is None or not path.is_file():
            raise Invalid("file.gone", name=name[:_NAME])
        found.append(Part(kind="file", key=name, name=name, size=path.stat().st_size))
    return tuple(found)
