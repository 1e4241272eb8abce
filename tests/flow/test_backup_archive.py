"""Backups on disk: whole they come back as they were; cut, changed, hostile or with a wrong key they are refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from storage import migrate
from storage.audit import Audit, audit_key
from storage.backup.archive import Member, read_archive, write_archive
from storage.backup.key import encrypt, new_key, public_of, read_key
from storage.backup.manifest import DATABASE, Manifest, good_name, read_manifest
from storage.backup.restore import restore, trial, unfinished
from storage.backup.review import state_of
from storage.backup.snapshot import count_rows, members, take_snapshot
from storage.clock import ManualClock
from storage.database import sqlite_engine
from storage.errors import AppError, Conflict, Invalid, TooLarge
from storage.principal import SYSTEM, TENANT
from storage.settings import Settings
from storage.tables.bots import Bot
from storage.tables.ledger import Job
from storage.tables.people import Session
from storage.vault import Vault, master_key

bot_t, job_t, session_t = Bot.__table__, Job.__table__, Session.__table__  # type: ignore[attr-defined]
MANY = 10_000_000_000
EMPTY = Manifest(version="0.1.0", revision="0001", at=1000, files={}, tables={})


@pytest.fixture(scope="module")
def keys() -> tuple[str, str]:
    return new_key()


@pytest.fixture
def settings(tmp_path: Path, clock: ManualClock) -> Settings:
    """An installation with something of everything."""
    made = Settings(data=tmp_path / "data", key_file=tmp_path / "keys" / "master.key")
    migrate.prepare(made)
    vault = Vault(master_key(made.master_key_file, may_create=True), clock)
    engine = sqlite_engine(made.db_file, size=1)
    with engine.begin() as c:
        audit = Audit(clock, audit_key(c, vault))
        vault.seal(c, TENANT, "bot:1:app_secret", "a canary that nobody may read")
        audit.record(c, SYSTEM, "bot.create", "b")
        times = {"created_at": 1, "updated_at": 1}
        c.execute(insert(bot_t).values(tenant=TENANT, name="b", type="feishu", mode="webhook", **times))
        c.execute(
            insert(session_t).values(id="s", tenant=TENANT, role="owner", created_at=1, seen_at=1, expires_at=MANY)
        )
        c.execute(insert(job_t).values(tenant=TENANT, key="k", lane="l", kind="message", status="todo", created_at=1))
        c.execute(text("CREATE VIRTUAL TABLE words USING fts5(text, content='')"))
        c.execute(text("INSERT INTO words (rowid, text) VALUES (1, 'hello there')"))
    engine.dispose()
    for name, content in {
        "files/main/报告 2026 终稿.txt": "你好" * 5000,
        f"files/main/{'长' * 80}.txt": "x",
        "files/main/empty": "",
        "index/graph-1-0.hnsw": "graph",
        "index/e5-abc-v1.onnx": "large and made again",
        "config/llm.yaml": "providers: []\n",
        "zhixing.env": "ZHIXING_PORT=1\n",
    }.items():
        path = made.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (made.files_dir / "link").symlink_to("/etc/passwd")
    return made


def back_up(settings: Settings, folder: Path, recipients: list[str]) -> tuple[Path, Manifest]:
    target = folder / "b.age"
    shot = take_snapshot(settings, folder / "copy.db", 1000)
    manifest = write_archive(target, members(settings, shot), shot.manifest, recipients)
    shot.copy.unlink()
    return target, manifest


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    c = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return {name: sorted(c.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr) for name in count_rows(c)}
    finally:
        c.close()


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_every_table_and_file_comes_back_and_what_can_act_is_paused(
    settings: Settings, keys: tuple[str, str], tmp_path: Path, clock: ManualClock
) -> None:
    archive, manifest = back_up(settings, tmp_path, [keys[1]])
    assert b"canary" not in archive.read_bytes()
    assert archive.stat().st_mode & 0o777 == 0o600
    folder, key_file = tmp_path / "new", tmp_path / "newkeys" / "master.key"
    done = restore(archive, keys[0], folder, key_file, clock)
    assert done.paused == {"bot": 1, "job": 1, "session": 1}
    before, after = dump(settings.db_file), dump(folder / "db" / "zhixing.db")
    changed = {"bot", "job", "session", "audit", "setting"}
    assert {name: rows for name, rows in before.items() if name not in changed} == {
        name: rows for name, rows in after.items() if name not in changed
    }
    assert after["session"] == []
    assert len(after["audit"]) == len(before["audit"]) + 1
    assert key_file.read_bytes() == settings.master_key_file.read_bytes()
    for name in ("files/main/报告 2026 终稿.txt", f"files/main/{'长' * 80}.txt", "files/main/empty", "zhixing.env"):
        assert (folder / name).read_bytes() == (settings.data / name).read_bytes()
    assert not (folder / "files" / "link").exists()
    assert not (folder / "index" / "e5-abc-v1.onnx").exists()
    assert not (folder / ".restoring").exists()
    engine = sqlite_engine(folder / "db" / "zhixing.db", size=1)
    with engine.connect() as c:
        vault = Vault(master_key(key_file, may_create=False), clock)
        assert vault.open(c, TENANT, "bot:1:app_secret") == "a canary that nobody may read"
        assert Audit(clock, audit_key(c, vault)).verify(c).broken_at is None
        state = state_of(c)
        assert state is not None
        assert state["paused"] == {"bot": [1]}
        assert c.execute(text("SELECT status, reason FROM job")).one() == ("cancelled", "restore.ended")
    engine.dispose()
    assert manifest.rows == sum(len(rows) for rows in before.values())


def test_trial_proves_and_leaves_nothing(
    settings: Settings, keys: tuple[str, str], tmp_path: Path, clock: ManualClock
) -> None:
    archive, manifest = back_up(settings, tmp_path, [new_key()[1], keys[1]])
    assert trial(archive, keys[0], tmp_path / "trial", clock).manifest == manifest
    assert not (tmp_path / "trial").exists()


def test_key_as_people_type_it(keys: tuple[str, str]) -> None:
    assert read_key(f"  {keys[0].lower()[:30]}\n {keys[0].lower()[30:]} ") == keys[0]
    assert public_of(keys[0]) == keys[1]
    with pytest.raises(Invalid, match=r"backup\.key"):
        read_key("AGE-SECRET-KEY-1QQQQ")


def refused(archive: Path, key: str, tmp_path: Path, clock: ManualClock) -> str:
    """The code of the refusal; nothing may be left, nothing be written beside."""
    box = tmp_path / "box"
    box.mkdir(exist_ok=True)
    before = tree(tmp_path)
    with pytest.raises(AppError) as error:
        restore(archive, key, box / "data", box / "keys" / "master.key", clock)
    assert tree(tmp_path) - before <= {"box/data"}
    assert list((box / "data").iterdir() if (box / "data").exists() else ()) == []
    return error.value.code


def test_wrong_key_cut_and_changed_files_are_refused(
    settings: Settings, keys: tuple[str, str], tmp_path: Path, clock: ManualClock
) -> None:
    archive, _ = back_up(settings, tmp_path, [keys[1]])
    assert refused(archive, new_key()[0], tmp_path, clock) == "backup.wrong_key"
    whole, broken = archive.read_bytes(), tmp_path / "broken.age"
    for size in (0, 10, 150, 300, len(whole) // 2, len(whole) - 1):
        broken.write_bytes(whole[:size])
        expected = {"backup.not_ours"} if size < 20 else {"backup.damaged"}
        assert refused(broken, keys[0], tmp_path, clock) in expected, size
    for place in (25, 250, len(whole) // 2, len(whole) - 5):
        broken.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert refused(broken, keys[0], tmp_path, clock) in {"backup.damaged", "backup.wrong_key"}, place
    broken.write_bytes(whole + b"more")
    assert refused(broken, keys[0], tmp_path, clock) == "backup.damaged"
    assert refused(tmp_path / "none.age", keys[0], tmp_path, clock) == "restore.no_file"


def sealed(path: Path, plain: bytes, public: str) -> Path:
    with path.open("wb") as out:
        encrypt(io.BytesIO(plain), out, [public])
    return path


def packed(fill: Callable[[tarfile.TarFile], None], *, manifest: bytes | None = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        fill(tar)
        if manifest is not None:
            data = manifest or EMPTY.to_json()
            info = tarfile.TarInfo("manifest.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue())


def file(
    name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> Callable[[tarfile.TarFile], None]:
    def fill(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.type, info.linkname = len(data), kind, link
        tar.addfile(info, io.BytesIO(data))

    return fill


def both(*fills: Callable[[tarfile.TarFile], None]) -> Callable[[tarfile.TarFile], None]:
    return lambda tar: [fill(tar) for fill in fills] and None


NAMES = (
    "../outside",
    "files/../../outside",
    "/etc/cron.d/x",
    "//etc/x",
    "files//x",
    "files/./x",
    "files/",
    "files",
    "db/other.db",
    "db/zhixing.db-wal",
    "logs/x",
    "C:/x",
    "C:\\x",
    "files\\..\\x",
    "files/a\\b",
    "files/a\nb",
    "files/\x01",
    "files/\x7f",
    "key/../key/master.key",
    "key/other",
    ".ssh/authorized_keys",
    "zhixing.env/x",
    "~/x",
    "files/" + "a" * 256,
    "files/" + "/".join(["d" * 200] * 6),
    "FILES/x",
    "config/..",
    "manifest.json/../x",
    "./files/x",
    "",
)
KINDS = (
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    tarfile.DIRTYPE,
    tarfile.CONTTYPE,
    tarfile.GNUTYPE_SPARSE,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.GNUTYPE_LONGLINK,
)


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_names_that_lead_elsewhere(name: str, keys: tuple[str, str], tmp_path: Path, clock: ManualClock) -> None:
    assert not good_name(name)
    archive = sealed(tmp_path / "h.age", packed(file(name)), keys[1])
    assert refused(archive, keys[0], tmp_path, clock) in {"backup.hostile", "backup.damaged"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.decode())
def test_what_is_no_plain_file(kind: bytes, keys: tuple[str, str], tmp_path: Path, clock: ManualClock) -> None:
    fill = file("files/x", b"" if kind in KINDS[:6] else b"x", kind, "/etc/passwd")
    archive = sealed(tmp_path / "h.age", packed(fill), keys[1])
    assert refused(archive, keys[0], tmp_path, clock) in {"backup.hostile", "backup.damaged"}


def manifest_of(**files: bytes) -> bytes:
    entries = {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
    return Manifest(version="1", revision="0001", at=1, files=entries, tables={}).to_json()


HOSTILE = {
    "twice": packed(both(file("files/x"), file("files/x"))),
    "file as folder": packed(both(file("files/x"), file("files/x/y"))),
    "folder as file": packed(both(file("files/x/y"), file("files/x"))),
    "after the manifest": packed(both(file("manifest.json", EMPTY.to_json()), file("files/x"))),
    "not in the manifest": packed(file("files/x")),
    "only in the manifest": packed(lambda _: None, manifest=manifest_of(**{"files/x": b"x"})),
    "other content": packed(file("files/x", b"y"), manifest=manifest_of(**{"files/x": b"x"})),
    "no manifest": packed(file("files/x"), manifest=None),
    "manifest is no object": packed(file("files/x"), manifest=b"[]"),
    "manifest is deep": packed(file("files/x"), manifest=b"[" * 100_000),
    "manifest names the outside": packed(
        file("files/x"), manifest=EMPTY.to_json().replace(b'"files": {}', b'"files": {"../x": [1, "a"]}')
    ),
    "no database": packed(lambda _: None),
    "long name without end": packed(file("././@LongLink", b"a" * 5000, tarfile.GNUTYPE_LONGNAME)),
    "not packed": b"hello",
    "empty": b"",
    "only zeros": gzip.compress(bytes(100_000)),
    "noise": gzip.compress(bytes(range(256)) * 40),
    "negative size": gzip.compress(b"files/x".ljust(124, b"\0") + b"-0000000001\0" + bytes(376)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives(case: str, keys: tuple[str, str], tmp_path: Path, clock: ManualClock) -> None:
    archive = sealed(tmp_path / "h.age", HOSTILE[case], keys[1])
    assert refused(archive, keys[0], tmp_path, clock) in {"backup.hostile", "backup.damaged"}


def test_bomb_is_stopped_by_what_the_disk_has(keys: tuple[str, str], tmp_path: Path) -> None:
    bomb = sealed(tmp_path / "h.age", packed(file("files/x", bytes(50_000_000))), keys[1])
    assert bomb.stat().st_size < 200_000
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(TooLarge):
        read_archive(bomb, keys[0], into, most_bytes=10_000_000)
    assert sum(path.stat().st_size for path in into.rglob("*") if path.is_file()) == 0


def test_newer_format_and_newer_data_are_told_apart(
    settings: Settings, keys: tuple[str, str], tmp_path: Path, clock: ManualClock
) -> None:
    raw = json.loads(EMPTY.to_json()) | {"format": 9, "version": "9.0"}
    with pytest.raises(Invalid, match=r"backup\.newer"):
        read_manifest(json.dumps(raw).encode())
    c = sqlite3.connect(settings.db_file)
    c.execute("UPDATE alembic_version SET version_num = '9999'")
    c.commit()
    c.close()
    archive, _ = back_up(settings, tmp_path, [keys[1]])
    assert refused(archive, keys[0], tmp_path, clock) == "start.data_newer"


def test_changed_audit_log_and_swapped_secret_in_a_backup_are_found(
    settings: Settings, keys: tuple[str, str], tmp_path: Path, clock: ManualClock
) -> None:
    c = sqlite3.connect(settings.db_file)
    c.execute("UPDATE secret SET name = 'bot:2:app_secret'")
    c.commit()
    archive, _ = back_up(settings, tmp_path, [keys[1]])
    assert refused(archive, keys[0], tmp_path, clock) == "vault.damaged"
    c.execute("UPDATE secret SET name = 'bot:1:app_secret'")
    c.execute("DROP TRIGGER audit_no_update")
    c.execute("UPDATE audit SET who = 'somebody else'")
    c.commit()
    c.close()
    archive, _ = back_up(settings, tmp_path, [keys[1]])
    assert refused(archive, keys[0], tmp_path, clock) == "audit.broken"


def test_a_folder_that_holds_something_and_another_key_are_left_alone(
    settings: Settings, keys: tuple[str, str], tmp_path: Path, clock: ManualClock
) -> None:
    archive, _ = back_up(settings, tmp_path, [keys[1]])
    before = tree(settings.data)
    with pytest.raises(Conflict, match=r"restore\.not_empty"):
        restore(archive, keys[0], settings.data, settings.master_key_file, clock)
    assert tree(settings.data) == before
    other = tmp_path / "other.key"
    master_key(other, may_create=True)
    kept = other.read_bytes()
    with pytest.raises(Conflict, match=r"restore\.key_taken"):
        restore(archive, keys[0], tmp_path / "new", other, clock)
    assert other.read_bytes() == kept
    assert list((tmp_path / "new").iterdir()) == []
    assert not unfinished(tmp_path / "new")


def test_damaged_database_makes_no_backup(settings: Settings, tmp_path: Path) -> None:
    c = sqlite3.connect(settings.db_file)
    c.execute("CREATE TABLE filler (a TEXT)")
    c.executemany("INSERT INTO filler VALUES (?)", [("x" * 900,) for _ in range(500)])
    c.commit()
    c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    c.close()
    data = bytearray(settings.db_file.read_bytes())
    for place in range(len(data) // 8192 * 4096, len(data), 4096):  # the heads of half of the pages
        data[place : place + 100] = b"\xff" * 100
    settings.db_file.write_bytes(data)
    with pytest.raises(AppError) as error:
        back_up(settings, tmp_path, [new_key()[1]])
    assert error.value.code == "db.damaged"


def test_full_disk_leaves_no_half_archive(settings: Settings, keys: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "b.age.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        write_archive(tmp_path / "b.age", [Member(name=DATABASE, path=settings.db_file)], EMPTY, [keys[1]])
    assert not list(tmp_path.glob("b.age*"))
