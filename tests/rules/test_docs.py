"""The documentation says what the code does: settings, commands, links, files that it names."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.models.provider import read_entry as read_provider
from channels.bot_entry import read_entry as read_bot
from storage.provision import read_entries
from storage.settings import ROOT, Settings
from tests.rules.reading import Module, sources

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CONFIGURATION = ("docs/configuration.md", "docs/configuration.zh-CN.md")
VARIABLE = re.compile(r"\b(?:ZHIXING_[A-Z_]+|DATABASE_URL)\b")


def variables(modules: list[Module]) -> set[str]:
    """Names of settings in the code's own constants."""
    found: set[str] = set()
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value):
                found.add(node.value)
    return found


def rows(text: str) -> dict[str, list[str]]:
    """The rows of all tables of a page, by the code in their first cell."""
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| `")
    ]
    return {name: row for row in cells for name in re.findall(r"`([^`]+)`", row[0])}


def links(text: str) -> Iterator[str]:
    """Relative targets of links and images, outside of code."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" not in target and not target.startswith("mailto:"):
            yield target


def anchors(text: str) -> set[str]:
    """What headings can be linked as."""
    heads = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken(page: Path, root: Path) -> list[str]:
    """Links of a page that lead nowhere."""
    text, found = page.read_text(encoding="utf-8"), []
    for target in links(text):
        name, _, anchor = target.partition("#")
        path = (page.parent / name) if name else page
        good = path.exists()
        if good and anchor and path.suffix == ".md":
            good = anchor in anchors(path.read_text(encoding="utf-8"))
        if not good:
            found.append(f"{page.relative_to(root)}: {target}")
    return found


@pytest.mark.parametrize("page", CONFIGURATION)
def test_every_setting_is_documented_and_no_other(page: str) -> None:
    known = variables(sources(ROOT)) | {"ZHIXING_PYTHON"}
    documented = {name for name in rows((ROOT / page).read_text("utf-8")) if VARIABLE.fullmatch(name)}
    assert documented == known


@pytest.mark.parametrize("page", CONFIGURATION)
def test_documented_defaults_are_those_of_the_code(page: str) -> None:
    told = rows((ROOT / page).read_text("utf-8"))
    settings = Settings(data=Path("data"))
    for name, value in {
        "ZHIXING_HOST": settings.host,
        "ZHIXING_PORT": settings.port,
        "ZHIXING_METRICS_PORT": settings.metrics_port,
        "ZHIXING_EMBEDDER": settings.embedder,
    }.items():
        assert told[name][1].startswith(f"`{value}`"), name


def test_image_sets_what_the_documentation_says() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    told = rows((ROOT / CONFIGURATION[0]).read_text("utf-8"))
    for name in ("ZHIXING_HOST", "ZHIXING_DATA", "ZHIXING_KEY_FILE"):
        (value,) = re.findall(rf"{name}=(\S+)", text)
        assert f"(`{value}` in the image)" in told[name][1]


def test_both_languages_have_the_same_pages_and_sections() -> None:
    for page in PAGES:
        other = page.with_name(page.name.replace(".md", ".zh-CN.md"))
        if other.exists():
            one, two = (re.findall(r"^(#+) ", path.read_text("utf-8"), flags=re.MULTILINE) for path in (page, other))
            assert one == two, page.name


def test_links_lead_somewhere() -> None:
    assert [item for page in PAGES for item in broken(page, ROOT)] == []


class AllSet(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, name: str, default: object = None) -> str:  # type: ignore[override]
        return f"value-of-{name}"


@pytest.mark.parametrize("page", CONFIGURATION)
def test_files_in_the_documentation_are_taken_as_they_stand(page: str) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text("utf-8"), flags=re.DOTALL)
    models, bots = blocks
    for entry in read_entries(models, "providers", "llm.yaml", AllSet()):
        assert read_provider({k: v for k, v in entry.items() if k != "__line__"}).name == "deepseek"
    names = [read_bot(entry).name for entry in read_entries(bots, "channels", "channels.yaml", AllSet())]
    assert names == ["hr-bot", "it-bot", "alerts"]


def commands(text: str) -> list[str]:
    """The lines of all shell blocks, without their comments."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    blocks = [block for kind, block in fences if kind == "sh"]
    lines = [re.sub(r"\s+#.*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_commands_are_the_same_in_both_languages_and_their_programs_exist() -> None:
    for page in PAGES:
        other = page.with_name(page.name.replace(".md", ".zh-CN.md"))
        if other != page and other.exists():
            assert commands(page.read_text("utf-8")) == commands(other.read_text("utf-8")), page.name
    for page in PAGES:
        for line in commands(page.read_text("utf-8")):
            program = line.split()[0]
            if program.startswith("./"):
                assert os.access(ROOT / program, os.X_OK), f"{page.name}: {line}"


def test_commands_of_the_documentation_are_those_of_the_program() -> None:
    told = rows((ROOT / CONFIGURATION[0]).read_text("utf-8").partition("## Commands")[2])
    offered = subprocess.run(
        [sys.executable, str(ROOT / "app.py"), "--help"], capture_output=True, text=True, timeout=50, check=True
    ).stdout
    listed = re.search(r"\{([\w,-]+)\}", offered)
    assert listed
    assert {name.split()[0] for name in told} == set(listed[1].split(","))


def test_undocumented_setting_and_broken_link_are_found(tmp_path: Path) -> None:
    assert variables([Module("storage.a", "storage/a.py", 'x = values.get("ZHIXING_NEW")\n')]) == {"ZHIXING_NEW"}
    page = tmp_path / "a.md"
    page.write_text("# Head (one)\n[x](gone.md) [y](#head-one) [z](#head) `[c](code.md)` [w](https://a.example)\n")
    assert broken(page, tmp_path) == ["a.md: gone.md", "a.md: #head"]
    assert rows("| `A`, `B` | 1 |\n| no | 2 |\n") == {"A": ["`A`, `B`", "1"], "B": ["`A`, `B`", "1"]}
