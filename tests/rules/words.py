"""What the code asks of the catalogues, and what the catalogues hold. Used by test_catalogues.py."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter

from babel.messages.pofile import read_po

from tests.rules.reading import Module

SPEAKERS = {"t", "say", "_t", "_say"}
KEY = re.compile(r"[a-z][a-z0-9_]*(\.[A-Za-z0-9_-]+)+")
# What every raise of the class has among its parameters without naming it.
GIVEN = {"Rejected": {"reason"}, "Lost": {"job"}}
# Arguments that do not become parameters of the text.
APART = {"field", "retry_after"}


@dataclass(frozen=True)
class Use:
    """One place that needs a text. `params` is None where they cannot be read from the source."""

    where: str
    key: str
    params: frozenset[str] | None


@dataclass
class Wanted:
    """Everything that the code may ask for: exact uses, error codes, and what keys are put together from."""

    uses: list[Use] = field(default_factory=list)
    errors: list[Use] = field(default_factory=list)
    constants: set[str] = field(default_factory=set)
    patterns: list[re.Pattern[str]] = field(default_factory=list)
    endings: set[str] = field(default_factory=set)


def error_classes(modules: list[Module]) -> set[str]:
    """Names of AppError and all classes below it."""
    bases: dict[str, set[str]] = {}
    for module in modules:
        for _, node in module.functions():
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    found = {"AppError"}
    while True:
        more = {name for name, over in bases.items() if over & found} - found
        if not more:
            return found
        found |= more


def wanted(modules: list[Module]) -> Wanted:
    """Read every use of a text from the source."""
    errors, out = error_classes(modules), Wanted()
    for module in modules:
        docs = set(_docstrings(module.tree))
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docs:
                out.constants.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                for family in _family(node):
                    if isinstance(family, str):
                        out.endings.add(family)
                    else:
                        out.patterns.append(family)
            elif isinstance(node, ast.Call):
                _call(module, node, errors, out)
    return out


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def _family(node: ast.JoinedStr) -> list[re.Pattern[str] | str]:
    """What a key put together with an f-string may be: a pattern where it begins with a family, or an ending."""
    first, last = node.values[0], node.values[-1]
    if len(node.values) == 2 and isinstance(last, ast.Constant) and re.fullmatch(r"\.[a-z_.]+", str(last.value)):
        return [str(last.value)]
    if not (isinstance(first, ast.Constant) and re.match(r"[a-z_]+\.", str(first.value))):
        return []
    parts = [re.escape(str(v.value)) if isinstance(v, ast.Constant) else r"[\w.-]+" for v in node.values]
    return [re.compile("".join(parts))]


def _call(module: Module, node: ast.Call, errors: set[str], out: Wanted) -> None:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    where = f"{module.path}:{node.lineno}"
    named = {keyword.arg for keyword in node.keywords}
    texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if name in SPEAKERS:
        params = None if None in named else frozenset(str(n) for n in named)
        out.uses += [Use(where, text, params) for text in texts if KEY.fullmatch(text)]
    elif name in errors and node.args and node.args[0] in [a for a in node.args if isinstance(a, ast.Constant)]:
        known = None if None in named else frozenset(str(n) for n in named - APART) | GIVEN.get(name, set())
        out.errors += [Use(where, f"error.{text}", known) for text in texts[:1]]


def read(folder: Path) -> dict[str, str]:
    """All texts of one language's folder, untranslated ones as empty."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, charset="utf-8"):
                if message.id:
                    found[str(message.id)] = str(message.string or "")
    return found


def placeholders(text: str) -> set[str]:
    """Names in braces."""
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}
