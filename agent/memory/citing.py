"""Names document and place for people, and puts them under an answer that was made from documents."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.memory.base import Recalled
from agent.memory.tokens import words as terms_of
from storage.words import Words

MOST_SOURCES = 3
USED = 0.34  # share of an answer's words that a piece holds if the answer was made from it, or of the piece's
FEWEST = 2
_PLACES = (
    (re.compile(r"^p\. (\d+)$"), "page"),
    (re.compile(r"^slide (\d+)$"), "slide"),
    (re.compile(r"^rows (\d+)-(\d*)$"), "rows"),
    (re.compile(r"^line (\d+)$"), "line"),
)


def cited(name: str, place: str) -> str:
    """Document and place as they are kept with a piece: "handbook.pdf, p. 12"."""
    where = place.partition(" ")[2]
    return f"{name}, {where}" if name and where else name


def source_text(words: Words, lang: str, cite: str) -> str:
    """The same in a person's language: 《handbook.pdf》第 12 页."""
    name, _, place = cite.rpartition(", ")
    for pattern, kind in _PLACES if name else ():
        found = pattern.match(place)
        if found is not None:
            first, last = found[1], found[2] if pattern.groups > 1 else ""
            return words.say(lang, f"memory.cite.{kind}", name=name, n=f"{first}-{last}" if last else first)
    if name and place:
        return words.say(lang, "memory.cite.under", name=name, place=place)
    return words.say(lang, "memory.cite.whole", name=cite)


def used(answer: str, recalled: Sequence[Recalled]) -> list[str]:
    """Places of the documents that an answer was made from, best first: those whose words it shares."""
    said = set(terms_of(answer))
    found: dict[str, float] = {}
    for item in recalled:
        if not item.cite:
            continue
        held = set(terms_of(item.text))
        both = len(said & held)
        share = both / max(1, min(len(said), len(held)))
        if both >= FEWEST and share >= USED:
            found[item.cite] = max(found.get(item.cite, 0.0), share)
    most = max(found.values(), default=0.0)
    return sorted((c for c, share in found.items() if share >= 0.7 * most), key=lambda c: -found[c])[:MOST_SOURCES]


def with_sources(words: Words, lang: str, answer: str, recalled: Sequence[Recalled]) -> str:
    """The answer with the places that it was made from, unless it names them itself."""
    sources = [source_text(words, lang, cite) for cite in used(answer, recalled)]
    missing = [source for source in sources if source not in answer]
    if not missing:
        return answer
    return f"{answer}\n\n{words.say(lang, 'memory.cite.sources', sources='; '.join(missing))}"
