"""./run on machines that lack something, and on those that have it all. Python and pip are stood in for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from storage.settings import ROOT

TOOLS = ("sh", "awk", "cat", "cksum", "df", "dirname", "id", "readlink", "rm", "tail", "tee", "mkdir", "cp", "chmod")

# Answers as a Python of $VERSION would; makes an environment whose python is itself; notes every call.
PYTHON = """#!/bin/sh
echo "$(basename "$0") $*" >>"$NOTES"
case "$*" in
    *version_info\\[:2*) echo "$VERSION" ;;
    *version_info\\[1*) echo "${VERSION#* }" ;;
    *ensurepip*) [ -z "$NO_VENV" ] ;;
    "-m venv"*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-m pip install"*)
        env >"$NOTES.env"
        for last; do :; done
        if grep -q "$PIP_LACKS" "$last"; then echo "ERROR: No matching distribution found for $PIP_LACKS"; exit 1; fi
        echo "Collecting everything" ;;
esac
"""


class Machine:
    """A folder with ./run in it, and a PATH on which only chosen programs are."""

    def __init__(self, tmp_path: Path) -> None:
        self.here, self.bin, self.notes = tmp_path / "project", tmp_path / "bin", tmp_path / "notes"
        self.bin.mkdir()
        (self.here / "deploy").mkdir(parents=True)
        for name in ("run", "deploy/environment.sh"):
            shutil.copy(ROOT / name, self.here / name)
        (self.here / "requirements.txt").write_text(
            "nicegui==1 \\\n    --hash=sha256:1\nvoyager==1 \\\n    --hash=sha256:2\n"
        )
        for name in (*TOOLS, "basename", "env", "grep"):
            found = shutil.which(name)
            assert found, name
            (self.bin / name).symlink_to(found)
        self.env = {
            "PATH": str(self.bin),
            "NOTES": str(self.notes),
            "VERSION": "3 12",
            "PIP_LACKS": "^none",
            "NO_VENV": "",
        }

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *args: str, user: int | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", str(self.here / "run"), *args],
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=30,
            user=user,
        )

    def calls(self, part: str) -> list[str]:
        return [line for line in self.notes.read_text().splitlines() if part in line] if self.notes.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def refused(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """It ended with a message that has every part, and with nothing of a trace."""
    assert result.returncode == 1
    assert [part for part in parts if part not in result.stderr] == []
    assert "not found" not in result.stderr
    assert result.stdout == ""


def test_no_python(machine: Machine) -> None:
    refused(machine.run(), "没有找到 Python", "No Python was found", "apt install python3 python3-venv")


def test_python_too_old(machine: Machine) -> None:
    machine.program("python3", PYTHON)
    refused(machine.run(VERSION="3 10"), "版本太旧", "too old", "python3=3.10", "python3.11 python3.11-venv")
    refused(machine.run(VERSION="2 7"), "python3=2.7")


def test_python_without_venv(machine: Machine) -> None:
    machine.program("python3", PYTHON)
    refused(
        machine.run(NO_VENV="1"),
        "缺少 venv 模块",
        "venv module is missing",
        "apt install python3-venv",
        "python3.12-venv",
    )


def test_newest_supported_python_is_chosen_and_broken_ones_are_passed_over(machine: Machine) -> None:
    machine.program("python3.12", "#!/bin/sh\necho 'shim: no such version' >&2\nexit 127\n")
    machine.program("python3.11", PYTHON)
    machine.program("python3", PYTHON)
    assert machine.run(VERSION="3 11").returncode == 0
    assert machine.calls("-m venv")[0].startswith("python3.11 ")


def test_python_named_by_the_user(machine: Machine, tmp_path: Path) -> None:
    machine.program("python3", PYTHON)
    own = tmp_path / "my python" / "python3.13"
    own.parent.mkdir()
    own.write_text(PYTHON)
    own.chmod(0o755)
    result = machine.run(ZHIXING_PYTHON=str(own), VERSION="3 13")
    assert result.returncode == 0
    assert machine.calls("-m venv")[0].startswith("python3.13 ")
    assert "voyager" in result.stderr


def test_disk_full(machine: Machine) -> None:
    machine.program("python3", PYTHON)
    machine.program("df", "#!/bin/sh\necho head\necho /dev/x 9 9 1048576 9% /\n")
    refused(machine.run(), "只剩 1024 MB", "1024 MB left", "1536 MB")
    assert not (machine.here / ".venv").exists()


def test_unwritable_folder(machine: Machine) -> None:
    machine.program("python3", PYTHON)
    user = 65534 if os.geteuid() == 0 else None
    for folder in (machine.here, *machine.here.parents[:4]):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o755)
    if user is None:
        machine.here.chmod(0o555)
    refused(machine.run(user=user), "无法写入目录", "cannot be written", "chown")


def test_install_that_fails_says_how_to_name_a_mirror_and_is_tried_again(machine: Machine) -> None:
    machine.program("python3", PYTHON)
    refused(
        machine.run(PIP_LACKS="nicegui"),
        "依赖安装失败",
        "No matching distribution found for nicegui",
        "PIP_INDEX_URL=https://",
    )
    assert machine.run().returncode == 0
    assert len(machine.calls("-m venv")) == 1
    assert len(machine.calls("-m pip install")) == 2


def test_newer_python_without_vector_wheels_goes_on_with_words(machine: Machine) -> None:
    machine.program("python3", PYTHON)
    result = machine.run(VERSION="3 14", PIP_LACKS="voyager")
    assert result.returncode == 0
    assert "记忆只按词语检索" in result.stderr
    assert "memory finds by words" in result.stderr
    reduced = (machine.here / ".venv" / "reduced.txt").read_text()
    assert reduced == "nicegui==1 \\\n    --hash=sha256:1\n"


def test_second_start_does_nothing_but_start(machine: Machine) -> None:
    machine.program("python3", PYTHON)
    machine.run("version", "--all")
    machine.notes.unlink()
    result = machine.run("create-admin", "--name", "a b")
    assert result.returncode == 0
    assert result.stderr == ""
    app = machine.here / "app.py"
    assert machine.notes.read_text() == f"python {app} create-admin --name a b\n"


def test_changed_lock_is_installed(machine: Machine) -> None:
    machine.program("python3", PYTHON)
    machine.run()
    lock = machine.here / "requirements.txt"
    lock.write_text(lock.read_text().replace("nicegui==1", "nicegui==2"))
    machine.run()
    assert len(machine.calls("-m pip install")) == 2
    assert len(machine.calls("-m venv")) == 1


def test_environment_whose_python_is_gone_is_made_again(machine: Machine) -> None:
    machine.program("python3", PYTHON)
    machine.run()
    (machine.here / ".venv" / "bin" / "python").unlink()
    machine.run()
    assert len(machine.calls("-m venv")) == 2


def test_mirror_reaches_pip_and_stray_variables_do_not(machine: Machine) -> None:
    machine.program("python3", PYTHON)
    machine.run(PIP_INDEX_URL="https://mirror.example/simple", PIP_USER="1", PYTHONDONTWRITEBYTECODE="1")
    env = Path(f"{machine.notes}.env").read_text().splitlines()
    assert "PIP_INDEX_URL=https://mirror.example/simple" in env
    assert [line for line in env if line.startswith(("PIP_USER=", "PYTHONDONT"))] == []
    (call,) = machine.calls("-m pip install")
    for option in ("--require-hashes", "--no-compile", "--only-binary :all:"):
        assert option in call


def test_data_stands_beside_the_program_unless_set(machine: Machine) -> None:
    machine.program("python3", PYTHON.replace("case", 'echo "data $ZHIXING_DATA" >>"$NOTES"\ncase', 1))
    machine.run()
    machine.run(ZHIXING_DATA="/srv/zhixing")
    told = [line for line in machine.calls("data ") if line != "data "]
    assert told == [f"data {machine.here}/data", "data /srv/zhixing"]
