"""`kill -9` while data is backed up, restored, migrated, sealed with another key: nothing is lost, whatever the point.

Each point once; `ZHIXING_KILL_ROUNDS=10` kills ten times where a point is visited more than once.
"""

from __future__ import annotations

import base64
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from storage import migrate
from storage.audit import Audit, audit_key
from storage.clock import Clock
from storage.crash import KEEPING
from storage.database import sqlite_engine
from storage.rotation import next_file, read_master_key
from storage.settings import ROOT, Settings
from storage.vault import Vault
from tests.flow.test_upgrades import columns_of, content
from tests.released import KEY, unpack

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

ROUNDS = int(os.environ.get("ZHIXING_KILL_ROUNDS", "1"))
RELEASE = "zhixing-0.1.0"
# What the commands themselves write.
WRITTEN = ("audit", "backup", "setting", "secret", "session", "bot", "hook", "schedule", "job", "delivery", "approval")
VISITS = {"restore.extracting": 3, "restore.moving": 2}


def command(settings: Settings, *words: str, typed: str = "", crash: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of the real program."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ZHIXING_") and k != "DATABASE_URL"}
    env = clean | {
        "ZHIXING_DATA": str(settings.data),
        "ZHIXING_KEY_FILE": str(settings.master_key_file),
        "ZHIXING_EMBEDDER": "none",
        "ZHIXING_CRASH_AT": crash,
    }
    return subprocess.run(
        [sys.executable, str(ROOT / "app.py"), *words],
        env=env,
        input=typed,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def killed(settings: Settings, *words: str, point: str, typed: str = "", turn: int = 0) -> None:
    crash = f"{point}:{1 + turn % VISITS.get(point, 1)}"
    done = command(settings, *words, typed=typed, crash=crash)
    assert done.returncode == -signal.SIGKILL, f"{point} was not reached: {done.stdout}{done.stderr}"


def fine(settings: Settings, *words: str, typed: str = "") -> str:
    done = command(settings, *words, typed=typed)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def whole(settings: Settings) -> int:
    """Pages, references, every secret and the chain of the audit log; returns how many entries it has."""
    engine = sqlite_engine(settings.db_file, size=1)
    try:
        with engine.connect() as c, c.begin():
            assert c.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert c.exec_driver_sql("PRAGMA foreign_key_check").first() is None
            vault = Vault(read_master_key(settings.master_key_file, c), Clock())
            vault.check(c)
            for row in c.exec_driver_sql("SELECT tenant, name FROM secret").all():
                assert vault.open(c, row[0], row[1])
            found = Audit(Clock(), audit_key(c, vault)).verify(c)
            assert found.broken_at is None
            return found.rows
    finally:
        engine.dispose()


def lasting(path: Path) -> dict[str, list[tuple[object, ...]]]:
    return {name: rows for name, rows in content(path).items() if name not in WRITTEN}


def points(kind: str) -> list[tuple[str, int]]:
    return [(p, turn) for p in KEEPING if p.startswith(kind) for turn in range(ROUNDS if p in VISITS else 1)]


@pytest.fixture(scope="module")
def backed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, str, Path]:
    """An installation of the present version with one backup: settings, recovery key, file."""
    settings = unpack(RELEASE, tmp_path_factory.mktemp("backed"))
    for n in range(3):
        path = settings.files_dir / "main" / f"file {n}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content {n}" * 1000)
    key, file = fine(settings, "backup", "--new-key").split()
    return settings, key, Path(file)


def test_no_point_is_forgotten() -> None:
    kinds = ("backup.", "restore.", "migrate.", "rotate.")
    assert [p for p in KEEPING if not p.startswith(kinds)] == []


@pytest.mark.parametrize(("point", "turn"), points("backup."))
def test_backup(point: str, turn: int, backed: tuple[Settings, str, Path], tmp_path: Path) -> None:
    settings, key, _ = backed
    before, entries = lasting(settings.db_file), whole(settings)
    killed(settings, "backup", point=point, turn=turn)
    assert whole(settings) >= entries
    assert lasting(settings.db_file) == before
    file = Path(fine(settings, "backup").strip())
    c = sqlite3.connect(settings.db_file)
    done = {row[0] for row in c.execute("SELECT name FROM backup WHERE status = 'done'")}
    c.close()
    assert {path.name for path in settings.backups_dir.glob("*.age")} == done  # what has its name is whole, and listed
    assert not [path for path in settings.backups_dir.iterdir() if ".part" in path.name or ".copy" in path.name]
    there = Settings(data=tmp_path / "there", key_file=tmp_path / "k" / "master.key")
    fine(there, "restore", str(file), typed=key + "\n")
    assert lasting(there.db_file) == before


@pytest.mark.parametrize(("point", "turn"), points("restore."))
def test_restore(point: str, turn: int, backed: tuple[Settings, str, Path], tmp_path: Path) -> None:
    settings, key, file = backed
    there = Settings(data=tmp_path / "there", key_file=tmp_path / "k" / "master.key")
    killed(there, "restore", str(file), typed=key + "\n", point=point, turn=turn)
    done = command(there, "restore", str(file), typed=key + "\n")
    if point in ("restore.marked", "restore.moving"):  # whole before it was killed: brought to its end, and told so
        assert done.returncode == 1, done.stdout
        assert "restore.was_done" not in done.stderr
        assert RELEASE not in done.stderr
    else:
        assert done.returncode == 0, done.stderr
    whole(there)
    assert lasting(there.db_file) == lasting(settings.db_file)
    assert {p.name: p.read_text() for p in (there.files_dir / "main").iterdir()} == {
        p.name: p.read_text() for p in (settings.files_dir / "main").iterdir()
    }
    assert not (there.data / ".restoring").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"there", "k"}


@pytest.mark.parametrize(("point", "turn"), points("migrate."))
def test_migration(point: str, turn: int, tmp_path: Path) -> None:
    settings = unpack(RELEASE, tmp_path)
    before, columns = content(settings.db_file), columns_of(settings.db_file)
    killed(settings, "create-admin", "--name", "late", typed="some quiet river 41 stones\n", point=point, turn=turn)
    assert content(settings.db_file, columns) == before  # the old one or the new one, and nothing between
    fine(settings, "create-admin", "--name", "late", typed="some quiet river 41 stones\n")
    assert migrate.revision(settings.db_file) == migrate.revisions()[-1]
    after = content(settings.db_file, columns)
    assert {name: rows for name, rows in after.items() if name not in ("user", "audit")} == {
        name: rows for name, rows in before.items() if name not in ("user", "audit")
    }
    assert len(after["user"]) == len(before["user"]) + 1
    whole(settings)


@pytest.mark.parametrize(("point", "turn"), points("rotate."))
def test_rotation(point: str, turn: int, tmp_path: Path) -> None:
    settings = unpack(RELEASE, tmp_path)
    migrate.prepare(settings)
    entries = whole(settings)
    killed(settings, "rotate-key", point=point, turn=turn)
    assert whole(settings) >= entries
    assert not next_file(settings.master_key_file).exists()
    now = base64.b64decode(settings.master_key_file.read_text())
    assert (now == KEY) == (point == "rotate.written")
    fine(settings, "rotate-key")
    assert whole(settings) > entries
    assert base64.b64decode(settings.master_key_file.read_text()) not in (now, KEY)
    assert settings.master_key_file.stat().st_mode & 0o777 == 0o600


def test_start_refuses_a_half_restored_folder(backed: tuple[Settings, str, Path], tmp_path: Path) -> None:
    _, key, file = backed
    there = Settings(data=tmp_path / "there", key_file=tmp_path / "k" / "master.key")
    killed(there, "restore", str(file), typed=key + "\n", point="restore.verified")
    done = command(there, "serve")
    assert done.returncode == 1
    assert ".restoring" in done.stderr
    assert not there.db_file.exists()


def test_restored_chain_goes_on(backed: tuple[Settings, str, Path], tmp_path: Path) -> None:
    _, key, file = backed
    there = Settings(data=tmp_path / "there", key_file=tmp_path / "k" / "master.key")
    fine(there, "restore", str(file), typed=key + "\n")
    entries = whole(there)
    fine(there, "create-admin", "--name", "late", typed="some quiet river 41 stones\n")
    assert whole(there) == entries + 1
    c = sqlite3.connect(there.db_file)
    assert c.execute("SELECT count(*) FROM bot WHERE paused_at IS NULL").fetchone()[0] == 0
    c.close()
