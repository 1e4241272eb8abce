"""File lengths, blind excepts, suppressed checks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.rules.reading import ROOMS, ROOT, Module, sources

MOST_LINES = 500
VAGUE = {"utils", "util", "helpers", "helper", "manager", "service", "services", "common", "misc"}

# Where work ends as *failed*, whatever went wrong: "file: function" and why nothing narrower will do.
EDGES = {
    "storage/database.py: SqliteDatabase._together": "the error is handed to the one who asked for the write",
    "storage/runner.py: Runner._ending": "a job always ends",
    "agent/memory/e5/session.py: open_session": "a torn model file raises whatever its parser likes; it is made anew",
    "agent/memory/embedder.py: load_embedder": "whatever fails on this machine, a simpler embedder serves",
    "agent/memory/indexer.py: Indexer._passages": "one text must not stop all others",
    "agent/memory/store.py: MemoryStore._ask": "whatever an embedder raises, words alone find too",
    "agent/memory/transformer_child.py: main": "whatever a model's files raise, the parent is told",
    "agent/memory/parsers/child.py: main": "parsers raise whatever a hostile file makes them; it becomes a refusal",
    "storage/migrate.py: upgrade": "whatever a migration raises, the original stays usable",
    "channels/sender.py: Sender._brought": "a delivery always ends, and its conversation goes on",
    "pages/frame.py: Panel.act.run": "what a button started ends with a notice and a logged trace",
}


def too_long(root: Path) -> list[str]:
    """Our own source files of more than MOST_LINES lines."""
    found = []
    folders = [*ROOMS[1:], "assets", "benchmarks", "tests", "deploy"]
    paths = [*root.glob("*.py"), *(path for folder in folders for path in (root / folder).rglob("*"))]
    for path in sorted(paths):
        if path.suffix in (".py", ".js", ".css", ".sh") and "vendor" not in path.parts:
            lines = path.read_text(encoding="utf-8").count("\n")
            if lines > MOST_LINES:
                found.append(f"{path.relative_to(root).as_posix()}: {lines} lines")
    return found


def blind(module: Module) -> list[str]:
    """Handlers that catch what a typo raises: bare, `Exception` or `BaseException`; re-raising ones are fine."""
    found = []
    for place, node in module.functions():
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {getattr(kind, "id", None) for kind in kinds}
            again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if not again and (node.type is None or names & {"Exception", "BaseException"}):
                found.append(f"{module.path}: {place}")
    return found


def unreasoned(module: Module) -> list[str]:
    """Suppressions without a named rule, and blanket `noqa` without a reason behind a dash."""
    found = []
    for number, line in enumerate(module.text.splitlines(), 1):
        noqa = re.search(r"#\s*noqa(.*)", line)
        ignore = re.search(r"#\s*type:\s*ignore(.*)", line)
        if noqa and not re.match(r":\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*\s*(-|–|#)\s*\S", noqa[1]):
            found.append(f"{module.path}:{number} {line.strip()}")
        if ignore and not ignore[1].startswith("["):
            found.append(f"{module.path}:{number} {line.strip()}")
    return found


def test_no_file_is_longer_than_a_head_can_hold() -> None:
    assert too_long(ROOT) == []


def test_blind_excepts_stand_only_at_the_listed_edges() -> None:
    found = {item for module in sources(ROOT) for item in blind(module)}
    assert found == set(EDGES)


def test_suppressions_name_their_rule_and_reason() -> None:
    assert [item for module in sources(ROOT) for item in unreasoned(module)] == []


def test_files_are_named_by_a_noun_of_the_domain() -> None:
    assert [m.path for m in sources(ROOT) if VAGUE & set(re.split(r"[._]", m.name))] == []


def test_long_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "a.py").write_text("x = 1\n" * 501)
    (tmp_path / "storage" / "b.py").write_text("x = 1\n" * 500)
    assert too_long(tmp_path) == ["storage/a.py: 501 lines"]


def test_blind_except_is_found() -> None:
    text = """
class A:
    def f(self):
        try:
            g()
        except Exception:
            pass
    def fine(self):
        try:
            g()
        except (OSError, ValueError):
            pass
        try:
            g()
        except BaseException:
            undo()
            raise
def h():
    try:
        g()
    except:
        pass
    try:
        g()
    except (OSError, Exception) as error:
        raise X from error
"""
    found = blind(Module("storage.a", "storage/a.py", text))
    assert found == ["storage/a.py: A.f", "storage/a.py: h", "storage/a.py: h"]


def test_unreasoned_suppression_is_found() -> None:
    text = "\n".join(
        [
            "import a  # noqa",
            "import b  # noqa: F401",
            "import c  # noqa: F401 - registers the tables",
            "d = e()  # type: ignore",
            "d = e()  # type: ignore[attr-defined]",
        ]
    )
    found = unreasoned(Module("storage.a", "storage/a.py", text))
    assert [item.split(" ")[0] for item in found] == ["storage/a.py:1", "storage/a.py:2", "storage/a.py:4"]
