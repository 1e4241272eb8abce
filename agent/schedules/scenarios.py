"""Templates of whole workflows, bundled as files: what to fill in, and the steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from storage.settings import ROOT

FOLDER = ROOT / "assets" / "templates" / "scenarios"


@dataclass(frozen=True, kw_only=True, slots=True)
class Blank:
    """Something to be filled in. Texts are by language."""

    name: str
    label: Mapping[str, str]
    help: Mapping[str, str]
    default: Mapping[str, str]
    optional: bool = False
    secret: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """A template. Texts are by language, `zh_CN` and `en`."""

    id: str
    icon: str
    name: Mapping[str, str]
    what: Mapping[str, str]
    expression: str
    blanks: tuple[Blank, ...]
    texts: Mapping[str, Mapping[str, str]]
    steps: str

    def steps_in(self, lang: str) -> str:
        """The steps with the texts of a language."""
        return re.sub(r"\[\[(\w+)\]\]", lambda m: _indented(self.texts[m[1]][lang]), self.steps)

    def blank(self, name: str) -> Blank | None:
        """What is known of a value or secret."""
        return next((blank for blank in self.blanks if blank.name == name), None)


@lru_cache(maxsize=1)
def scenarios() -> tuple[Scenario, ...]:
    """All templates, in order. Reads files once: call in a thread."""
    found = [(yaml.safe_load(path.read_text("utf-8")), path) for path in FOLDER.glob("*.yaml")]
    return tuple(_scenario(raw, path) for raw, path in sorted(found, key=lambda item: int(item[0]["order"])))


def scenario(name: str) -> Scenario | None:
    """A template by its id, or None."""
    return next((item for item in scenarios() if item.id == name), None)


def _scenario(raw: Mapping[str, Any], path: Path) -> Scenario:
    blanks = [_blank(item, secret=False) for item in raw.get("values", ())]
    blanks += [_blank(item, secret=True) for item in raw.get("secrets", ())]
    return Scenario(
        id=path.stem,
        icon=raw["icon"],
        name=raw["name"],
        what=raw["what"],
        expression=raw["schedule"],
        blanks=tuple(blanks),
        texts=raw.get("texts", {}),
        steps=raw["steps"],
    )


def _blank(raw: Mapping[str, Any], *, secret: bool) -> Blank:
    return Blank(
        name=raw["name"],
        label=raw["label"],
        help=raw.get("help", {}),
        default=raw.get("default", {}),
        optional=bool(raw.get("optional", False)) or secret,
        secret=secret,
    )


def _indented(text: str) -> str:
    """One line: a text stands within a step's own block."""
    return " ".join(text.split())
