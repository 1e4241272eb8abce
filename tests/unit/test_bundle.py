"""The support bundle tells what helps and keeps what is nobody's business."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from pathlib import Path

import pytest

from storage import migrate
from storage.bundle import counts, write_bundle
from storage.clock import ManualClock
from storage.errors import Conflict
from storage.settings import Settings

CANARIES = ("canary-setup", "canary-url", "canary-in-log", "canary-in-yaml", "canary-said", "canary-holder")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(
        data=tmp_path / "data",
        setup_code="canary-setup",
        database_url="",
        key_file=tmp_path / "canary-url",
    )
    migrate.prepare(made)
    made.logs_dir.mkdir()
    (made.logs_dir / "zhixing.log").write_text('{"message": "sent app_secret=canary-in-log"}\n{"message": "消息"}\n')
    made.config_dir.mkdir()
    (made.config_dir / "llm.yaml").write_text("api_key: canary-in-yaml\n")
    c = sqlite3.connect(made.db_file)
    c.execute(
        "INSERT INTO message (tenant, conversation_id, direction, channel, vendor_id, sender, sender_name, text,"
        " origin, created_at) VALUES ('main', 1, 'in', 'web', '', '', '', 'canary-said', 't2', 1)"
    )
    c.commit()
    c.close()
    return made


def test_bundle_helps_and_holds_no_secret(settings: Settings, tmp_path: Path, clock: ManualClock) -> None:
    target = tmp_path / "bundle.zip"
    found = [Conflict("start.port_taken", port=18789, holder="token=canary-holder")]
    write_bundle(settings, target, clock, list(found))
    write_bundle(settings, target, clock, list(found))
    assert target.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(target) as bundle:
        texts = {name: bundle.read(name).decode() for name in bundle.namelist()}
    everything = "".join(texts.values())
    assert [canary for canary in CANARIES if canary in everything] == []
    about = json.loads(texts["about.json"])
    assert about["revision"] == migrate.revisions()[-1]
    assert about["settings"]["port"] == 18789
    assert about["settings"]["setup_code"] is True
    assert "nicegui" in about["packages"]
    assert json.loads(texts["counts.json"])["message"] == 1
    assert json.loads(texts["findings.json"])[0]["code"] == "start.port_taken"
    assert json.loads(texts["config.json"]) == {"llm.yaml": 24}
    assert "消息" in texts["logs/zhixing.log"]


def test_bundle_of_a_broken_installation_is_still_written(tmp_path: Path, clock: ManualClock) -> None:
    broken = Settings(data=tmp_path / "data")
    broken.db_file.parent.mkdir(parents=True)
    broken.db_file.write_text("this is no database, it only has the name of one, long enough to have a header")
    target = tmp_path / "bundle.zip"
    write_bundle(broken, target, clock, [])
    with zipfile.ZipFile(target) as bundle:
        assert "start.data_foreign" in json.loads(bundle.read("about.json"))["revision"]
    assert "error" in counts(broken.db_file)
    assert counts(tmp_path / "none") == {}
