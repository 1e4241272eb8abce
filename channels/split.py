"""Cut long Markdown into messages: at paragraphs where possible, never inside a code fence without closing it."""

from __future__ import annotations

import re
from collections.abc import Callable

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")
ENDS = re.compile(r"(?<=[。！？；.!?;\n])")
ROOM = 16  # kept free in each piece for closing a fence


def split_markdown(text: str, most: int, measure: Callable[[str], int] = len) -> list[str]:
    """The text in pieces of at most `most` by `measure`; one piece if it fits.

    A fence that a cut falls into is closed at the end of its piece and opened again, with its language, in the next.

    Args:
        measure: length of a text in the vendor's units (characters by default); must grow with the text.
    """
    if measure(text) <= most:
        return [text]
    todo = _lines(text, most - ROOM - measure("```"), measure)
    pieces: list[str] = []
    lines: list[str] = []
    fence, at = "", 0  # what opens again the fence that we are in; the next line
    while at < len(todo):
        count = _room(lines, todo, at, most - ROOM, measure)
        if not count and lines and lines != [fence]:
            pieces.append("\n".join(lines).strip("\n"))  # the paragraph that was kept leaves no room
            lines = []
            continue
        for line in todo[at : at + max(count, 1)]:
            lines.append(line)
            fence = _fence_after(fence, line)
        at += max(count, 1)
        if at < len(todo):
            body, rest = (lines, []) if fence else _at_paragraph(lines)
            piece = "\n".join([*body, _marker(fence)] if fence else body).strip("\n")
            if piece:
                pieces.append(piece)
            lines = ([fence] if fence else []) + rest
    last = "\n".join(lines).strip("\n")
    if last and last != fence:
        pieces.append(last)
    return pieces


def _room(lines: list[str], todo: list[str], at: int, most: int, measure: Callable[[str], int]) -> int:
    """How many of the next lines fit behind these. Measures few times: a long text must not hold up the process."""

    def fits(count: int) -> bool:
        return measure("\n".join([*lines, *todo[at : at + count]])) <= most

    low, high, left = 0, 32, len(todo) - at
    while high < left and fits(high):
        low, high = high, high * 2
    high = min(high, left)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _fence_after(fence: str, line: str) -> str:
    """The fence that is open after a line."""
    found = FENCE.match(line)
    if not found:
        return fence
    if not fence:
        return line if len(line) <= 30 else found[1]
    return "" if found[1].startswith(_marker(fence)) and not found[2].strip() else fence


def _marker(fence: str) -> str:
    found = FENCE.match(fence)
    return found[1] if found else "```"


def _at_paragraph(lines: list[str]) -> tuple[list[str], list[str]]:
    """Split off what follows the last empty line, if enough stays before it."""
    for n in range(len(lines) - 1, len(lines) // 2, -1):
        if not lines[n].strip() and not _opens(lines[:n]):
            return lines[:n], lines[n + 1 :]
    return lines, []


def _opens(lines: list[str]) -> bool:
    """True if these lines end inside a fence."""
    fence = ""
    for line in lines:
        found = FENCE.match(line)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence) and not found[2].strip():
            fence = ""
    return bool(fence)


def _lines(text: str, most: int, measure: Callable[[str], int]) -> list[str]:
    """The text's lines, those that are too long for one piece cut at sentences, else anywhere."""
    made: list[str] = []
    for line in text.split("\n"):
        if measure(line) <= most:
            made.append(line)
            continue
        part = ""
        for sentence in ENDS.split(line):
            if part and measure(part + sentence) > most:
                made.append(part)
                part = ""
            while measure(part + sentence) > most:
                keep = _fitting(sentence, most, measure)
                made.append(sentence[:keep])
                sentence = sentence[keep:]
            part += sentence
        if part:
            made.append(part)
    return made


def _fitting(text: str, most: int, measure: Callable[[str], int]) -> int:
    """How many characters of the text fit; at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if measure(text[:middle]) <= most:
            low = middle
        else:
            high = middle - 1
    return low
