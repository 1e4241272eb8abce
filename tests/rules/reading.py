"""Reads our source as syntax trees. The rules' checkers work on any folder, so that tests can show each one fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from storage.settings import ROOT

__all__ = ["ROOMS", "ROOT", "Module", "sources"]

# From top to bottom. Rooms in one row are neighbours and do not import each other.
ROWS = (("app",), ("door",), ("house",), ("pages",), ("routes",), ("channels", "agent"), ("security",), ("storage",))
ROOMS = tuple(room for row in ROWS for room in row)
FLOOR = {room: len(ROWS) - n for n, row in enumerate(ROWS) for room in row}


@dataclass(frozen=True)
class Module:
    """One of our files. `name` is dotted; `path` is relative to the folder that was read."""

    name: str
    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def room(self) -> str:
        return self.name.split(".")[0]

    def imports(self) -> Iterator[tuple[int, str, bool]]:
        """Line, dotted name and whether it is for type checking only, for every import wherever it stands."""
        typing_only = {
            child
            for node in ast.walk(self.tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for part in node.body
            for child in ast.walk(part)
        }
        package = self.name if self.path.endswith("__init__.py") else self.name.rpartition(".")[0]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name, node in typing_only
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*above, base] if base else above)
                for alias in node.names:
                    yield node.lineno, f"{base}.{alias.name}", node in typing_only

    def functions(self) -> Iterator[tuple[str, ast.AST]]:
        """Every node with the qualified name of the function or class around it (empty at the top)."""

        def walk(node: ast.AST, place: str) -> Iterator[tuple[str, ast.AST]]:
            for child in ast.iter_child_nodes(node):
                inner = place
                if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    inner = f"{place}.{child.name}" if place else child.name
                yield inner, child
                yield from walk(child, inner)

        yield from walk(self.tree, "")


def sources(root: Path, rooms: tuple[str, ...] = ROOMS) -> list[Module]:
    """All Python files of the rooms below `root`, in the order of their names."""
    found: list[Module] = []
    for room in rooms:
        single = root / f"{room}.py"
        paths = [single] if single.is_file() else []
        for path in [*paths, *sorted((root / room).rglob("*.py"))]:
            inside = path.relative_to(root)
            parts = inside.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(name, inside.as_posix(), path.read_text(encoding="utf-8")))
    return found
