"""Probes of the layers data and operations: each has a fixture that turns it red."""

from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from security.checklist import Finding
from security.probes import data, operations
from security.probes.facts import BackupFacts, Facts
from storage.audit import audit_t
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.principal import TENANT, principal
from storage.vault import Vault
from tests.fakes.probe_house import LOOPBACK, TLS, good, listening
from tests.security_house import House

ADMIN = principal(id="user:1", name="anna", role="owner")
DAY = 86_400_000
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
async def facts(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Facts]:
    async with good(House(db, clock), tmp_path) as facts:
        yield facts


def says(found: Finding) -> str:
    return f"{found.status} {found.say}"


async def nowhere(host: str, port: int) -> list[str]:
    raise OSError(host)


# --- data


async def test_red_secrets(facts: Facts) -> None:
    await facts.db.write(lambda c: facts.vault.seal(c, TENANT, "bot:1:secret", "value"))
    other = Vault(b"x" * 32, facts.clock)
    assert says(await data.secrets(replace(facts, vault=other))) == "fail broken"

    class Nameless(Vault):
        def seal(self, c: object, tenant: str, name: str, value: str) -> None:
            super().seal(c, tenant, name, value)  # type: ignore[arg-type]

        def open(self, c: object, tenant: str, name: str) -> str | None:
            return "canary-canary-canary"

    nameless = replace(facts, vault=Nameless(b"k" * 32, facts.clock))
    assert says(await data.secrets(nameless)) == "fail swapped"
    assert says(await data.secrets(facts)) == "pass sealed"


async def test_red_plain(facts: Facts) -> None:
    path = facts.settings.config_dir / "llm.yaml"
    path.write_text("api_key: ${DEEPSEEK_KEY}\n")
    assert says(await data.plain(facts)) == "pass none"
    path.write_text("api_key: sk-abcdefghijklmnopqrstuvwx\n")
    assert says(await data.plain(facts)) == "fail found"
    path.unlink()
    row = "INSERT INTO setting (tenant, key, value, updated_at) VALUES ('main', 'x', ?, 1)"
    text = json.dumps({"client_secret": "a" * 30})
    await facts.db.write(lambda c: c.exec_driver_sql(row, (text,)))
    assert says(await data.plain(facts)) == "fail found"


async def test_red_key_file_and_its_fix(facts: Facts) -> None:
    path = facts.settings.master_key_file
    path.chmod(0o644)
    assert says(await data.key_file(facts)) == "fail open"
    await data.fix_key_file(facts)
    assert says(await data.key_file(facts)) == "pass apart"
    inside = facts.settings.data / "master.key"
    shutil.copy(path, inside)
    assert says(await data.key_file(replace(facts, settings=replace(facts.settings, key_file=inside)))) == "warn inside"
    gone = replace(facts.settings, key_file=facts.settings.data / "none")
    assert says(await data.key_file(replace(facts, settings=gone))) == "fail missing"


async def test_red_modes_and_their_fix(facts: Facts) -> None:
    facts.settings.data.chmod(0o755)
    assert says(await data.modes(facts)) == "fail open"
    await data.fix_modes(facts)
    assert says(await data.modes(facts)) == "pass closed"
    gone = replace(facts.settings, data=facts.settings.data / "none")
    assert says(await data.modes(replace(facts, settings=gone))) == "unknown missing"


async def test_disk_is_green_only_for_an_encrypted_device(facts: Facts, tmp_path: Path) -> None:
    device = facts.settings.data.stat().st_dev
    block, nodes = tmp_path / "block", tmp_path / "nodes"
    for name in ("dm-1", "dm-0", "vda"):
        (nodes / name / "slaves").mkdir(parents=True)
    (nodes / "dm-1" / "slaves" / "dm-0").symlink_to(nodes / "dm-0")
    (nodes / "dm-0" / "slaves" / "vda").symlink_to(nodes / "vda")
    block.mkdir()
    (block / f"{os.major(device)}:{os.minor(device)}").symlink_to(nodes / "dm-1")
    looked = replace(facts, block=block)
    assert says(await data.disk(looked)) == "unknown unseen"
    (nodes / "dm-0" / "dm").mkdir()
    (nodes / "dm-0" / "dm" / "uuid").write_text("LVM-abc")
    assert says(await data.disk(looked)) == "unknown unseen"
    (nodes / "dm-0" / "dm" / "uuid").write_text("CRYPT-LUKS2-abc")
    assert says(await data.disk(looked)) == "pass encrypted"
    missing = replace(facts, block=tmp_path / "none")
    assert says(await data.disk(missing)) == "unknown unseen"
    assert says(await data.disk(replace(missing, attested=lambda _: True))) == "unknown declared"


async def test_red_database(facts: Facts, tmp_path: Path) -> None:
    path = facts.db.path  # type: ignore[attr-defined]
    await facts.db.write(lambda c: c.exec_driver_sql("CREATE TABLE filler (a TEXT)"))
    await facts.db.write(
        lambda c: c.exec_driver_sql("INSERT INTO filler VALUES (?)", [("x" * 500,) for _ in range(2000)])
    )
    await facts.db.write(lambda c: None)
    copy = tmp_path / "broken.db"
    import sqlite3

    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    raw = bytearray(copy.read_bytes())
    middle = len(raw) - 200 * 4096
    raw[middle : middle + 4096 * 20] = b"\xff" * 4096 * 20
    copy.write_bytes(raw)
    broken = SqliteDatabase(copy)
    try:
        assert (await data.database(replace(facts, db=broken))).status == "fail"
    finally:
        broken.close()


async def test_red_space(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    for total, free, expected in (
        (10**12, 10**8, "fail little"),
        (10**12, 10**10, "warn little"),
        (10**12, 10**11, "pass enough"),
    ):
        usage = Usage(total, total - free, free)
        monkeypatch.setattr(data.shutil, "disk_usage", lambda _, usage=usage: usage)
        assert says(await data.space(facts)) == expected


async def test_red_backup(facts: Facts) -> None:
    now = facts.clock.ms()
    young = BackupFacts(at=now - 3_600_000, size=100, before=100, tested_at=now - DAY, off_host=True)
    for found, expected in (
        (None, "fail none"),
        (replace(young, at=now - 2 * DAY), "fail old"),
        (replace(young, size=40), "fail shrunk"),
        (replace(young, tested_at=0), "warn untried"),
        (replace(young, off_host=False), "warn here_only"),
        (young, "pass good"),
    ):

        async def backup(found: BackupFacts | None = found) -> BackupFacts | None:
            return found

        assert says(await data.backup(replace(facts, backup=backup))) == expected


# --- operations


async def test_red_audit(facts: Facts) -> None:
    for trigger in ("audit_no_update", "audit_no_delete"):
        await facts.db.write(lambda c, trigger=trigger: c.exec_driver_sql(f"DROP TRIGGER {trigger}"))
    assert says(await operations.audit_guard(facts)) == "fail taken"
    assert says(await operations.audit(facts)) == "pass whole"
    await facts.db.write(lambda c: c.exec_driver_sql("UPDATE audit SET who = 'eve' WHERE id = 1"))
    assert says(await operations.audit(facts)) == "fail broken"
    await facts.db.write(lambda c: c.execute(audit_t.delete()))
    assert says(await operations.audit(facts)) == "unknown empty"
    assert says(await operations.audit_guard(facts)) == "unknown empty"


@pytest.mark.parametrize(("skew", "expected"), [(0, "pass right"), (-7, "warn wrong"), (90, "fail wrong")])
async def test_red_clock(facts: Facts, skew: float, expected: str) -> None:
    facts.egress._skews.extend([skew, skew, 0])
    assert says(await operations.clock(facts)) == expected


async def test_the_clock_is_compared_with_real_answers(facts: Facts, clock: ManualClock) -> None:
    from security.egress import ADMIN as OPEN

    async with listening(front_that_answers) as door:
        for _ in range(4):
            facts.egress._skew_at = 0
            await facts.egress.request("GET", f"http://127.0.0.1:{door.port}/", policy=OPEN)
    assert (await operations.clock(facts)).status == "fail"  # the test's clock stands still in another year


async def front_that_answers(scope: object, receive: object, send: Callable[..., object]) -> None:
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})  # type: ignore[misc]
    await send({"type": "http.response.body", "body": b""})  # type: ignore[misc]


async def test_red_dependencies(facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = replace(facts, root=tmp_path)
    assert says(await operations.dependencies(elsewhere)) == "unknown no_lock"
    (tmp_path / "requirements.txt").write_text("httpx==0.0.1 \\\n    --hash=sha256:x\n")
    assert says(await operations.dependencies(elsewhere)) == "warn other"
    monkeypatch.setitem(operations.FLOORS, "httpx", "99")
    assert says(await operations.dependencies(facts)) == "fail old"


async def test_red_rights(facts: Facts, tmp_path: Path) -> None:
    proc, run = tmp_path / "proc", tmp_path / "run"
    proc.mkdir()
    run.mkdir()

    def looks(uid: int, caps: str, gain: int) -> Facts:
        text = f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{caps}\nNoNewPrivs:\t{gain}\n"
        (proc / "status").write_text(text)
        return replace(facts, proc=proc, run=run)

    assert says(await operations.rights(looks(1000, "0" * 16, 1))) == "pass least"
    assert says(await operations.rights(looks(1000, "0" * 16, 0))) == "pass plain_user"
    assert says(await operations.rights(replace(looks(1000, "0" * 16, 0), exposure=TLS))) == "warn may_gain"
    assert says(await operations.rights(looks(1000, "0" * 15 + "1", 1))) == "warn capabilities"
    assert says(await operations.rights(looks(0, "f" * 16, 0))) == "warn root"
    assert says(await operations.rights(replace(looks(0, "f" * 16, 0), exposure=TLS))) == "fail root"
    (run / "docker.sock").write_text("")
    assert says(await operations.rights(looks(1000, "0" * 16, 1))) == "fail docker"
    (proc / "status").write_text("nothing\n")
    (run / "docker.sock").unlink()
    assert says(await operations.rights(replace(facts, proc=proc, run=run))) == "unknown unreadable"


async def test_red_people(facts: Facts, clock: ManualClock) -> None:
    clock.advance(91 * 86_400)
    assert says(await operations.people(facts)) == "warn gone"
    await facts.db.write(lambda c: c.exec_driver_sql("UPDATE user SET role = 'member'"))
    assert says(await operations.people(facts)) == "unknown nobody"


async def test_what_people_must_do_is_due_until_declared(facts: Facts) -> None:
    for probe in (operations.patches, operations.drill):
        assert says(await probe(facts)) == "warn due"
        assert says(await probe(replace(facts, attested=lambda _: True))) == "pass done"


def test_loopback_is_the_default_of_these_facts() -> None:
    assert LOOPBACK.how == "loopback"


async def test_red_reminders_until_somebody_declares_them(facts: Facts) -> None:
    for probe in (operations.patches, operations.drill):
        assert says(await probe(facts)) == "warn due"
        assert says(await probe(replace(facts, attested=lambda _: True))) == "pass done"


async def test_red_end_of_the_audit_log(facts: Facts) -> None:
    assert says(await operations.audit(facts)) == "pass whole"
    for state in ("cut", "forged"):
        assert says(await operations.audit(replace(facts, anchor=lambda _, state=state: state))) == f"fail {state}"
    assert says(await operations.audit(replace(facts, anchor=lambda _: "missing"))) == "warn unanchored"
