"""The real process: starts, says what it needs to say, refuses with a remedy, ends, and starts again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from storage.settings import ROOT, VERSION
from tests.serving import Serving, refusal

CODE = r"\b[A-Z0-9]{4}-[A-Z0-9]{4}-[A-Z0-9]{4}\b"


def test_first_start_prints_address_and_code_and_leaves_no_stray_file(tmp_path: Path) -> None:
    with Serving(tmp_path) as server:
        assert server.address in server.said
        server.heard(CODE)
        status, text = server.get("/setup/code")
        assert status == 200
        assert "code" in text
        assert server.get("/healthz")[0] == 200
        assert server.stop() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "master.key"]
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600
    assert "Traceback" not in server.said, server.said


def test_second_start_keeps_what_was_written_and_shows_the_code_again_until_it_is_used(tmp_path: Path) -> None:
    with Serving(tmp_path) as first:
        first.heard(CODE)
    with Serving(tmp_path) as second:
        second.heard(CODE)
        assert second.get("/readyz")[0] == 200


def test_start_after_kill(tmp_path: Path) -> None:
    with Serving(tmp_path) as first:
        first.stop(signal.SIGKILL)
    with Serving(tmp_path) as second:
        assert second.get("/readyz")[0] == 200


def test_ends_on_interrupt_without_a_trace(tmp_path: Path) -> None:
    with Serving(tmp_path) as server:
        assert server.stop(signal.SIGINT) in (0, 130, -2)
    assert "Traceback" not in server.said


def test_taken_port_names_its_holder(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, said = refusal(tmp_path, ZHIXING_PORT=str(port))
    told(code, said, str(port), f"pid {os.getpid()}", "ZHIXING_PORT")


def test_second_process_on_the_same_data(tmp_path: Path) -> None:
    with Serving(tmp_path) as first:
        code, said = refusal(tmp_path)
        told(code, said, str(first.process.pid), "ZHIXING_DATA")
        assert first.get("/readyz")[0] == 200


def test_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    told(*refusal(tmp_path), str(tmp_path / "data"), "ZHIXING_DATA")


def test_data_folder_of_somebody_else(tmp_path: Path) -> None:
    told(*refusal(tmp_path, ZHIXING_DATA="/proc/zhixing"), "/proc/zhixing", "ZHIXING_DATA")


def test_wrong_port_setting(tmp_path: Path) -> None:
    told(*refusal(tmp_path, ZHIXING_PORT="eighty"), "eighty")


def test_address_of_another_machine(tmp_path: Path) -> None:
    told(*refusal(tmp_path, ZHIXING_HOST="192.0.2.1", ZHIXING_ACCEPT_PLAIN="1"), "192.0.2.1", "ZHIXING_HOST")


def test_wide_listener_without_encryption(tmp_path: Path) -> None:
    told(*refusal(tmp_path, ZHIXING_HOST="0.0.0.0"), "0.0.0.0", "ZHIXING_ACCEPT_PLAIN")


def test_data_of_a_newer_version(tmp_path: Path) -> None:
    with Serving(tmp_path):
        pass
    c = sqlite3.connect(tmp_path / "data" / "db" / "zhixing.db")
    c.execute("UPDATE alembic_version SET version_num = '9999'")
    c.commit()
    c.close()
    told(*refusal(tmp_path), "9999")


def test_lost_master_key_is_not_replaced_where_secrets_exist(tmp_path: Path) -> None:
    with Serving(tmp_path):
        pass
    c = sqlite3.connect(tmp_path / "data" / "db" / "zhixing.db")
    c.execute(
        "INSERT INTO secret (tenant, name, key_id, box, tail, updated_at) VALUES ('main', 'bot:1:s', 'k', '', '', 1)"
    )
    c.commit()
    c.close()
    told(*refusal(tmp_path), "bot:1:s", "ZHIXING_KEY_FILE")
    (tmp_path / "master.key").unlink()
    told(*refusal(tmp_path), "master.key", "ZHIXING_KEY_FILE")
    assert not (tmp_path / "master.key").exists()


def told(code: int, said: str, *parts: str) -> None:
    """A refusal: an exit code, every part in its text in both languages, and no trace of a program."""
    assert code not in (0, -9), said
    assert "Traceback" not in said
    assert [part for part in parts if part not in said] == []
    assert re.search("[\u4e00-\u9fff]", said), "not in Chinese"
    assert len(said) < 3000


@pytest.mark.parametrize("command", [("version",), ("doctor",)])
def test_commands_that_serve_nothing(tmp_path: Path, command: tuple[str, ...]) -> None:
    env = {**os.environ, "ZHIXING_DATA": str(tmp_path / "data"), "ZHIXING_KEY_FILE": str(tmp_path / "key")}
    env["ZHIXING_PORT"] = "0"
    result = subprocess.run(
        [sys.executable, str(ROOT / "app.py"), *command], env=env, capture_output=True, text=True, timeout=50
    )
    assert result.returncode == 0, result.stderr
    assert VERSION in result.stdout
    assert "Traceback" not in result.stderr


def test_run_serves_from_a_ready_environment(tmp_path: Path) -> None:
    """./run itself, as the README says it: a copy of the project with this environment in place."""
    here = tmp_path / "project"
    rooms = ("agent", "assets", "channels", "deploy", "pages", "routes", "security", "storage")
    for room in rooms:
        shutil.copytree(ROOT / room, here / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run", "app.py", "door.py", "house.py", "requirements.txt"):
        shutil.copy(ROOT / name, here / name)
    (here / ".venv" / "bin").mkdir(parents=True)
    (here / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (here / ".venv" / "bin" / "python").chmod(0o755)
    made = subprocess.run(
        [
            "sh",
            "-c",
            f"here={here}; . {here}/deploy/environment.sh; stamp_of requirements.txt >$venv/made-from-requirements.txt",
        ],
        check=True,
        timeout=20,
    )
    assert made.returncode == 0
    with Serving(tmp_path, command=(str(here / "run"),)) as server:
        server.heard(CODE)
        assert server.stop() == 0
