"""Fills `{{path.to.0.value}}` in texts and JSON. Dotted paths only: nothing is evaluated. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote

BLANK = re.compile(r"\{\{\s*([\w$@-]+(?:\.[\w$@-]+)*)\s*\}\}")
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
MOST_VALUE = 8_000
MOST_TEXT = 40_000
EMPTY = ("", "0", "false", "null", "[]", "{}")


def find(known: Mapping[str, object], path: str) -> object:
    """What stands at a path, or None."""
    here: object = known
    for name in path.split("."):
        if isinstance(here, Mapping) and name in here:
            here = here[name]
        elif isinstance(here, list) and name.isascii() and name.isdigit() and int(name[:6]) < len(here):
            here = here[int(name[:6])]
        else:
            return None
    return here


def text_of(value: object) -> str:
    """A value as text, bounded, without control characters."""
    if value is None:
        return ""
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return CONTROLS.sub("", shown)[:MOST_VALUE]


def fill(template: str, known: Mapping[str, object]) -> str:
    """The text with its blanks filled; a path that is not there becomes nothing. Values are never read again."""
    return _filled(template, known, text_of)


def fill_url(template: str, known: Mapping[str, object]) -> str:
    """An address: values of the schedule itself (`value.…`) stand as they are, all others are escaped."""

    def shown(path: str, value: object) -> str:
        return text_of(value) if path.startswith("value.") else quote(text_of(value), safe="")

    return BLANK.sub(lambda m: shown(m[1], find(known, m[1])), template)[:MOST_TEXT]


def fill_all(item: object, known: Mapping[str, object]) -> object:
    """JSON with the blanks of all its texts filled; a text that is one blank alone takes the value as it is."""
    if isinstance(item, str):
        if alone := BLANK.fullmatch(item.strip()):
            return find(known, alone[1])
        return fill(item, known)
    if isinstance(item, Mapping):
        return {str(key): fill_all(value, known) for key, value in item.items()}
    if isinstance(item, list):
        return [fill_all(value, known) for value in item]
    return item


def holds(condition: str, known: Mapping[str, object]) -> bool:
    """True unless the filled condition is empty, zero, false or nothing."""
    return fill(condition, known).strip().lower() not in EMPTY


def paths(template: str) -> list[str]:
    """The paths that a text asks for."""
    return BLANK.findall(template)


def _filled(template: str, known: Mapping[str, object], shown: Callable[[object], str]) -> str:
    return BLANK.sub(lambda m: shown(find(known, m[1])), template)[:MOST_TEXT]
