"""Blocks of a document cut into pieces that can be found and cited. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.memory.parsers.limits import Block

WEIGHT = 260  # of a piece: a Chinese character counts 1, any other 0.4, which is about its part of a model's token
SECTION = 24  # pieces under one heading or page that are looked at together
_SENTENCE = re.compile(r"(?<=[。！？；!?])\s*|(?<=\.)\s+|\n+")
_CLAUSE = re.compile(r"(?<=[，,、:：])\s*|\s+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece with its number in the document, its section, its place for people, and what it stands under."""

    number: int
    text: str
    section: str
    place: str = ""
    heading: str = ""


def weight(text: str) -> float:
    """Length as a model feels it."""
    wide = sum("\u3000" <= c <= "\u9fff" or "\uac00" <= c <= "\ud7ff" for c in text)
    return wide + 0.4 * (len(text) - wide)


def _cut(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    """Parts of a text at the borders that a pattern names, filled up to a piece's weight."""
    held, at = "", 0
    borders = [*pattern.finditer(text)]
    for begin, end in [*((m.start(), m.end()) for m in borders), (len(text), len(text))]:
        part, at, before = text[at:begin], end, text[max(0, at - 1) : at]
        if not part.strip():
            continue
        between = "\n" if before == "\n" else " " if held and part[0].isascii() and held[-1].isascii() else ""
        joined = held + between + part if held else part
        if held and weight(joined) > WEIGHT:
            yield held
            held = part
        else:
            held = joined
    if held:
        yield held


def _sized(text: str) -> Iterator[str]:
    for sentence in _cut(text, _SENTENCE):
        if weight(sentence) <= 1.5 * WEIGHT:
            yield sentence
            continue
        for clause in _cut(sentence, _CLAUSE):
            while weight(clause) > 1.5 * WEIGHT:  # no border at all
                yield clause[:WEIGHT]
                clause = clause[WEIGHT:]
            if clause:
                yield clause


def pieces(blocks: Iterable[Block], *, first: int = 1, section: int = 1) -> Iterator[Piece]:
    """Pieces in order. Short blocks of one place come together; long ones are cut at sentences.

    Args:
        first, section: numbers to go on from, when a document comes in parts.
    """
    held: list[Block] = []
    number, inside, place = first, 0, None

    def out(group: list[Block]) -> Iterator[str]:
        yield from _sized("\n".join(b.text.strip() for b in group if b.text.strip()))

    def flush() -> Iterator[Piece]:
        nonlocal number, inside, section, place
        if not held:
            return
        here = (held[0].place, held[0].heading)
        if place is not None and (here != place or inside >= SECTION):
            section, inside = section + 1, 0
        place = here
        for text in out(held):
            yield Piece(number, text, str(section), held[0].place, held[0].heading)
            number, inside = number + 1, inside + 1

    for block in blocks:
        if held and (
            (block.place, block.heading) != (held[0].place, held[0].heading)
            or sum(weight(b.text) for b in held) > WEIGHT
        ):
            yield from flush()
            held = []
        held.append(block)
    yield from flush()
