"""What a start refuses, and what it says."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import AppError, Conflict, Invalid, Unavailable
from storage.preflight import check_config, check_data, check_space, findings, open_port
from storage.settings import ROOT, Settings
from storage.words import LANGS, Words


@pytest.fixture
def not_root(tmp_path: Path) -> Iterator[None]:
    """Root may write everywhere; the check is about everybody else."""
    if os.geteuid() != 0:
        yield
        return
    for folder in (tmp_path, *tmp_path.parents[:3]):
        os.chmod(folder, 0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_data_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "data"
    check_data(folder)
    check_data(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []


def test_file_in_place_of_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    for folder in (tmp_path / "data", tmp_path / "data" / "below"):
        with pytest.raises(Invalid) as caught:
            check_data(folder)
        assert caught.value.code == "start.data_not_folder"
        assert caught.value.params["folder"] == str(folder)


def test_unwritable_data_folder(tmp_path: Path, not_root: None) -> None:
    closed = Path("/usr/share/zhixing-data")
    with pytest.raises(Unavailable) as caught:
        check_data(closed)
    assert caught.value.code == "start.data_unwritable"
    assert caught.value.params["folder"] == str(closed)
    assert caught.value.params["uid"] == os.geteuid()


def test_too_little_disk_space(tmp_path: Path) -> None:
    check_space(tmp_path, 1)
    with pytest.raises(Unavailable) as caught:
        check_space(tmp_path, 10**9)
    assert caught.value.code == "start.disk_full"


def test_port_is_listened_on_and_can_be_taken_again_after_close() -> None:
    (first,) = open_port("127.0.0.1", 0)
    port = first.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    first.close()
    (again,) = open_port("127.0.0.1", port)
    again.close()


def test_taken_port_names_its_holder() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for host in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(Conflict) as caught:
                open_port(host, port)
            assert caught.value.code == "start.port_taken"
            assert f"pid {os.getpid()}" in str(caught.value.params["holder"])


def test_address_of_another_machine() -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(Invalid) as caught:
            open_port(host, 0)
        assert (caught.value.code, caught.value.field) == ("start.host_unknown", "ZHIXING_HOST")


def test_port_that_the_system_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(Invalid) as caught:
        open_port("127.0.0.1", 80)
    assert caught.value.code == "start.port_denied"


def test_settings_file_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "zhixing.env"
    path.write_text("ZHIXING_PORT=1\n")
    path.chmod(0o644)
    with pytest.raises(Invalid) as caught:
        check_config(tmp_path)
    assert caught.value.code == "start.env_open"
    path.chmod(0o600)
    check_config(tmp_path)


def test_findings_are_collected_and_leave_the_port_free(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", port=0)
    assert findings(settings) == []
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        (tmp_path / "file").write_text("x")
        bad = Settings(data=tmp_path / "file", port=other.getsockname()[1])
        assert [error.code for error in findings(bad)] == ["start.data_not_folder", "start.port_taken"]


@pytest.mark.parametrize("lang", LANGS)
def test_refusals_read_as_sentences(lang: str, tmp_path: Path) -> None:
    words = Words(ROOT / "assets" / "locale")
    error: AppError = Conflict("start.port_taken", port=18789, holder="nginx (pid 7)")
    text = words.say(lang, f"error.{error.code}", **error.params)
    assert "18789" in text
    assert "nginx (pid 7)" in text
    assert "ZHIXING_PORT" in words.say(lang, f"error.{error.code}.remedy", **error.params)
