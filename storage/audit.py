"""The audit log: appended in the act's own transaction, each row's hash covering the row before it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, text

from storage.clock import Clock
from storage.principal import TENANT, Principal
from storage.tables.system import AuditRow
from storage.vault import Vault

audit_t = AuditRow.__table__  # type: ignore[attr-defined]
FIRST = "0" * 64
AUDIT_SECRET = "system:audit"  # noqa: S105 - names a secret, holds none
FIELDS = ("tenant", "at", "who", "who_name", "action", "target", "before", "after", "ip", "session", "result")

# The table itself refuses changes; the chain finds what goes around the table.
GUARDS = (
    "CREATE TRIGGER IF NOT EXISTS audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'append only'); END",
    "CREATE TRIGGER IF NOT EXISTS audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'append only'); END",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainResult:
    """Outcome of a verification.

    Attributes:
        broken_at: id of the first row that does not fit, or None.
        anchor: how the end fits the note outside of the database (`storage.anchor`): `ok`, `missing`, `forged`,
            `cut`, `empty`; "" where it was not looked at.
    """

    rows: int
    broken_at: int | None = None
    last_hash: str = FIRST
    anchor: str = ""

    @property
    def whole(self) -> bool:
        """True if nothing was changed, removed or cut off, as far as it was looked at."""
        return self.broken_at is None and self.anchor in ("", "ok", "empty")


def audit_key(c: Connection, vault: Vault) -> bytes:
    """The key of the chain: derived from the first master key, kept in the vault once that was replaced."""
    kept = vault.open(c, TENANT, AUDIT_SECRET)
    return vault.derive("audit") if kept is None else bytes.fromhex(kept)


class Audit:
    """The only writer of the audit table.

    Attributes:
        written: counts entries, so that others can tell cheaply whether there are new ones.
        on_record: told the action of each entry, in the writer's thread; it must not block or raise.
        in_record: takes part in the transaction of an entry: who, action, target; it must not raise.
    """

    def __init__(self, clock: Clock, key: bytes) -> None:
        self.clock, self._key = clock, key
        self.written = 0
        self.on_record: Callable[[str], None] = lambda _: None
        self.in_record: Callable[[Connection, Principal, str, str], None] = lambda c, who, action, target: None

    def record(
        self,
        c: Connection,
        who: Principal,
        action: str,
        target: str,
        before: object = None,
        after: object = None,
        result: str = "ok",
    ) -> None:
        """Append one act. Call it inside the act's own write, so that neither exists without the other.

        Args:
            action: `<noun>.<verb>`, e.g. `bot.pause`.
            before, after: what changed; JSON-able, without secrets.
        """
        last = c.execute(select(audit_t.c.hash).order_by(audit_t.c.id.desc()).limit(1)).first()
        prev = FIRST if last is None else str(last.hash)
        row: dict[str, object] = {
            "tenant": who.tenant,
            "at": self.clock.ms(),
            "who": who.id,
            "who_name": who.name,
            "action": action,
            "target": target,
            "before": _json(before),
            "after": _json(after),
            "ip": who.ip or "",
            "session": (who.session or "")[:12],
            "result": result,
        }
        c.execute(insert(audit_t).values(**row, prev=prev, hash=self.digest(prev, row)))
        self.written += 1
        self.on_record(action)
        self.in_record(c, who, action, target)

    def digest(self, prev: str, row: dict[str, object]) -> str:
        """HMAC-SHA256 over the previous hash and the row's fields as canonical JSON."""
        body = json.dumps([prev, *(row[name] for name in FIELDS)], ensure_ascii=False, separators=(",", ":"))
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()

    def seal(self, text: str) -> str:
        """A MAC under the chain's key for what is kept outside of the database."""
        return hmac.new(self._key, b"anchor\n" + text.encode(), hashlib.sha256).hexdigest()

    def signing_seed(self) -> bytes:
        """32 bytes from which the exports' signing key is made."""
        return hashlib.blake2b(b"audit export", key=self._key[:32], digest_size=32).digest()

    def verify(self, c: Connection) -> ChainResult:
        """Walk the whole chain. Runs in a reader thread; memory stays bounded."""
        prev, rows, last_id = FIRST, 0, 0
        while True:
            page = c.execute(select(audit_t).where(audit_t.c.id > last_id).order_by(audit_t.c.id).limit(1000)).all()
            if not page:
                return ChainResult(rows=rows, last_hash=prev)
            for row in page:
                values = {name: getattr(row, name) for name in FIELDS}
                if row.prev != prev or not hmac.compare_digest(self.digest(prev, values), row.hash):
                    return ChainResult(rows=rows, broken_at=row.id, last_hash=prev)
                prev, last_id, rows = row.hash, row.id, rows + 1


def guard(c: Connection) -> None:
    """Install the triggers that refuse changes (SQLite)."""
    if c.dialect.name == "sqlite":
        for statement in GUARDS:
            c.execute(text(statement))


def _json(value: object) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)[:8000]
