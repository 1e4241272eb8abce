"""What a backup holds: every file with its size and checksum, every table with its rows, the audit log's last entry."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.errors import Invalid

FORMAT = 1
NAME = "manifest.json"
DATABASE = "db/zhixing.db"
KEY = "key/master.key"
FOLDERS = ("files", "index", "config")
SINGLE = (DATABASE, KEY, "zhixing.env")
MOST_BYTES = 200_000_000
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The last member of an archive: an archive without it was cut off.

    Attributes:
        files: name to (size, SHA-256).
        tables: name to the number of rows.
        audit: id and hash of the newest entry of the audit log.
    """

    version: str
    revision: str
    at: int
    files: Mapping[str, tuple[int, str]]
    tables: Mapping[str, int]
    audit: tuple[int, str] = (0, "")

    @property
    def rows(self) -> int:
        return sum(self.tables.values())

    @property
    def size(self) -> int:
        return sum(size for size, _ in self.files.values())

    def to_json(self) -> bytes:
        body = {
            "format": FORMAT,
            "version": self.version,
            "revision": self.revision,
            "at": self.at,
            "tables": dict(self.tables),
            "audit": list(self.audit),
            "files": {name: list(entry) for name, entry in self.files.items()},
        }
        return json.dumps(body, ensure_ascii=False, indent=1).encode()


def read_manifest(data: bytes) -> Manifest:
    """The manifest of an archive that may come from anybody.

    Raises:
        Invalid: `backup.damaged`; `backup.newer`, of a later version of this program.
    """
    try:
        raw: Any = json.loads(data)
        if raw["format"] != FORMAT:
            raise Invalid("backup.newer", "file", version=str(raw.get("version", "?"))[:40])
        return Manifest(
            version=str(raw["version"])[:40],
            revision=str(raw["revision"])[:40],
            at=int(raw["at"]),
            files={_name(name): (int(entry[0]), _hash(entry[1])) for name, entry in raw["files"].items()},
            tables={str(name)[:100]: int(count) for name, count in raw["tables"].items()},
            audit=(int(raw["audit"][0]), str(raw["audit"][1])[:64]),
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise Invalid("backup.damaged", "file") from error


def _hash(text: object) -> str:
    if not isinstance(text, str) or not HASH.fullmatch(text):
        raise ValueError("no checksum")
    return text


def _name(text: str) -> str:
    if not good_name(text):
        raise ValueError("no name of ours")
    return text


def good_name(text: str) -> bool:
    """True for a name that a backup may hold: below one of our folders, and nothing that leads out of it."""
    if len(text.encode("utf-8", "surrogatepass")) > 1000 or any(ord(ch) < 32 or ch in "\\\x7f" for ch in text):
        return False
    if text in SINGLE:
        return True
    first, *rest = text.split("/")
    if first not in FOLDERS or not rest:
        return False
    return all(part not in ("", ".", "..") and len(part.encode("utf-8", "surrogatepass")) <= 255 for part in rest)
