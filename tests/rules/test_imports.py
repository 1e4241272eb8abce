"""Imports run downward, make no circle, and nothing imports app."""

from __future__ import annotations

from pathlib import Path

from tests.rules.reading import FLOOR, ROOT, Module, sources


def wrong_imports(modules: list[Module]) -> list[str]:
    """Imports that go upward, sideways between neighbours, or to app."""
    found = []
    for module in modules:
        for line, name, _ in module.imports():
            room = name.split(".")[0]
            if room not in FLOOR or room == module.room != "app":
                continue
            if FLOOR[room] >= FLOOR[module.room]:
                found.append(f"{module.path}:{line} imports {name}: {module.room} may not import {room}")
    return found


def circles(modules: list[Module]) -> list[str]:
    """Groups of modules that import each other. Imports for type checking only do not count: they never run."""
    names = {module.name for module in modules}
    edges: dict[str, set[str]] = {name: set() for name in names}
    for module in modules:
        for _, name, typing_only in module.imports():
            target = name if name in names else name.rpartition(".")[0]
            if target in names and target != module.name and not typing_only:
                edges[module.name].add(target)
    return [" <-> ".join(sorted(group)) for group in _knots(edges)]


def _knots(edges: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected groups of more than one (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group: set[str] = set()
            while node not in group:
                group.add(stack.pop())
            if len(group) > 1:
                groups.append(group)

    for name in sorted(edges):
        if name not in index:
            visit(name)
    return groups


def write(root: Path, files: dict[str, str]) -> list[Module]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return sources(root)


def test_imports_run_downward() -> None:
    assert wrong_imports(sources(ROOT)) == []


def test_no_circles() -> None:
    assert circles(sources(ROOT)) == []


def test_tests_of_the_rules_see_the_whole_house() -> None:
    assert {"storage", "security", "agent", "channels", "routes", "pages"} <= {m.room for m in sources(ROOT)}


def test_upward_sideways_and_app_imports_are_found(tmp_path: Path) -> None:
    modules = write(
        tmp_path,
        {
            "app.py": "import pages.home\nimport storage.clock\n",
            "pages/home.py": "from routes import health\nimport channels.base\n",
            "storage/up.py": "def late():\n    from security.gate import Gate\n",
            "storage/app_user.py": "import app\n",
            "agent/side.py": "from channels.base import Manifest\n",
            "channels/feishu/near.py": "from ..base import Manifest\nfrom agent.models import base\n",
            "routes/fine.py": "from agent.models import base\nimport security\nimport json\n",
        },
    )
    found = wrong_imports(modules)
    assert sorted(item.split(" imports ")[0] for item in found) == [
        "agent/side.py:1",
        "channels/feishu/near.py:2",
        "storage/app_user.py:1",
        "storage/up.py:2",
    ]


def test_circle_is_found(tmp_path: Path) -> None:
    modules = write(
        tmp_path,
        {
            "storage/__init__.py": "",
            "storage/a.py": "from storage import b\n",
            "storage/b.py": "def f():\n    import storage.c\n",
            "storage/c.py": "from storage.a import x\n",
            "storage/d.py": (
                "from typing import TYPE_CHECKING\nfrom storage import e\nif TYPE_CHECKING:\n    import storage.a\n"
            ),
            "storage/e.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from storage import d\n",
        },
    )
    assert circles(modules) == ["storage.a <-> storage.b <-> storage.c"]
