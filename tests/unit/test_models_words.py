"""Every error that models can raise says in both languages what happened and what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from storage.words import LANGS, Words

ROOT = Path(__file__).resolve().parents[2]
WORDS = Words(ROOT / "assets" / "locale")
RAISED = re.compile(
    r"(?:Invalid|Rejected|Unavailable|Conflict|NotFound|Throttled)\(\s*\"([a-z]+\.[\w.]+)\"|\"(budget\.\w+)\""
    r"|\"(model\.(?:dns|tls|connect|timeout|key|unknown|address|throttled))\""
)
ENDPOINT = re.compile(r"_wrong\(\"(\w+)\"\)")
SPOKEN = re.compile(r"\"(demo\.[\w.]+|model\.test\.\w+)\"")


def codes() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "agent" / "models").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        found |= {next(part for part in parts if part) for parts in RAISED.findall(text)}
        found |= {f"model.endpoint.{why}" for why in ENDPOINT.findall(text)}
    return found


def test_all_codes_are_seen() -> None:
    assert len(codes()) > 35


@pytest.mark.parametrize("lang", LANGS)
def test_every_error_has_its_words(lang: str) -> None:
    missing = [key for code in codes() for key in (f"error.{code}", f"error.{code}.remedy") if not WORDS.has(lang, key)]
    assert missing == []


@pytest.mark.parametrize("lang", LANGS)
def test_the_demo_model_has_its_words(lang: str) -> None:
    keys = {
        key
        for path in (ROOT / "agent" / "models").glob("*.py")
        for key in SPOKEN.findall(path.read_text(encoding="utf-8"))
    }
    assert len(keys) > 15
    assert [key for key in keys if not WORDS.has(lang, key)] == []
