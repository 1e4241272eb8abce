"""A search of the memories that a scope may see, in two passes with a look at the database between them.

Imports numpy: loaded in the search's own threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.memory import rank
from agent.memory.question import Question
from agent.memory.vectors import nearest, unpack_pooled
from agent.memory.view import Snapshot, View

if TYPE_CHECKING:
    from agent.memory.embedder import QueryVectors

WORDS_FIT = 0.06  # share of the query's weight that a row must hold where there is nothing but words
APART_FIT, FEWEST_APART = 2.5, 20  # standard deviations above the rest, where there are no token vectors to compare
MEANING_FIT = 0.4  # MaxSim plus half that share: across languages what fits has 0.4 to 0.6, what does not 0.2 to 0.4


@dataclass(slots=True)
class Hit:
    """A row that was found, with the parts of its score. It answers the question, as far as we see, if `fit` >= 0."""

    id: int
    score: float
    fit: float
    why: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Pass:
    """One memory after the first pass."""

    found: rank.Found
    part: str

    @property
    def ids(self) -> list[int]:
        """Rows whose token vectors are wanted."""
        s = self.found.snapshot
        return [int(i) for i in s.ids[self.found.candidates[s.embedded[self.found.candidates]]]]


def make_view(loaded: Sequence[Any], pooled: Sequence[tuple[int, bytes]], size: int) -> View:
    """A memory from its rows and packed vectors."""
    view = View(loaded)
    show(view, pooled, size)
    return view


def show(view: View, pooled: Sequence[tuple[int, bytes]], size: int) -> None:
    """Give a view packed vectors; those of another size are passed over."""
    right = [(i, p) for i, p in pooled if len(p) == 2 * size]
    if right:
        vectors = unpack_pooled([p for _, p in right], size)
        view.set_pooled({i: vectors[n] for n, (i, _) in enumerate(right)})


def first(parts: Sequence[tuple[Snapshot, str]], q: Question, vectors: QueryVectors | None) -> list[Pass]:
    """Score all rows of each memory and choose those worth a closer look."""
    pooled = None if vectors is None else vectors.pooled
    return [Pass(rank.first_pass(s, q, pooled, documents=part == "documents"), part) for s, part in parts if s.size]


def second(
    passes: Sequence[Pass], q: Question, vectors: QueryVectors | None, tokens: Mapping[int, bytes], most: int
) -> list[Hit]:
    """The best of all memories. Each keeps its own order; of their heads the one that fits best goes first."""
    lists = [_ranked(one, q, vectors, tokens, most) for one in passes]
    out: list[Hit] = []
    at = [0] * len(lists)
    while len(out) < most:
        heads = [(hits[i].fit, -n) for n, (hits, i) in enumerate(zip(lists, at, strict=True)) if i < len(hits)]
        if not heads:
            break
        best = -max(heads)[1]
        out.append(lists[best][at[best]])
        at[best] += 1
    return out


def _ranked(one: Pass, q: Question, vectors: QueryVectors | None, tokens: Mapping[int, bytes], most: int) -> list[Hit]:
    found, s = one.found, one.found.snapshot
    near = told = None
    if vectors is not None and vectors.tokens is not None and tokens:
        near, told = (
            nearest(vectors.tokens, [tokens.get(int(i), b"") for i in s.ids[found.candidates]]),
            vectors.weights,
        )
    order, scores = rank.second_pass(found, q, near, told, documents=one.part == "documents")
    apart = rank.z(found.pooled) if found.pooled is not None and s.size >= FEWEST_APART else None
    out: list[Hit] = []
    for place, score in zip(order[:most].tolist(), scores.tolist(), strict=False):
        row = int(found.candidates[place])
        why = {name: round(float(values[place]), 3) for name, values in found.parts.items()}
        if one.part == "history":
            why["history"] = 1.0
        late = 0.0 if near is None or np.isnan(near[place]).all() else why.get("meaning", 0.0)
        cover = float(found.cover[row])
        fit = late + cover / 2 - MEANING_FIT if late else cover - WORDS_FIT
        if near is None and apart is not None:
            fit = max(fit, (float(apart[row]) - APART_FIT) / 10)
        out.append(Hit(int(s.ids[row]), float(score), fit, why))
    return out
