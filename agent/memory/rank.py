"""Scores. Constants are round and chosen by hand; none is fitted.

BM25 over the memory's own counts, vectors where there are any, neighbours in talk, and the shape of a turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from agent.memory.question import Question
from agent.memory.tokens import OURS, QUESTION, TIME_WORD
from agent.memory.view import KINDS, Floats, Ints, Snapshot

BACKGROUND = 20  # rows that hold none of the words, as if: with few memories one hit would else say nothing
K1, B = 0.9, 0.4  # short turns: little gain from repeats, little loss from length
NEAR, FAR = 0.4, 0.2  # what a turn gets from neighbours one and two away
POOLED = 0.5
NEAREST = 150  # candidates from each side
DAY_MS = 86_400_000
TURN = KINDS.index("turn")


@dataclass(slots=True)
class Found:
    """What the first pass knows: scores of all rows, and the rows worth a closer look."""

    snapshot: Snapshot
    bm25: Floats
    cover: Floats
    pooled: Floats | None
    candidates: Ints
    idf_sum: float
    parts: dict[str, Floats] = field(default_factory=dict)


def z(x: Floats) -> Floats:
    """How far above the mean, in standard deviations; 0 where all are equal."""
    spread = float(x.std())
    return (x - x.mean()) / spread if spread > 1e-9 else np.zeros_like(x)


def share(x: Floats) -> Floats:
    """Between the least (0) and the most (1)."""
    low, high = float(x.min(initial=0.0)), float(x.max(initial=0.0))
    return (x - low) / (high - low) if high - low > 1e-9 else np.zeros_like(x)


def bm25(s: Snapshot, terms: tuple[int, ...]) -> tuple[Floats, Floats, float]:
    """Scores of all rows, the share of the query's weight that each covers, and that weight."""
    score, cover = np.zeros(s.size, np.float32), np.zeros(s.size, np.float32)
    norm = K1 * (1 - B + B * s.length / max(s.mean_length, 1e-6))
    weight = 0.0
    for term in terms:
        hits = [p.find(term) for p in s.postings]
        df = sum(len(rows) for rows, _ in hits) if s.known is None else s.known.get(term, 0)
        idf = float(np.log(1 + (s.total + BACKGROUND - df + 0.5) / (df + 0.5)))
        weight += idf
        for rows, often in hits:
            score[rows] += idf * often * (K1 + 1) / (often + norm[rows])
            cover[rows] += idf
    return score, cover / weight if weight else cover, weight


def beside(s: Snapshot, x: Floats, step: int) -> tuple[Floats, Floats]:
    """The values of the rows `step` before and after in the same sitting; 0 where there is none."""
    prev, after = s.prev, s.next
    for _ in range(step - 1):
        prev = np.where(prev >= 0, s.prev[prev], -1)
        after = np.where(after >= 0, s.next[after], -1)
    return np.where(prev >= 0, x[prev], 0), np.where(after >= 0, x[after], 0)


def smooth(s: Snapshot, x: Floats) -> Floats:
    """Each row with what its neighbours give it."""
    one, two = beside(s, x, 1), beside(s, x, 2)
    out: Floats = x + NEAR * (one[0] + one[1]) + FAR * (two[0] + two[1])
    return out


def best_of_sitting(s: Snapshot, x: Floats) -> Floats:
    """For each row the best value in its sitting."""
    _, group = np.unique(s.sitting, return_inverse=True)
    best = np.full(int(group.max(initial=0)) + 1, -np.inf, np.float32)
    np.maximum.at(best, group, x)
    out: Floats = best[group]
    return out


def top(x: Floats, most: int) -> Ints:
    """Rows of the greatest values, in no order."""
    if len(x) <= most:
        return np.arange(len(x))
    return np.argpartition(-x, most - 1)[:most]


def first_pass(s: Snapshot, q: Question, vector: Floats | None, *, documents: bool) -> Found:
    """Score all rows by words and pooled vectors, and choose candidates."""
    score, cover, weight = bm25(s, q.terms)
    pooled: Floats | None = None
    if vector is not None and s.pooled is not None and s.embedded.any():
        pooled = s.pooled @ vector
        if not s.embedded.all():  # rows without a vector yet: neither near nor far, words decide
            pooled[~s.embedded] = pooled[s.embedded].mean()
    sides = [top(score if documents else smooth(s, score), NEAREST)]
    if pooled is not None:
        sides.append(top(pooled, NEAREST))
    near = np.unique(np.concatenate(sides))
    if not documents:
        around = np.concatenate([near, s.prev[near], s.next[near]])
        near = np.unique(around[around >= 0])
    return Found(snapshot=s, bm25=score, cover=cover, pooled=pooled, candidates=near, idf_sum=weight)


def second_pass(f: Found, q: Question, late: Floats | None, *, documents: bool) -> tuple[Ints, Floats]:
    """Candidates and their scores, best first. `late` is MaxSim of each candidate, NaN where it has no vectors."""
    score = _documents(f, late) if documents else _talk(f, q, late)
    order: Ints = np.argsort(-score, kind="stable")
    return f.candidates[order], score[order]


def _fill(f: Found, late: Floats | None) -> Floats | None:
    """MaxSim for all rows: what was not looked at gets the lowest decile of what was."""
    if late is None or np.isnan(late).all():
        return None
    low = float(np.nanquantile(late, 0.1))
    out = np.full(f.snapshot.size, low, np.float32)
    out[f.candidates] = np.where(np.isnan(late), np.nanmean(late), late)
    return out


def _documents(f: Found, late: Floats | None) -> Floats:
    s, near = f.snapshot, f.candidates
    maxsim = _fill(f, late)
    hybrid = z(f.bm25)
    if maxsim is not None:
        hybrid = hybrid + z(maxsim)
    if f.pooled is not None:
        hybrid = hybrid + POOLED * z(f.pooled)
    score = share(f.bm25) + f.cover + 0.25 * best_of_sitting(s, z(hybrid))
    f.parts = {"words": share(f.bm25)[near], "cover": f.cover[near]}
    if maxsim is not None:
        score = score + 1.5 * share(maxsim)
        f.parts["meaning"] = maxsim[near]
    return score[near].astype(np.float32)


def _talk(f: Found, q: Question, late: Floats | None) -> Floats:
    s, near = f.snapshot, f.candidates
    maxsim = _fill(f, late)
    hybrid = z(f.bm25)
    if maxsim is not None:
        hybrid = hybrid + z(maxsim)
    if f.pooled is not None:
        hybrid = hybrid + POOLED * z(f.pooled)
    flow = smooth(s, hybrid)
    score = 0.35 * flow + 0.4 * best_of_sitting(s, z(flow)) + share(f.bm25) + f.cover
    if maxsim is not None:
        score = score + 3 * share(maxsim)
    shape = _shape(s, q)
    f.parts = {"words": share(f.bm25)[near], "cover": f.cover[near], "around": flow[near], "shape": shape[near]}
    if maxsim is not None:
        f.parts["meaning"] = maxsim[near]
    return (score + shape)[near].astype(np.float32)


def _shape(s: Snapshot, q: Question) -> Floats:
    """What can be seen without the words: who speaks, is it a question, does it name a time, when was it said."""
    out = np.zeros(s.size, np.float32)
    asks = (s.traits & QUESTION) > 0
    ours = (s.traits & OURS) > 0
    timed = (s.traits & TIME_WORD) > 0
    named = np.array([bool(name) and name <= q.words for name in s.names] or [False])
    if named.any():
        out += np.where(named[s.speaker], 1.0, np.where(s.kind == TURN, -1.0, 0.0))
    elif ours.any():
        out += np.where(ours == q.of_us, 0.5, -0.5)
    out += np.where(asks, -0.6, 0)
    out += np.where((s.prev >= 0) & asks[s.prev] & ~asks, 0.4, 0)
    out += np.where(timed, 0.3 + 0.8 * q.when, 0)
    out += np.where(s.kind == TURN, 0, 0.5)  # kept on purpose
    for first, end, kind in q.spans:
        inside = (s.at >= first) & (s.at <= end)
        soon = (s.at > end) & (s.at <= end + 7 * DAY_MS)
        worth = 1.0 if kind in ("day", "week") else 0.4
        out += np.where(inside, worth, np.where(soon & (kind == "day"), 0.6, 0))
    length = np.log(np.maximum(s.length, 1)).astype(np.float32)
    return out + 0.2 * z(length)
