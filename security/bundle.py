"""The support bundle, made for a person: what helps somebody else to help, without secrets or conversations."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from security.health.actions import HealthActions
from security.health.console import plain, report
from storage.audit import Audit
from storage.bundle import write_bundle
from storage.clock import Clock
from storage.database import Database
from storage.errors import AppError
from storage.principal import Principal
from storage.provision import FileState
from storage.settings import Settings
from storage.words import Words

Part = Callable[[], Awaitable[object]]


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleActions:
    """Makes bundles.

    Attributes:
        parts: further files by name; one that cannot be made is told in its place.
    """

    settings: Settings
    db: Database
    audit: Audit
    clock: Clock
    words: Words
    health: HealthActions
    parts: Mapping[str, Part]

    async def make(self, who: Principal) -> tuple[str, bytes]:
        """File name and content of a zip. Right: server.manage. Written to the audit log."""
        who.require("server.manage")
        found = await self.gathered(who)
        name = f"zhixing-{self.clock.now():%Y%m%d-%H%M}.zip"
        await self.db.write(lambda c: self.audit.record(c, who, "server.bundle", name))
        return name, await asyncio.to_thread(self._zip, name, found)

    async def gathered(self, who: Principal) -> dict[str, object]:
        """What the parts say, and the health tests in words and for programs."""
        rows = await self.health.list(who)
        found: dict[str, object] = {
            "health.json": plain(self.words, "en", rows),
            "health.txt": "\n".join(report(self.words, "en", rows)),
        }
        for name, part in self.parts.items():
            try:
                found[name] = await part()
            except AppError as error:
                found[name] = {"error": str(error)}
        return found

    def _zip(self, name: str, found: dict[str, object]) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            write_bundle(self.settings, path, self.clock, [], found)
            return path.read_bytes()


def files_told(states: Mapping[str, FileState]) -> dict[str, object]:
    """What became of the files under `config/`, without their content."""
    return {
        name: {"entries": state.entries, "refused": str(state.error or ""), "line": state.line}
        for name, state in states.items()
    }
