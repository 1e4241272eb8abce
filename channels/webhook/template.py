"""Fills a text with values of a JSON document. Dotted paths only: nothing is evaluated. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from storage.errors import Invalid

PLACEHOLDER = re.compile(r"\{\{\s*(\.|[\w$@-][\w$@-]*(?:\.[\w$@-]+)*)\s*\}\}")
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
MOST_TEMPLATE = 4_000
MOST_VALUE = 8_000
MOST_TEXT = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Filled:
    """A filled template. `missing` names the paths that the document does not have."""

    text: str
    missing: tuple[str, ...] = ()


def check(template: str) -> None:
    """Refuse a template that cannot mean what was meant.

    Raises:
        Invalid: `hook.template_empty`, `hook.template_long` or `hook.template_braces`.
    """
    if not template.strip():
        raise Invalid("hook.template_empty", field="template")
    if len(template) > MOST_TEMPLATE:
        raise Invalid("hook.template_long", field="template", most=MOST_TEMPLATE)
    rest = PLACEHOLDER.sub("", template)
    if "{{" in rest or "}}" in rest or "{%" in rest:
        at = next(found for found in re.findall(r".{0,20}(?:\{\{|\}\}|\{%).{0,20}", rest, re.DOTALL))
        raise Invalid("hook.template_braces", field="template", near=at.strip()[:60])


def fill(template: str, document: object) -> Filled:
    """Put values in the place of `{{path.to.0.value}}`; `{{.}}` is the whole document. Values are never read again."""
    missing: list[str] = []

    def value(found: re.Match[str]) -> str:
        there, item = find(document, found[1])
        if not there:
            missing.append(found[1])
            return ""
        return shown(item)

    text = PLACEHOLDER.sub(value, template)
    return Filled(text=text[:MOST_TEXT], missing=tuple(dict.fromkeys(missing)))


def find(document: object, path: str) -> tuple[bool, object]:
    """Whether the document has this path, and what stands there."""
    if path == ".":
        return True, document
    here = document
    for name in path.split("."):
        if isinstance(here, dict) and name in here:
            here = here[name]
        elif isinstance(here, list) and name.isascii() and name.isdigit() and len(name) < 7 and int(name) < len(here):
            here = here[int(name)]
        else:
            return False, None
    return True, here


def shown(item: object) -> str:
    """A value as text."""
    if item is None:
        return ""
    text = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
    return CONTROLS.sub("", text)[:MOST_VALUE]
