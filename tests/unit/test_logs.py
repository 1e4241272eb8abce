"""Logs: whole lines, no secrets, bounded, never in the way."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import logs
from storage.logs import Logs, Redactor, tail


@pytest.fixture
def console() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def running(tmp_path: Path, console: io.StringIO) -> Iterator[Logs]:
    root = logging.getLogger()
    level, quiet = root.level, {name: logging.getLogger(name).level for name in logs.QUIET}
    made = Logs(tmp_path / "logs", console=console)
    made.start()
    yield made
    made.stop()
    root.setLevel(level)
    for name, old in quiet.items():
        logging.getLogger(name).setLevel(old)


SECRETS = [
    ("GET https://oapi.dingtalk.com/robot/send?access_token=abcdef123456&x=1", "abcdef123456"),
    ("sent ?timestamp=1&sign=Q0ZGRg%3D%3D", "Q0ZGRg"),
    ("https://open.feishu.cn/open-apis/bot/v2/hook/0a1b2c3d-4e5f", "0a1b2c3d-4e5f"),
    ('{"app_secret": "s3cr3t-value", "app_id": "cli_1"}', "s3cr3t-value"),
    ("{'tenant_access_token': 't-g1044', 'expire': 7200}", "t-g1044"),
    ('{\\"encrypt_key\\": \\"kkkkkk\\"}', "kkkkkk"),
    ("Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
    ("Authorization: Basic dXNlcjpwdw==", "dXNlcjpwdw"),
    ("api_key=sk-1234567890abcdef", "sk-1234567890abcdef"),
    ("the key sk-proj-1234567890 was refused", "sk-proj-1234567890"),
    ("Cookie: __Host-zx=0123456789abcdef; theme=dark", "0123456789abcdef"),
    ("password=hunter2!", "hunter2!"),
    ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "eyJzdWIiOiIxIn0"),
    ("-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----", "MIIEvQ"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_what_looks_like_a_secret_is_masked(text: str, secret: str) -> None:
    cleaned = Redactor().clean(text)
    assert secret not in cleaned
    assert logs.MASK in cleaned


def test_what_is_no_secret_stays() -> None:
    text = (
        "job 7 done: tokens_in=512 tokens_out=20 status: ok, keyboard=zh app_id=cli_1 https://a.b/c?page=2 令牌已更新"
    )
    assert Redactor().clean(text) == text


def test_known_values_are_masked_whatever_is_around_them() -> None:
    redactor = Redactor()
    for value in ("correct horse", "correct horse battery", "abc", ""):
        redactor.hide(value)
    assert redactor.clean("x correct horse battery y correct horse z abc") == "x *** y *** z abc"


def test_lines_are_json_with_fields_errors_and_no_secret(running: Logs, console: io.StringIO) -> None:
    running.redactor.hide("topsecretvalue")
    log = logging.getLogger("storage.test")
    log.info("delivered %s", "消息", extra={"job": 7, "bot": "hr topsecretvalue", "app_secret": "zzz"})
    try:
        raise ValueError("refused: token=abcdefgh")
    except ValueError:
        log.exception("send failed")
    running.stop()
    first, second = [json.loads(line) for line in running.file.read_text("utf-8").splitlines()]
    assert (first["level"], first["logger"], first["message"]) == ("info", "storage.test", "delivered 消息")
    assert (first["job"], first["bot"], first["app_secret"]) == (7, "hr ***", "***")
    assert first["at"].endswith("+00:00")
    assert "ValueError: refused: token=***" in second["error"]
    assert "delivered 消息" in console.getvalue()
    assert "abcdefgh" not in console.getvalue() + running.file.read_text("utf-8")
    assert running.file.stat().st_mode & 0o777 == 0o600
    assert running.file.parent.stat().st_mode & 0o777 == 0o700


def test_forged_line_breaks_stay_in_one_line(running: Logs) -> None:
    logging.getLogger("x").info('name\n{"level": "error"}')
    running.stop()
    (line,) = running.file.read_text("utf-8").splitlines()
    assert json.loads(line)["level"] == "info"


def test_files_are_rotated_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_BYTES", 2000)
    made = Logs(tmp_path / "logs")
    made.start()
    for n in range(200):
        logging.getLogger("x").warning("line %d %s", n, "y" * 100)
    made.stop()
    files = sorted(path.name for path in made.file.parent.iterdir())
    assert files == ["zhixing.log", *(f"zhixing.log.{n}" for n in range(1, 6))]
    assert all(path.stat().st_size <= 2000 for path in made.file.parent.iterdir())
    newest = tail(made.file.parent, 3)
    assert [entry["message"][:8] for entry in newest] == ["line 199", "line 198", "line 197"]


def test_too_many_waiting_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_WAITING", 3)
    made = Logs(tmp_path / "logs")
    made.start()
    assert made._listener is not None
    made._listener.stop()
    for n in range(5):
        logging.getLogger("x").warning("line %d", n)
    assert made.dropped == 2
    made._listener.start()
    made.stop()
    assert len(tail(made.file.parent)) == 3


def test_tail_filters_and_survives_a_torn_line(running: Logs) -> None:
    log = logging.getLogger("x")
    log.info("one Apple")
    log.error("two apple")
    log.error("three")
    running.stop()
    with running.file.open("a") as file:
        file.write('{"level": "err')
    folder = running.file.parent
    assert [e["message"] for e in tail(folder)] == ["three", "two apple", "one Apple"]
    assert [e["message"] for e in tail(folder, level="error", contains="APPLE")] == ["two apple"]
    assert tail(folder / "none") == []


def test_unwritable_folder_leaves_the_console(
    tmp_path: Path, console: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    made = Logs(tmp_path / "file" / "logs", console=console)
    made.start()
    logging.getLogger("x").warning("still told")
    made.stop()
    made.stop()
    assert "still told" in console.getvalue()
    assert "Not a directory" in capsys.readouterr().err
