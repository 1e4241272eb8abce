"""Writes the table of `docs/channel-contract.md` from a run of the contract suite: `python -m tests.contract_table`."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from defusedxml import ElementTree

ROOT = Path(__file__).resolve().parents[1]
SUITE = "tests/flow/test_channel_contract.py"
MARKS = {"passed": "✓", "skipped": "–", "failed": "✗"}
CASE = re.compile(r"test_(\w+)\[(.+)\]")
KINDS = ("-image", "-file", "-audio")


def results() -> dict[str, dict[str, str]]:
    """By promise and mode: `passed`, `skipped` or `failed`; the worst where there are several cases."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", SUITE, f"--junitxml={report}"]
        subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        cases = ElementTree.parse(report).iter("testcase")
        table: dict[str, dict[str, str]] = {}
        for case in cases:
            found = CASE.fullmatch(case.get("name", ""))
            if found is None:
                continue
            kinds = {child.tag for child in case}
            state = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
            mode = found[2]
            for kind in KINDS:
                mode = mode.removesuffix(kind)
            row = table.setdefault(found[1].replace("_", " "), {})
            row[mode] = max(state, row.get(mode, state), key=("passed", "skipped", "failed").index)
        return table


def page(table: dict[str, dict[str, str]]) -> str:
    """The page's text."""
    modes = list(dict.fromkeys(mode for row in table.values() for mode in row))
    lines = [
        "# What every channel promises",
        "",
        f"Made by `python -m tests.contract_table` from a run of `{SUITE}` against",
        "loopback vendors that speak the real protocols. ✓ holds, ✗ does not hold, – the vendor has no such thing in",
        "this mode, or the suite does not try it there.",
        "",
        "| | " + " | ".join(modes) + " |",
        "|---|" + ":-:|" * len(modes),
    ]
    for promise, row in table.items():
        marks = " | ".join(MARKS[row[mode]] if mode in row else "" for mode in modes)
        lines.append(f"| {promise[:1].upper()}{promise[1:]} | {marks} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "channel-contract.md").write_text(page(results()), encoding="utf-8")
