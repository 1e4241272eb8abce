"""The disk is full, the database is locked, pages are damaged, a log is gone: the real process, between fake vendors.

`../shared/reference/security.md` R4 to R6. `ZHIXING_LOCKED_SECONDS=60` holds the database for a whole minute.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import httpx
import pytest

from storage import reserve, soundness
from storage.errors import Unavailable
from storage.settings import ROOT, Settings
from tests.crash.kill_house import KillHouse, Question
from tests.serving import Serving

pytestmark = pytest.mark.timeout(240)
LOCKED_SECONDS = float(os.environ.get("ZHIXING_LOCKED_SECONDS", "8"))


async def delivered_by_vendors(house: KillHouse, client: httpx.AsyncClient, questions: list[Question]) -> list[int]:
    """Post them once; the vendor's view: status codes. Those acknowledged are noted."""
    assert house.server is not None

    async def post(question: Question) -> int:
        posted = house.events.posted(question.raw)
        began = time.monotonic()
        answer = await client.post(
            f"{house.server.address}/webhooks/feishu/hr-bot",  # type: ignore[union-attr]
            content=posted.body,
            headers=posted.headers,
        )
        assert time.monotonic() - began < 4.0, "a vendor gives up after three seconds"
        if answer.status_code == 200:
            house.acknowledged.add(question.tag)
        return answer.status_code

    return list(await asyncio.gather(*(post(question) for question in questions)))


async def until_all_are_taken(house: KillHouse, client: httpx.AsyncClient, seconds: float) -> None:
    """As vendors do: what was not acknowledged comes again."""
    async with asyncio.timeout(seconds):
        while house.unacknowledged:
            await delivered_by_vendors(house, client, house.unacknowledged)
            await asyncio.sleep(0.3)


async def test_locked_database_answers_503_and_loses_nothing(tmp_path: Path) -> None:
    async with KillHouse(tmp_path) as house, httpx.AsyncClient(trust_env=False, timeout=20) as client:
        house.model.gate.set()
        server = await house.start()
        house.ask("feishu", 12)
        assert set(await delivered_by_vendors(house, client, house.questions[:4])) == {200}
        await house.settled()
        other = sqlite3.connect(tmp_path / "data" / "db" / "zhixing.db", timeout=5, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        began, slow = time.monotonic(), []
        codes: list[int] = []

        async def look() -> None:
            """The loop stays free: what needs no write is answered at once."""
            while time.monotonic() - began < LOCKED_SECONDS:
                at = time.monotonic()
                assert (await client.get(f"{server.address}/healthz")).status_code == 200
                assert (await client.get(f"{server.address}/setup/code")).status_code == 200
                slow.append(time.monotonic() - at)
                await asyncio.sleep(0.1)

        watching = asyncio.create_task(look())
        while time.monotonic() - began < LOCKED_SECONDS - 1:
            codes += await delivered_by_vendors(house, client, house.questions[4:])
            await asyncio.sleep(0.2)
        await watching
        other.execute("ROLLBACK")
        other.close()
        assert set(codes) == {503}
        assert sorted(slow)[int(len(slow) * 0.9)] < 1.0
        await until_all_are_taken(house, client, 30)
        await house.settled()
        assert set(house.answers().values()) == {1}
        assert len(house.answers()) == 12


async def test_full_disk_answers_503_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user name spaces here, so no small disk can be mounted")
    async with KillHouse(tmp_path) as house, httpx.AsyncClient(trust_env=False, timeout=20) as client:
        house.model.gate.set()
        data = tmp_path / "data"
        shutil.copytree(data, tmp_path / "first")
        mount = f"mount -t tmpfs -o size=300m,mode=700 tmpfs {data} && cp -a {tmp_path}/first/. {data}/"
        run = f"{mount} && exec {sys.executable} {ROOT}/app.py serve"
        server = house.server = Serving(
            tmp_path, command=("unshare", "-Urm", "sh", "-c", run), wait=False, ZHIXING_ALLOW_LOCAL_VENDORS="1"
        )
        await asyncio.to_thread(server.__enter__)
        await asyncio.to_thread(server.ready)
        inside = Path(f"/proc/{server.process.pid}/root{data}")
        house.ask("feishu", 30)
        assert set(await delivered_by_vendors(house, client, house.questions[:6])) == {200}
        filler = inside / "filler"
        await asyncio.to_thread(fill, filler)
        codes: list[int] = []
        for _ in range(40):  # the log's own file may still hold a little
            codes += await delivered_by_vendors(house, client, house.unacknowledged)
            if 503 in codes:
                break
            house.ask("feishu", 20)
        assert 503 in codes
        assert (await client.get(f"{server.address}/setup/code")).status_code == 200
        assert (await client.get(f"{server.address}/healthz")).status_code == 200
        acknowledged = set(house.acknowledged)
        await asyncio.to_thread(filler.unlink)
        began = time.monotonic()
        await until_all_are_taken(house, client, 30)
        assert time.monotonic() - began < 30
        async with asyncio.timeout(60):
            while len(house.answers()) < len(house.questions):
                await asyncio.sleep(0.1)
        assert set(house.answers().values()) == {1}
        assert acknowledged <= set(house.answers())
        assert server.process.poll() is None, "it goes on without a restart"


def fill(path: Path) -> None:
    """Take all room there is."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def cut_off(folder: Path) -> Path:
    """A folder whose process was killed; returns its database."""
    with Serving(folder) as server:
        server.stop(signal.SIGKILL)
    return folder / "data" / "db" / "zhixing.db"


def stands_still(folder: Path, *words: str) -> None:
    """It serves nothing but the news, changes nothing, and names what helps."""
    file = folder / "data" / "db" / "zhixing.db"
    before = file.read_bytes()
    with Serving(folder, wait=False) as server:
        for word in words:
            server.heard(word)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                assert server.get("/healthz")[0] == 200
                break
            except OSError:
                time.sleep(0.05)
        assert server.get("/readyz")[0] == 503
        assert server.get("/webhooks/feishu/x")[0] == 503
        status, page = server.get("/login")
        assert status == 503
        assert "数据库" in page
        assert "Traceback" not in server.said, server.said
    assert file.read_bytes() == before


def test_damaged_pages_are_found_and_nothing_is_emptied(tmp_path: Path) -> None:
    file = cut_off(tmp_path)
    backups = tmp_path / "data" / "backups"
    backups.mkdir(exist_ok=True)
    (backups / "zhixing-20261124-000000.age").write_bytes(b"the last good one")
    c = sqlite3.connect(file)  # its log goes into the file, so that what is damaged is what is read
    c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    c.close()
    Path(f"{file}-wal").touch()
    whole = file.read_bytes()
    pages = len(whole) // 4096
    seen = random.Random(6).sample(range(1, pages), 12)
    for number in seen[1:]:
        data = bytearray(whole)
        data[number * 4096 : number * 4096 + 64] = b"\xa5" * 64
        file.write_bytes(data)
        with pytest.raises(Unavailable, match=r"start\.database_damaged"):
            soundness.look(Settings(data=tmp_path / "data"))  # what the start does, without a process each
    data = bytearray(whole)
    data[seen[0] * 4096 : seen[0] * 4096 + 64] = b"\xa5" * 64
    file.write_bytes(data)
    stands_still(tmp_path, "zhixing-20261124-000000.age", "python app.py restore")
    file.write_bytes(whole)
    with Serving(tmp_path) as server:
        assert server.get("/readyz")[0] == 200


def test_a_lost_log_is_found_and_a_clean_end_leaves_no_mark(tmp_path: Path) -> None:
    file = cut_off(tmp_path)
    log = Path(f"{file}-wal")
    kept = log.read_bytes()
    assert kept
    log.unlink()
    stands_still(tmp_path, "-wal", "db/open")
    log.write_bytes(kept)
    with Serving(tmp_path) as server:
        assert server.get("/readyz")[0] == 200
        assert (tmp_path / "data" / "db" / "open").exists()
    assert not (tmp_path / "data" / "db" / "open").exists()


def test_a_command_after_a_kill_leaves_no_false_alarm(tmp_path: Path) -> None:
    cut_off(tmp_path)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ZHIXING_")}
    env = clean | {"ZHIXING_DATA": str(tmp_path / "data"), "ZHIXING_KEY_FILE": str(tmp_path / "master.key")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "app.py"), "create-admin", "--name", "late"],
        env=env,
        input="some quiet river 41 stones\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with Serving(tmp_path) as server:
        assert server.get("/readyz")[0] == 200


def test_reserve_is_taken_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    free = 10_000 * 1_048_576
    monkeypatch.setattr(reserve.shutil, "disk_usage", lambda _: usage(20_000 * 1_048_576, 0, free))
    monkeypatch.setattr(reserve, "SIZE", 1_048_576)
    made = reserve.Reserve(tmp_path)
    assert not made.look()
    assert made.path.stat().st_blocks * 512 >= 1_048_576
    free = 400 * 1_048_576
    assert made.look()
    assert made.path.exists()
    free = 1000
    assert made.look()
    assert not made.path.exists()
