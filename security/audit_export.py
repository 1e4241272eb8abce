"""The audit log as a file that can be checked without this program, and as a table for spreadsheets.

A line of JSON each: a head with the verification key, the entries as they are kept, a signed end.
`docs/verify_audit.py` checks it with nothing but Python.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Connection, and_, func, select

from storage.audit import FIELDS, Audit, audit_t
from storage.clock import Clock
from storage.database import Database
from storage.principal import Principal

PAGE = 1000
COLUMNS = ("id", *FIELDS, "prev", "hash")
LIFE = 3_600_000


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditExport:
    """Right: audit.view.

    Attributes:
        folder: where files wait for their download; old ones are removed.
    """

    db: Database
    audit: Audit
    clock: Clock
    folder: Path

    def public_key(self) -> str:
        """What an auditor notes down once: whoever has it can check every export, and forge none."""
        return str(_signer(self.audit).public_key().public_bytes_raw().hex())

    async def write(
        self, who: Principal, form: str = "jsonl", *, since: int | None = None, until: int | None = None
    ) -> Path:
        """Write all entries of a time span, `jsonl` or `csv`, to a file to be taken away.

        Args:
            since, until: ms, both included.
        """
        who.require("audit.view")
        stamp = self.clock.now().strftime("%Y%m%d-%H%M%S")
        path = self.folder / f"zhixing-audit-{stamp}.{'csv' if form == 'csv' else 'jsonl'}"
        await asyncio.to_thread(self._tidy)

        def run(c: Connection) -> int:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                write = self._csv if form == "csv" else self._lines
                return write(c, file, since, until)

        count = await self.db.read(run)
        after = {"form": form, "rows": count, "since": since, "until": until}
        await self.db.write(lambda c: self.audit.record(c, who, "audit.export", path.name, after=after))
        return path

    def _tidy(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in self.folder.iterdir():
            if path.stat().st_mtime * 1000 < self.clock.ms() - LIFE:
                path.unlink(missing_ok=True)

    def _lines(self, c: Connection, file: TextIO, since: int | None, until: int | None) -> int:
        total, count = hashlib.sha256(), 0

        def put(value: dict[str, Any]) -> None:
            line = json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
            total.update(line.encode())
            file.write(line)

        put({"export": "zhixing audit", "format": 1, "at": self.clock.ms(), "key": self.public_key()})
        for row in _rows(c, since, until):
            put({name: getattr(row, name) for name in COLUMNS})
            count += 1
        digest = total.hexdigest()
        signature = _signer(self.audit).sign(f"zhixing audit export 1\n{count}\n{digest}".encode()).hex()
        put({"end": count, "sha256": digest, "signature": signature})
        return count

    def _csv(self, c: Connection, file: TextIO, since: int | None, until: int | None) -> int:
        file.write("\ufeff")  # spreadsheets take it for UTF-8 only with this mark
        out, count = csv.writer(file), 0
        out.writerow(COLUMNS)
        for row in _rows(c, since, until):
            out.writerow([_cell(getattr(row, name)) for name in COLUMNS])
            count += 1
        return count


def _cell(value: object) -> object:
    """A text that a spreadsheet would run as a formula gets a mark in front."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def _rows(c: Connection, since: int | None, until: int | None) -> Any:
    # by numbers, without a gap: a clock that was set in between must not tear the chain
    first, last = _bound(c, since, until)
    while True:
        after = and_(audit_t.c.id >= first, audit_t.c.id <= last)
        page = c.execute(select(audit_t).where(after).order_by(audit_t.c.id).limit(PAGE)).all()
        if not page:
            return
        yield from page
        first = page[-1].id + 1


def _bound(c: Connection, since: int | None, until: int | None) -> tuple[int, int]:
    low = select(func.min(audit_t.c.id))
    high = select(func.max(audit_t.c.id))
    low = low if since is None else low.where(audit_t.c.at >= since)
    high = high if until is None else high.where(audit_t.c.at <= until)
    return int(c.execute(low).scalar() or 0), int(c.execute(high).scalar() or -1)


def _signer(audit: Audit) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(audit.signing_seed())
