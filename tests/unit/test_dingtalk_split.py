"""Cutting Markdown: nothing lost, nothing too long, no fence left open."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from channels.split import split_markdown


def squeezed(text: str) -> str:
    return re.sub(r"\s|```\w*", "", text)


def test_what_fits_stays_whole() -> None:
    assert split_markdown("a\n\nb", 10) == ["a\n\nb"]


def test_paragraphs_are_kept_together() -> None:
    first, second = "x" * 60, "y" * 60
    assert split_markdown(f"{first}\n\n{second}", 100) == [first, second]


def test_a_fence_is_closed_and_opened_again_with_its_language() -> None:
    code = "\n".join(f"line {n}" for n in range(40))
    pieces = split_markdown(f"see:\n```python\n{code}\n```\nend", 150)
    assert len(pieces) > 2
    for piece in pieces:
        assert len(piece) <= 150
        assert piece.count("```") % 2 == 0
    assert all(piece.startswith("```python") for piece in pieces[1:-1])
    assert squeezed("".join(pieces)) == squeezed(f"see:{code}end")


def test_a_line_without_end_is_cut() -> None:
    pieces = split_markdown("长" * 1000, 100, lambda text: len(text.encode()))
    assert all(len(piece.encode()) <= 100 for piece in pieces)
    assert "".join(pieces) == "长" * 1000


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(["```", "```py", "~~~", "", "short", "词" * 30, "w" * 90, "a. b! c? " * 9]), max_size=40)
)
def test_nothing_is_lost_and_nothing_is_too_long(lines: list[str]) -> None:
    text = "\n".join(lines)
    pieces = split_markdown(text, 120)
    assert all(len(piece) <= 120 for piece in pieces)
    wanted = re.sub(r"[\s`~]|py", "", text)
    assert re.sub(r"[\s`~]|py", "", "".join(pieces)) == wanted
