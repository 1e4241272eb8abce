"""Databases of released versions, unpacked for a test."""

from __future__ import annotations

import base64
import gzip
import hashlib
from pathlib import Path

from storage.settings import Settings

FOLDER = Path(__file__).resolve().parent / "fixtures"
RELEASED = sorted(path.name.removesuffix(".db.gz") for path in FOLDER.glob("*.db.gz"))
PASSWORD = "kY7#mvQ2pLx9-tree"
KEY = hashlib.sha256(b"key of the fixture, not a secret").digest()


def unpack(name: str, folder: Path) -> Settings:
    """A data folder of that version, with its key."""
    settings = Settings(data=folder / "data", key_file=folder / "master.key")
    settings.db_file.parent.mkdir(parents=True, mode=0o700)
    settings.data.chmod(0o700)
    settings.db_file.write_bytes(gzip.decompress((FOLDER / f"{name}.db.gz").read_bytes()))
    settings.db_file.chmod(0o600)
    settings.master_key_file.write_text(base64.b64encode(KEY).decode() + "\n")
    settings.master_key_file.chmod(0o600)
    return settings
