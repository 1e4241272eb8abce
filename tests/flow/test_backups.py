"""Backups as a whole: by the clock, to another place, kept and cleared up, tried out, reviewed after a restore."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text

from security import backup_rows as rows_of
from security import backup_target
from security.backup_plan import Plan, due, kept, latest, upcoming
from security.backup_rows import facts
from security.backup_settings import BackupSettings
from security.backup_target import S3, TargetSettings
from security.backups import BackupActions
from security.egress_client import EgressClient
from security.restored import RestoredActions
from security.sigv4 import Credentials, sign
from security.step_up import StepUp
from storage import migrate
from storage.audit import Audit, audit_key
from storage.backup.restore import restore
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from storage.principal import SYSTEM, principal
from storage.settings import Settings
from storage.tables.bots import Bot
from storage.tables.schedules import Schedule
from storage.vault import Vault, master_key
from tests.fakes.probe_house import listening
from tests.fakes.s3_server import ACCESS, SECRET, FakeS3
from tests.security_house import House

DAY, HOUR = 86_400_000, 3_600_000
schedule_t = Schedule.__table__  # type: ignore[attr-defined]
bot_t = Bot.__table__  # type: ignore[attr-defined]


@dataclass
class Keep:
    """Everything around backups on one fresh data folder."""

    settings: Settings
    clock: ManualClock
    db: SqliteDatabase
    vault: Vault
    audit: Audit
    backups: BackupActions
    plan: BackupSettings
    restored: RestoredActions
    resumed: list[str]

    async def key(self) -> str:
        return await self.plan.make_key(SYSTEM)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.settings.backups_dir.glob("*.age*"))


@pytest.fixture
async def keep(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Keep]:
    settings = Settings(data=tmp_path / "data", key_file=tmp_path / "keys" / "master.key")
    migrate.prepare(settings)
    db = SqliteDatabase(settings.db_file)
    vault = Vault(master_key(settings.master_key_file, may_create=True), clock)
    with db.reader.connect() as c:
        audit = Audit(clock, audit_key(c, vault))
    egress = EgressClient(clock=clock)
    house = House(db, clock)
    step_up = StepUp(
        db=db,
        clock=clock,
        audit=audit,
        passwords=house.passwords,
        guessing=house.guessing,
        sessions=house.sessions,
        sign_in=house.sign_in,
    )
    common = {"db": db, "vault": vault, "audit": audit, "clock": clock, "egress": egress, "step_up": step_up}
    backups = BackupActions(settings=settings, **common)  # type: ignore[arg-type]
    plan = BackupSettings(folder=settings.backups_dir, data=settings.data, **common)  # type: ignore[arg-type]
    told: list[str] = []

    async def resumed() -> None:
        told.append("resumed")

    restored = RestoredActions(db=db, audit=audit, clock=clock, step_up=step_up, resumed=resumed)
    yield Keep(settings, clock, db, vault, audit, backups, plan, restored, told)
    backups.close()
    await egress.close()
    db.close()


async def test_without_a_key_nothing_is_backed_up_and_nothing_is_claimed(keep: Keep) -> None:
    with pytest.raises(Conflict, match=r"backup\.no_key"):
        await keep.backups.run(SYSTEM)
    await keep.backups.tick()
    view = await keep.backups.view(SYSTEM)
    assert (view.rows, view.next_at) == ([], 0)
    assert await keep.backups.facts() is None


async def test_a_backup_opens_with_the_key_that_was_shown_and_with_no_other(keep: Keep, tmp_path: Path) -> None:
    key = await keep.key()
    made = await keep.backups.run(SYSTEM)
    assert (made.status, made.here, made.error) == ("done", True, "")
    path = keep.settings.backups_dir / made.name
    assert path.stat().st_size == made.size
    assert keep.names() == [made.name]
    done = restore(path, key, tmp_path / "new", tmp_path / "newkeys" / "k", keep.clock)
    assert done.manifest.rows == made.rows
    assert key not in path.read_bytes().decode("latin-1")
    stored = await keep.db.read(lambda c: str(c.execute(text("SELECT group_concat(value) FROM setting")).scalar()))
    assert key not in stored
    acts = await keep.db.read(lambda c: list(c.execute(text("SELECT action FROM audit ORDER BY id")).scalars()))
    assert acts == ["backup.key", "backup.made"]


async def test_trial_restore_is_recorded_and_a_damaged_file_is_red(keep: Keep) -> None:
    await keep.key()
    made = await keep.backups.run(SYSTEM)
    tried = await keep.backups.test(SYSTEM, made.id)
    assert (tried.tested_at, tried.test_error) == (keep.clock.ms(), "")
    path = keep.settings.backups_dir / made.name
    path.write_bytes(path.read_bytes()[:-1])
    tried = await keep.backups.test(SYSTEM, made.id)
    assert tried.test_error == "backup.damaged"
    assert not (keep.settings.backups_dir / "trial").exists()
    path.unlink()
    with pytest.raises(NotFound, match=r"backup\.gone"):
        await keep.backups.test(SYSTEM, made.id)


async def test_clock_makes_one_a_day_and_tries_one_out_a_week(keep: Keep) -> None:
    await keep.key()
    await keep.plan.set_plan(SYSTEM, at="03:30", daily=3, weekly=0, monthly=0)
    for _ in range(24 * 15):
        await keep.backups.tick()
        keep.clock.advance(3600)
    view = await keep.backups.view(SYSTEM)
    made = [row for row in view.rows if row.kind == "daily"]
    assert 15 <= len(made) <= 16
    assert {row.status for row in made} == {"done"}
    tested = [row for row in made if row.tested_at]
    assert 2 <= len(tested) <= 3
    assert len(keep.names()) <= 4
    assert sum(row.here for row in view.rows) == len(keep.names())
    found = await keep.backups.facts()
    assert found is not None
    assert keep.clock.ms() - found.at < 25 * HOUR
    assert keep.clock.ms() - found.tested_at < 8 * DAY


async def test_failed_daily_backup_is_tried_again_after_an_hour(keep: Keep) -> None:
    await keep.key()
    keep.settings.master_key_file.rename(keep.settings.master_key_file.with_suffix(".away"))
    broken = keep.settings.db_file.with_suffix(".away")
    folder = keep.settings.backups_dir
    folder.mkdir(exist_ok=True)
    (folder / ".lock").mkdir()  # cannot be opened as a file
    await keep.backups.tick()
    await keep.backups.tick()
    view = await keep.backups.view(SYSTEM)
    assert [row.status for row in view.rows] == ["failed"]
    assert view.rows[0].error == "backup.disk"
    (folder / ".lock").rmdir()
    keep.settings.master_key_file.with_suffix(".away").rename(keep.settings.master_key_file)
    keep.clock.advance(3601)
    await keep.backups.tick()
    assert (await keep.backups.view(SYSTEM)).rows[0].status == "done"
    assert not broken.exists()


async def test_two_at_once_and_another_process_are_refused(keep: Keep) -> None:
    await keep.key()
    first = asyncio.create_task(keep.backups.run(SYSTEM))
    await asyncio.sleep(0)
    with pytest.raises(Conflict, match=r"backup\.running"):
        await keep.backups.run(SYSTEM)
    await first
    with keep.backups._alone(), pytest.raises(Conflict, match=r"backup\.running"):
        await keep.backups.run(SYSTEM)


async def test_what_an_ended_process_left_is_cleared_up_or_adopted(keep: Keep) -> None:
    await keep.key()
    made = await keep.backups.run(SYSTEM)
    folder = keep.settings.backups_dir
    (folder / "zhixing-1.age.part").write_bytes(b"half")
    (folder / "zhixing-1.age.copy-journal").write_bytes(b"half")
    await keep.db.write(lambda c: c.execute(text("UPDATE backup SET status = 'running', size = 0, hash = ''")).rowcount)
    await keep.db.write(lambda c: rows_of.begin(c, "daily", "zhixing-1.age", 5))
    await keep.backups.load()
    assert keep.names() == [made.name]
    rows = {row.name: row for row in (await keep.backups.view(SYSTEM)).rows}
    assert (rows[made.name].status, rows[made.name].hash) == ("done", made.hash)
    assert (rows["zhixing-1.age"].status, rows["zhixing-1.age"].error) == ("failed", "backup.cut_off")


async def test_what_a_restore_paused_acts_again_only_when_somebody_says_so(keep: Keep, tmp_path: Path) -> None:
    times = {"created_at": 1, "updated_at": 1}
    await keep.db.write(
        lambda c: (
            c.execute(insert(bot_t).values(tenant="main", name="a", type="feishu", mode="webhook", **times)) and None
        )
    )
    old = {"tenant": "main", "name": "b", "type": "feishu", "mode": "webhook", "paused_at": 7, **times}
    await keep.db.write(lambda c: c.execute(insert(bot_t).values(**old)) and None)
    job = {
        "tenant": "main",
        "name": "s",
        "kind": "prompt",
        "expression": "0 9 * * *",
        "cursor": 1,
        "next_at": 2,
        **times,
    }
    await keep.db.write(lambda c: c.execute(insert(schedule_t).values(**job)) and None)
    key = await keep.key()
    made = await keep.backups.run(SYSTEM)
    folder = tmp_path / "new"
    restore(keep.settings.backups_dir / made.name, key, folder, tmp_path / "k2", keep.clock)
    db = SqliteDatabase(folder / "db" / "zhixing.db")
    there = replace(keep.restored, db=db)
    names = select(bot_t.c.name).where(bot_t.c.paused_at.is_(None))
    try:
        assert await db.read(lambda c: list(c.execute(names).scalars())) == []
        assert await there.reviewed(SYSTEM, resume=True) == 2
        assert await db.read(lambda c: list(c.execute(names).scalars())) == ["a"]
        planned = select(schedule_t.c.paused_at, schedule_t.c.cursor)  # what passed meanwhile is not made up for
        assert await db.read(lambda c: c.execute(planned).one()) == (None, keep.clock.ms())
        assert await there.reviewed(SYSTEM, resume=True) == 0
    finally:
        db.close()
    assert keep.resumed == ["resumed"]


async def test_rights_and_values(keep: Keep) -> None:
    member = principal(id="user:9", name="m", role="member")
    auditor = principal(id="user:8", name="a", role="auditor")
    with pytest.raises(Denied):
        await keep.backups.view(member)
    await keep.backups.view(auditor)
    with pytest.raises(Denied):
        await keep.backups.run(auditor)
    old = principal(id="user:1", name="o", role="owner", session="gone")
    for act in (keep.plan.make_key(old), keep.backups.file(old, 1), keep.backups.remove(old, 1)):
        with pytest.raises(Denied, match=r"step_up\.needed"):
            await act
    for wrong in ({"at": "24:00"}, {"daily": 0}, {"weekly": 367}):
        with pytest.raises(Invalid):
            await keep.plan.set_plan(SYSTEM, **{"at": "03:30", "daily": 1, "weekly": 0, "monthly": 0, **wrong})  # type: ignore[arg-type]
    for target in (
        TargetSettings(kind="folder", path="relative"),
        TargetSettings(kind="folder", path="/a/../b"),
        TargetSettings(kind="s3", endpoint="https://user:pw@host", bucket="keep", access_key="a"),
        TargetSettings(kind="s3", endpoint="https://host/path", bucket="keep", access_key="a"),
        TargetSettings(kind="s3", endpoint="https://host", bucket="../x", access_key="a"),
        TargetSettings(kind="s3", endpoint="https://host", bucket="keep", prefix="../x", access_key="a"),
        TargetSettings(kind="ftp"),
    ):
        with pytest.raises(Invalid):
            await keep.plan.set_target(SYSTEM, target)


# ---- the other place


async def test_folder_on_another_disk_gets_a_copy_and_loses_what_is_old(keep: Keep) -> None:
    other = Path("/dev/shm") / f"zhixing-test-{keep.clock.ms()}-{id(keep)}"
    if not other.parent.is_dir() or other.parent.stat().st_dev == keep.settings.data.stat().st_dev:
        pytest.skip("/dev/shm is no other disk here")
    other.mkdir()
    try:
        await keep.key()
        await keep.plan.set_target(SYSTEM, TargetSettings(kind="folder", path=str(other)))
        await keep.plan.set_plan(SYSTEM, at="03:30", daily=1, weekly=0, monthly=0)
        made = await keep.backups.run(SYSTEM)
        assert made.away == keep.clock.ms()
        assert (other / made.name).read_bytes() == (keep.settings.backups_dir / made.name).read_bytes()
        keep.clock.advance(2 * 86400)
        later = await keep.backups.run(SYSTEM)
        assert [path.name for path in other.iterdir()] == [later.name]
        found = await keep.db.read(facts)
        assert found is not None
        assert found.off_host
    finally:
        for path in other.iterdir():
            path.unlink()
        other.rmdir()


async def test_folder_that_is_gone_or_on_the_same_disk_is_told_and_the_backup_stays(keep: Keep, tmp_path: Path) -> None:
    await keep.key()
    same = tmp_path / "same"
    same.mkdir()
    with pytest.raises(Unavailable, match=r"backup\.same_disk"):
        await keep.plan.set_target(SYSTEM, TargetSettings(kind="folder", path=str(same)))
    with pytest.raises(Unavailable, match=r"backup\.folder_missing"):
        await keep.plan.set_target(SYSTEM, TargetSettings(kind="folder", path=str(tmp_path / "none")))


async def test_store_gets_small_and_large_backups(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeS3()
    async with listening(store) as door:
        target = TargetSettings(
            kind="s3", endpoint=f"http://127.0.0.1:{door.port}", bucket="keep", prefix="a/b", access_key=ACCESS
        )
        keep.clock.jump(1000)
        await keep.key()
        with pytest.raises(Unavailable, match=r"backup\.store"):
            await keep.plan.set_target(SYSTEM, target, "wrong")
        assert store.objects == {}
        await keep.plan.set_target(SYSTEM, target, SECRET)
        assert store.objects == {}
        made = await keep.backups.run(SYSTEM)
        path = keep.settings.backups_dir / made.name
        assert store.objects == {f"a/b/{made.name}": path.read_bytes()}
        assert made.away is not None
        store.objects.clear()
        monkeypatch.setattr(backup_target, "PART", 3000)
        keep.clock.advance(60)
        made = await keep.backups.run(SYSTEM)
        path = keep.settings.backups_dir / made.name
        assert store.objects == {f"a/b/{made.name}": path.read_bytes()}
        place = S3(target, SECRET, keep.backups.egress, keep.clock)
        assert await place.names() == [made.name]
        store.fail["PUT"] = 503
        keep.clock.advance(60)
        made = await keep.backups.run(SYSTEM)
        assert (made.status, made.here, made.away, made.away_error) == ("done", True, None, "backup.store")
        assert store.uploads == {}
        tail = (await keep.backups.view(SYSTEM)).secret_tail
        assert tail == SECRET[-4:]
        acts = await keep.db.read(lambda c: str(c.execute(text("SELECT group_concat(after) FROM audit")).scalar()))
        assert SECRET not in acts


def test_signature_is_that_of_the_published_examples() -> None:
    # Amazon S3 API reference, "Authenticating Requests: Using the Authorization Header", examples 1 to 4
    credentials = Credentials(
        access_key="AKIAIOSFODNN7EXAMPLE", secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", region="us-east-1"
    )
    now, base = datetime(2013, 5, 24, tzinfo=UTC), "https://examplebucket.s3.amazonaws.com"

    def signature(method: str, path: str, **more: object) -> str:
        _, headers = sign(credentials, method, base + path, now=now, **more)  # type: ignore[arg-type]
        return headers["authorization"].rpartition("Signature=")[2]

    assert (
        signature("GET", "/test.txt", headers={"Range": "bytes=0-9"})
        == "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )
    put = {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}
    assert (
        signature("PUT", "/test$file.text", headers=put, body=b"Welcome to Amazon S3.")
        == "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )
    assert (
        signature("GET", "/", query={"lifecycle": ""})
        == "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    )
    assert (
        signature("GET", "/", query={"max-keys": "2", "prefix": "J"})
        == "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )


# ---- times


def test_when_it_is_due() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC).astimezone()
    last = int(latest("03:30", noon).timestamp() * 1000)
    assert due("03:30", last - 1, noon)
    assert not due("03:30", last, noon)
    assert upcoming("03:30", noon) > int(noon.timestamp() * 1000)


def test_what_is_kept() -> None:
    now = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp() * 1000)
    times = [now - n * DAY for n in range(400)]
    stay = kept(times, Plan(daily=7, weekly=4, monthly=6), now)
    ages = sorted((now - at) // DAY for at in stay)
    assert ages[:7] == list(range(7))
    assert len(stay) <= 7 + 4 + 6
    assert 140 < ages[-1] < 190
    assert kept([now - 1000, now - 2000, now - 3000], Plan(daily=1, weekly=0, monthly=0), now) == {
        now - 1000,
        now - 2000,
        now - 3000,
    }
