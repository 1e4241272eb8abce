"""The audit log: whatever is removed, edited, moved or cut off is found, inside, at its end, and in an export."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import Connection, text

from security.audit_export import AuditExport
from security.audit_view import AuditActions
from storage.anchor import Anchor
from storage.audit import Audit, guard
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Denied
from storage.principal import SYSTEM, principal
from storage.settings import ROOT, Settings

AUDITOR = principal(id="user:2", name="审计员", role="auditor")


class Log:
    """A log with an anchor on a clock of its own."""

    def __init__(self, db: SqliteDatabase, clock: ManualClock, folder: Path) -> None:
        (folder / "keys").mkdir()
        self.settings = Settings(data=folder / "data", key_file=folder / "keys" / "master.key")
        self.settings.data.mkdir()
        self.db, self.clock, self.audit = db, clock, Audit(clock, b"a" * 32)
        self.anchor = Anchor(self.settings, db, clock, self.audit)
        self.view = AuditActions(db=db, audit=self.audit, anchor=self.anchor)
        self.export = AuditExport(db=db, audit=self.audit, clock=clock, folder=folder / "out")

    async def act(self, count: int) -> None:
        for n in range(count):
            self.clock.advance(1)
            before, after = {"name": f"旧 {n}"}, {"name": f"new {n}"}
            await self.db.write(
                lambda c, n=n, b=before, a=after: self.audit.record(c, SYSTEM, "bot.update", f"b{n}", b, a)
            )  # type: ignore[misc]

    async def tamper(self, *statements: str) -> None:
        def run(c: Connection) -> None:
            c.execute(text("DROP TRIGGER IF EXISTS audit_no_update"))
            c.execute(text("DROP TRIGGER IF EXISTS audit_no_delete"))
            for statement in statements:
                c.execute(text(statement))

        await self.db.write(run)

    async def verdict(self) -> tuple[bool, int | None, str]:
        found = await self.view.verify(AUDITOR)
        return found.whole, found.broken_at, found.anchor


@pytest.fixture
async def log(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> Log:
    await db.write(guard)
    made = Log(db, clock, tmp_path)
    await made.act(20)
    await made.anchor.start()
    return made


SWAP = (
    "UPDATE audit SET id = -1 WHERE id = 5",
    "UPDATE audit SET id = 5 WHERE id = 6",
    "UPDATE audit SET id = 6 WHERE id = -1",
)
TAMPERED = {
    "removed": (("DELETE FROM audit WHERE id = 7",), 8),
    "first removed": (("DELETE FROM audit WHERE id = 1",), 2),
    "edited": (("UPDATE audit SET target = 'x' WHERE id = 9",), 9),
    "edited before": (("UPDATE audit SET before = '' WHERE id = 9",), 9),
    "time moved": (("UPDATE audit SET at = at + 1 WHERE id = 3",), 3),
    "reordered": (SWAP, 5),
    "doubled": (
        (
            "INSERT INTO audit SELECT 100, tenant, at, who, who_name, action, target, before, after, ip, session,"
            " result, prev, hash FROM audit WHERE id = 20",
        ),
        100,
    ),
}


@pytest.mark.parametrize("case", TAMPERED)
async def test_tampering_inside_is_found(log: Log, case: str) -> None:
    assert await log.verdict() == (True, None, "ok")
    statements, broken = TAMPERED[case]
    await log.tamper(*statements)
    assert (await log.verdict())[:2] == (False, broken)


@pytest.mark.parametrize("left", [20, 12, 1, 0])
async def test_a_cut_off_end_is_found_also_when_the_log_goes_on(log: Log, left: int) -> None:
    await log.tamper(f"DELETE FROM audit WHERE id > {left}")
    assert await log.verdict() == (False, None, "cut")
    await log.act(30)
    await log.anchor.note()
    assert await log.verdict() == (False, None, "cut")


async def test_the_end_may_grow_and_the_note_follows(log: Log) -> None:
    noted = log.anchor.path.read_text()
    await log.act(3)
    assert await log.verdict() == (True, None, "ok")
    await log.anchor.note()
    assert log.anchor.path.read_text() != noted
    assert log.anchor.path.stat().st_mode & 0o777 == 0o600
    assert log.anchor.path.parent == log.settings.master_key_file.parent
    again = log.anchor.path.stat().st_mtime_ns
    await log.anchor.note()
    assert log.anchor.path.stat().st_mtime_ns == again


async def test_an_older_note_a_forged_one_and_none_are_told_apart(log: Log) -> None:
    older = log.anchor.path.read_text()
    body = json.loads(json.loads(older)[0])
    for broken in ("", "{}", "[]", json.dumps([json.dumps({**body, "id": 3}), json.loads(older)[1]]), '["x", "é"]'):
        log.anchor.path.write_text(broken)
        assert (await log.verdict())[2] == "forged", broken
    log.anchor.path.unlink()
    assert await log.verdict() == (False, None, "missing")
    rows = (await log.view.verify(AUDITOR)).rows
    await Anchor(log.settings, log.db, log.clock, log.audit).start()
    assert await log.verdict() == (True, None, "ok")
    newest = (await log.view.list(AUDITOR, limit=1))[0]
    assert (newest.action, newest.before["state"]) == ("audit.anchor", "missing")
    assert (await log.view.verify(AUDITOR)).rows == rows + 1


async def test_note_lies_in_the_data_folder_where_the_keys_place_is_closed(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.anchor.path.unlink()
    monkeypatch.setattr("storage.anchor.os.access", lambda *_: False)
    assert log.anchor.path.parent == log.settings.data
    await log.anchor.renew(SYSTEM)
    assert await log.verdict() == (True, None, "ok")


async def test_filters_and_what_can_be_chosen(log: Log) -> None:
    await log.db.write(lambda c: log.audit.record(c, AUDITOR, "audit.export", "x"))
    nouns, people = await log.view.known(AUDITOR)
    assert nouns == ["audit", "bot"]
    assert people == [("system", "system"), ("user:2", "审计员")]
    found = await log.view.list(AUDITOR, action="bot.", limit=5)
    assert [entry.target for entry in found] == ["b19", "b18", "b17", "b16", "b15"]
    assert [e.id for e in await log.view.list(AUDITOR, by="user:2")] == [22]
    with pytest.raises(Denied):
        await log.view.list(principal(id="user:3", name="m", role="operator"))


# ---- exports


def script() -> ModuleType:
    """The script of the documentation, as its own module: nothing of ours is imported by it."""
    place = ROOT / "docs" / "verify_audit.py"
    assert "storage" not in place.read_text()
    found = importlib.util.spec_from_file_location("verify_audit", place)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


async def test_export_is_checked_by_the_script_of_the_documentation(log: Log) -> None:
    check: Callable[..., str] = script().check
    path = await log.export.write(AUDITOR)
    key = log.export.public_key()
    assert check(path, key) == ""
    assert check(path) == ""
    assert "another key" in check(path, "00" * 32)
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 21 + 1

    def changed(new: list[str]) -> str:
        other = path.with_name("changed.jsonl")
        other.write_text("".join(new))
        return check(other, key)

    cases = {
        "removed": lines[:5] + lines[6:],
        "reordered": [*lines[:5], lines[6], lines[5], *lines[7:]],
        "edited": [*lines[:5], lines[5].replace("bot.update", "bot.remove"), *lines[6:]],
        "cut off": lines[:-1],
        "cut inside": lines[:8],
        "end moved": [*lines[:8], lines[-1]],
        "first removed": [lines[0], *lines[2:]],
        "more after the end": [*lines, lines[5]],
        "head changed": [lines[0].replace("zhixing", "Zhixing"), *lines[1:]],
        "empty": [],
        "noise": ["hello\n"],
    }
    for name, new in cases.items():
        assert changed(new) != "", name
    end = json.loads(lines[-1])
    signature = end["signature"]
    for place in random.Random(4).sample(range(len(signature)), 8):
        other = "0" if signature[place] != "0" else "1"
        forged = {**end, "signature": signature[:place] + other + signature[place + 1 :]}
        assert "signature" in changed([*lines[:-1], json.dumps(forged)]), place
    resigned = _signed_by_somebody_else(lines)
    assert "another key" in changed(resigned)


def _signed_by_somebody_else(lines: list[str]) -> list[str]:
    """A whole export of a stranger's making: right in itself, but not under the key that the auditor noted."""
    import hashlib

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    signer = Ed25519PrivateKey.generate()
    head = {**json.loads(lines[0]), "key": signer.public_key().public_bytes_raw().hex()}
    body = [json.dumps(head) + "\n", lines[1]]
    digest = hashlib.sha256("".join(body).encode()).hexdigest()
    signature = signer.sign(f"zhixing audit export 1\n1\n{digest}".encode()).hex()
    return [*body, json.dumps({"end": 1, "sha256": digest, "signature": signature}) + "\n"]


async def test_part_of_the_time_and_the_table(log: Log) -> None:
    entries = await log.view.list(AUDITOR, limit=50)
    middle = next(entry.at for entry in entries if entry.id == 10)
    path = await log.export.write(AUDITOR, since=middle)
    assert script().check(path, log.export.public_key()) == ""
    assert '"id":10,' in path.read_text().splitlines()[1]
    await log.db.write(lambda c: log.audit.record(c, SYSTEM, "bot.update", "=HYPERLINK(1)"))
    table = (await log.export.write(AUDITOR, "csv")).read_text("utf-8")
    assert table.startswith("\ufeffid,tenant,at")
    assert "'=HYPERLINK(1)" in table
    with pytest.raises(Denied):
        await log.export.write(principal(id="user:3", name="m", role="operator"))
    log.clock.jump(10**9)
    await log.export.write(AUDITOR)
    assert len(list(log.export.folder.iterdir())) == 1


async def test_empty_log_has_nothing_to_hide(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> None:
    made = Log(db, clock, tmp_path)
    await made.anchor.start()
    assert await made.verdict() == (True, None, "empty")
    path = await made.export.write(AUDITOR)
    assert script().check(path, made.export.public_key()) == ""
