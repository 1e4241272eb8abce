"""Attachments on their way between a conversation's workspace and a vendor."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 30_000_000
MOST_FILES = 500
_ODD = re.compile(r"[\x00-\x1f\x7f\\/:*?\"<>|\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def shelf(tenant: str, conversation: int) -> str:
    """A conversation's folder below the data folder's `files`."""
    return f"{tenant}/c{conversation}"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkspaceFiles:
    """Reads what is to be sent and keeps what was sent to us. Nothing is followed out of the folder."""

    root: Path

    async def read(self, path: str) -> bytes:
        """The bytes of `<shelf>/<name>`; what `Hooks.read` is.

        Raises:
            FileNotFoundError: no such plain file of a bearable size.
        """
        return await asyncio.to_thread(self._read, path)

    async def keep(self, tenant: str, conversation: int, name: str, data: bytes) -> str:
        """Store bytes under a free name like `name`, which may be hostile; returns the name below the workspace.

        Raises:
            FileExistsError: the workspace is full.
        """
        return await asyncio.to_thread(self._keep, shelf(tenant, conversation), name, data)

    def _read(self, path: str) -> bytes:
        root = self.root.resolve()
        found = (root / path).resolve()
        if not found.is_relative_to(root) or not found.is_file() or found.stat().st_size > MOST_BYTES:
            raise FileNotFoundError(path)
        return found.read_bytes()

    def _keep(self, shelf: str, name: str, data: bytes) -> str:
        folder = self.root / shelf
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        plain = _ODD.sub("_", re.split(r"[\\/]", name)[-1]).strip(". ")[-80:].strip(". ") or "file"
        if sum(1 for _ in folder.iterdir()) >= MOST_FILES:
            raise FileExistsError(plain)
        stem, dot, ending = plain.rpartition(".")
        for n in range(1, MOST_FILES + 1):
            free = plain if n == 1 else (f"{stem} ({n}).{ending}" if dot and stem else f"{plain} ({n})")
            try:
                with (folder / free).open("xb") as file:  # never over another file, never through a link
                    file.write(data)
            except FileExistsError:
                continue
            return free
        raise FileExistsError(plain)
