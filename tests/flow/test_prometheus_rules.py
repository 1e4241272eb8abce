"""The scrape configuration, the rules and the dashboard fit what is really exposed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from storage.clock import ManualClock
from storage.metrics import Metrics
from storage.settings import ROOT, Settings

FOLDER = ROOT / "deploy" / "prometheus"
BOARD = ROOT / "assets" / "grafana" / "zhixing.json"
NAME = re.compile(r"\bzhixing_[a-z_]+")
LABEL = re.compile(r"by \(([^)]*)\)")


def exposed() -> dict[str, set[str]]:
    """Every sample's name with its labels, of all instruments, used or not."""
    metrics = Metrics(ManualClock(), "1")
    found: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        collector = metrics.registry._names_to_collectors.get(family.name)
        labels = set(getattr(collector, "_labelnames", ()))
        for end in ends:
            found[family.name + end] = labels
    return found


def expressions() -> list[tuple[str, str]]:
    """All expressions of rules and dashboard, with where they stand."""
    board = json.loads(BOARD.read_text("utf-8"))
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", ())]
    rules = yaml.safe_load((FOLDER / "zhixing.rules.yml").read_text("utf-8"))
    for group in rules["groups"]:
        found += [(rule.get("alert") or rule["record"], rule["expr"]) for rule in group["rules"]]
    return found


def test_every_expression_asks_for_what_is_exposed() -> None:
    known = exposed()
    for where, text in expressions():
        names = [name for name in NAME.findall(text) if not text.startswith("zhixing:")]
        for name in names:
            assert name in known, f"{where}: {name}"
        for labels in LABEL.findall(text):
            wanted = {label.strip() for label in labels.split(",")} - {"le"}
            assert wanted <= set().union(*(known[name] for name in names)), f"{where}: {labels}"


def test_every_instrument_is_on_the_dashboard_or_in_the_documentation() -> None:
    told = (ROOT / "docs" / "monitoring.md").read_text("utf-8") + (ROOT / "docs" / "monitoring.zh-CN.md").read_text(
        "utf-8"
    )
    for name in exposed():
        if name.startswith("zhixing_") and "build_info" not in name and "sample_errors" not in name:
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert told.count(base) >= 2, base


def test_targets_have_their_alerts() -> None:
    rules = yaml.safe_load((FOLDER / "zhixing.rules.yml").read_text("utf-8"))
    alerts = {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    assert "< 0.995" in alerts["ZhixingSuccessLow"]
    assert ">= 0.5" in alerts["ZhixingOwnTimeHigh"]
    assert ">= 10" in alerts["ZhixingBacklog"]


def test_scrape_configuration_is_that_of_the_document() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    (job,) = config["scrape_configs"]
    port = Settings(data=Path("data")).metrics_port
    assert job == {
        "job_name": "ai-agent",
        "static_configs": [{"targets": [f"localhost:{port}"]}],
        "metrics_path": "/metrics",
    }


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt install prometheus)"
)
@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "zhixing.rules.yml"),
        ("test", "rules", "zhixing.rules.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt install prometheus)"
)
async def test_promtool_finds_nothing_wrong_with_the_exposition() -> None:
    text = await Metrics(ManualClock(), "1").exposition()
    assert list(text_string_to_metric_families(text.decode()))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
