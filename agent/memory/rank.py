"""Scores. All constants are round and stand beside their reason; none is the outcome of a fit.

BM25 with the memory's own counts, vectors where there are any, what is said beside a row, and the shape of a turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.memory.question import Question
from agent.memory.tokens import ASKS_WITHIN, OF_SELF, OURS, PINNED, QUESTION, REACTION, SPECIFIC, TIME_WORD
from agent.memory.view import KINDS, Floats, Ints, Snapshot

BACKGROUND = 20  # rows that hold none of the words, as if: with few memories one hit would else say nothing
K1, B = 0.9, 0.4  # short turns: little gain from repeats, little loss from length
NEAR, FAR = 0.4, 0.2  # what a turn gets from neighbours one and two away: an answer repeats little of its question
POOLED = 0.5
NEAREST = 150  # candidates from each side
LOOK_AT_ALL = 20_000
SECTIONS = 40  # best sections of documents that are looked at whole
# what a word counts that stands one before, one after, two before, two after: context is mostly set by what precedes
BESIDE_WORDS = (0.7, 0.5, 0.4, 0.3)
BESIDE_MEANING = (0.9, 0.85, 0.8, 0.75)  # likeness of unrelated tokens is about 0.4, so the same steps are smaller
DAY_MS = 86_400_000
TURN = KINDS.index("turn")


@dataclass(slots=True)
class Found:
    """What the first pass knows: scores of all rows, and the rows worth a closer look."""

    snapshot: Snapshot
    bm25: Floats
    cover: Floats
    holds: npt.NDArray[np.bool_]
    weights: Floats
    pooled: Floats | None
    candidates: Ints
    parts: dict[str, Floats] = field(default_factory=dict)


def z(x: Floats) -> Floats:
    """How far above the mean, in standard deviations; 0 where all are equal."""
    spread = float(x.std())
    return (x - x.mean()) / spread if spread > 1e-9 else np.zeros_like(x)


def share(x: Floats) -> Floats:
    """Between the least (0) and the most (1)."""
    if not len(x):
        return x
    low, high = float(x.min()), float(x.max())
    return (x - low) / (high - low) if high - low > 1e-9 else np.zeros_like(x)


def words(s: Snapshot, terms: tuple[int, ...]) -> tuple[Floats, npt.NDArray[np.bool_], Floats]:
    """BM25 of all rows, which row holds which term, and what each term weighs (its inverse frequency)."""
    score = np.zeros(s.size, np.float32)
    holds = np.zeros((len(terms), s.size), np.bool_)
    weights = np.zeros(len(terms), np.float32)
    norm = K1 * (1 - B + B * s.length / max(s.mean_length, 1e-6))
    for n, term in enumerate(terms):
        hits = [p.find(term) for p in s.postings]
        df = sum(len(rows) for rows, _ in hits) if s.known is None else s.known.get(term, 0)
        idf = float(np.log(1 + (s.total + BACKGROUND - df + 0.5) / (df + 0.5)))
        weights[n] = idf
        for rows, often in hits:
            score[rows] += idf * often * (K1 + 1) / (often + norm[rows])
            holds[n, rows] = True
    return score, holds, weights


def around(s: Snapshot, rows: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Of each row the neighbour one before, one after, two before, two after in its sitting; -1 where there is none."""
    prev, after = s.prev[rows].astype(np.int64), s.next[rows].astype(np.int64)
    prev2 = np.where(prev >= 0, s.prev[prev], -1)
    after2 = np.where(after >= 0, s.next[after], -1)
    return prev, after, prev2, after2


def at(x: Floats, rows: Ints, missing: float = 0.0) -> Floats:
    """Values of rows, `missing` for -1."""
    out: Floats = np.where(rows >= 0, x[rows], missing)
    return out


def smooth(s: Snapshot, x: Floats) -> Floats:
    """Each row with what its neighbours give it."""
    prev, after, prev2, after2 = around(s, np.arange(s.size))
    out: Floats = x + NEAR * (at(x, prev) + at(x, after)) + FAR * (at(x, prev2) + at(x, after2))
    return out


def best_of_sitting(s: Snapshot, x: Floats) -> Floats:
    """For each row the best value in its sitting."""
    best = np.full(s.sittings, -np.inf, np.float32)
    np.maximum.at(best, s.group, x)
    out: Floats = best[s.group]
    return out


def top(x: Floats, most: int) -> Ints:
    """Rows of the greatest values, in no order."""
    if len(x) <= most:
        return np.arange(len(x))
    return np.argpartition(-x, most - 1)[:most]


def first_pass(s: Snapshot, q: Question, vector: Floats | None, *, documents: bool) -> Found:
    """Score all rows by words and pooled vectors, and choose candidates."""
    # a concept counts only in a memory that has statements about it
    concepts = tuple(t for t in q.concepts if any(len(p.find(t)[0]) for p in s.postings))
    score, holds, weights = words(s, q.terms + concepts)
    whole = float(weights.sum())
    cover: Floats = (weights @ holds).astype(np.float32) / whole if whole else np.zeros(s.size, np.float32)
    pooled: Floats | None = None
    if vector is not None and s.pooled is not None and s.embedded.any():
        pooled = s.pooled @ vector
        if not s.embedded.all():  # rows without a vector yet: neither near nor far, words decide
            pooled[~s.embedded] = pooled[s.embedded].mean()
    if pooled is None and s.size <= LOOK_AT_ALL:  # without vectors to read, looking closer costs next to nothing
        return Found(s, score, cover, holds, weights, None, np.arange(s.size))
    sides = [top(score if documents else smooth(s, score), NEAREST)]
    if pooled is not None:
        sides.append(top(pooled, NEAREST))
    if documents:
        hybrid = z(score) if pooled is None else z(score) + z(pooled)
        sides.append(_best_sections(s, hybrid))
        near = np.unique(np.concatenate(sides))
    else:
        near = np.unique(np.concatenate(sides))
        near = np.unique(np.concatenate([near, s.prev[near], s.next[near]]))
        near = near[near >= 0]
    return Found(s, score, cover, holds, weights, pooled, near)


def _best_sections(s: Snapshot, x: Floats) -> Ints:
    """The better rows of the best sections: what a section is about, no single sentence of it may say."""
    best = np.full(s.sittings, -np.inf, np.float32)
    np.maximum.at(best, s.group, x)
    chosen = np.zeros(s.sittings, np.bool_)
    chosen[top(best, SECTIONS)] = True
    rows = np.flatnonzero(chosen[s.group])
    return rows[top(x[rows], 2 * NEAREST)]


def second_pass(
    f: Found, q: Question, near: Floats | None, told: Floats | None, *, documents: bool
) -> tuple[Ints, Floats]:
    """Places among the candidates and their scores, best first.

    Args:
        near: of each candidate, the likeness of its nearest token to each query token (`vectors.nearest`).
        told: what each query token counts.
    """
    if near is not None and (told is None or np.isnan(near).all()):
        near = None
    score = _documents(f, near, told) if documents else _talk(f, q, near, told)
    order: Ints = np.argsort(-score, kind="stable")
    return order, score[order]


def _late(near: Floats, told: Floats) -> Floats:
    """MaxSim of the candidates; the mean where a row has no token vectors yet."""
    out: Floats = near @ told
    out[np.isnan(out)] = np.nanmean(out)
    return out


def _spread(f: Found, late: Floats) -> Floats:
    """MaxSim of all rows: what was not looked at gets the lowest decile of what was."""
    out = np.full(f.snapshot.size, float(np.quantile(late, 0.1)), np.float32)
    out[f.candidates] = late
    return out


def _hybrid(f: Found, late: Floats | None) -> Floats:
    """Both sides on one scale. Sums of ranks would hide how sure a side is."""
    out = z(f.bm25)
    if late is not None:
        out = out + z(_spread(f, late))
    if f.pooled is not None:
        out = out + POOLED * z(f.pooled)
    return out


def _documents(f: Found, near: Floats | None, told: Floats | None) -> Floats:
    rows = f.candidates
    late = None if near is None or told is None else _late(near, told)
    section = best_of_sitting(f.snapshot, z(_hybrid(f, late)))[rows]
    found = share(f.bm25)[rows]
    # what a section says as a whole is what it is about, though no sentence repeats it
    score = found + f.cover[rows] + 0.2 * section + 2 * _section_cover(f)[rows]
    f.parts = {"words": found, "cover": f.cover[rows], "section": section}
    if late is not None:
        score = score + 1.5 * share(late)
        f.parts["meaning"] = late
    return score.astype(np.float32)


def _section_cover(f: Found) -> Floats:
    """The share of the query's weight that the section of each row holds."""
    s = f.snapshot
    held = np.zeros((len(f.weights), s.sittings), np.float32)
    terms, rows = np.nonzero(f.holds)
    held[terms, s.group[rows]] = 1
    return _weighed(f, held)[s.group]


def _talk(f: Found, q: Question, near: Floats | None, told: Floats | None) -> Floats:
    s, rows = f.snapshot, f.candidates
    beside = around(s, rows)
    late = None if near is None or told is None else _late(near, told)
    flow = smooth(s, _hybrid(f, late))
    place = np.empty(s.size, np.float32)
    place[np.argsort(-flow, kind="stable")] = np.arange(s.size)
    lexical = share(f.bm25)[rows] + 2 * _together(f, beside) + 0.5 * _after(f, beside[0])
    sitting = best_of_sitting(s, z(flow))[rows]
    shape = _shape(f, q, beside)
    # the best of the first pass stay in front, the sooner the more; the best sitting lifts all that it holds
    score = lexical + 10 / (10 + place[rows]) + 0.35 * sitting + 0.02 * flow[rows] + shape
    f.parts = {"words": share(f.bm25)[rows], "cover": f.cover[rows], "sitting": sitting, "shape": shape}
    if late is not None and near is not None and told is not None:
        score = score + _meaning(f, near, told, late, beside)
        f.parts["meaning"] = late
    if f.pooled is not None:
        score = score + 0.2 * z(f.pooled)[rows]
    out: Floats = score.astype(np.float32)
    return out


def _together(f: Found, beside: tuple[Ints, ...]) -> Floats:
    """The share of the query's weight that a turn and those beside it hold together."""
    held = f.holds[:, f.candidates].astype(np.float32)
    for rows, worth in zip(beside, BESIDE_WORDS, strict=True):
        held = np.maximum(held, np.where(rows >= 0, f.holds[:, rows], False) * worth)
    return _weighed(f, held)


def _after(f: Found, before: Ints) -> Floats:
    """The same with only the turn before, which is what an answer leans on."""
    held = f.holds[:, f.candidates].astype(np.float32)
    return _weighed(f, np.maximum(held, np.where(before >= 0, f.holds[:, before], False) * 0.8))


def _weighed(f: Found, held: Floats) -> Floats:
    whole = float(f.weights.sum())
    out: Floats = (f.weights @ held) / whole if whole else np.zeros(held.shape[1], np.float32)
    return out


def _meaning(f: Found, near: Floats, told: Floats, late: Floats, beside: tuple[Ints, ...]) -> Floats:
    """What a turn means, alone and with those beside it: the same two looks as for words."""
    s = f.snapshot
    place = np.full(s.size, -1, np.int64)
    place[f.candidates] = np.arange(len(f.candidates))
    known = np.where(np.isnan(near), 0, near)
    joined = known
    for rows, worth in zip(beside, BESIDE_MEANING, strict=True):
        there = np.where(rows >= 0, place[rows], -1)
        joined = np.maximum(joined, np.where((there >= 0)[:, None], known[there], 0) * worth)
    alone, with_others = share(late), share(joined @ told)
    score: Floats = 5 * late + 2 * alone + 2 * with_others
    before = np.where(beside[0] >= 0, place[beside[0]], -1)
    answers = (before >= 0) & _answers(s, f.candidates, beside[0])
    score += 0.5 * np.where(answers, alone[before], 0)
    return score


def _answers(s: Snapshot, rows: Ints, before: Ints) -> npt.NDArray[np.bool_]:
    """Turns that follow a question and ask none themselves."""
    asked = (before >= 0) & ((s.traits[before] & QUESTION) > 0)
    out: npt.NDArray[np.bool_] = asked & ((s.traits[rows] & QUESTION) == 0)
    return out


def _shape(f: Found, q: Question, beside: tuple[Ints, ...]) -> Floats:
    """What can be seen without the topic: who speaks, question or answer, names and times, when it was said."""
    s, rows, before = f.snapshot, f.candidates, beside[0]
    bits = s.traits[rows]

    def has(bit: int) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = (bits & bit) > 0
        return found

    out: Floats = np.zeros(len(rows), np.float32)
    turn = s.kind[rows] == TURN
    named = np.array([bool(name) and name <= q.words for name in s.names] or [False])
    if named.any():  # asked about one who spoke: what they said, most of all about themselves
        own = named[s.speaker[rows]]
        out += np.where(own, 1.0 + 0.4 * has(OF_SELF), np.where(turn, -0.8, 0))
    elif ((s.traits & OURS) > 0).any():  # "I" and "you" of a person who talks with us
        out += np.where(has(OURS) == q.of_us, 1.0, 0)
    out -= 0.3 * has(QUESTION)  # a question answers none
    out -= 0.3 * has(REACTION)  # thanks and praise repeat what was said
    out += 0.3 * has(SPECIFIC)
    out += np.where(has(TIME_WORD), 0.4 if not q.when else 0.6, 0)
    answers = _answers(s, rows, before)
    out += np.where(answers, 2 * at(f.cover, before), 0)  # the question just before had the words
    out += 0.2 * ((before >= 0) & ((s.traits[before] & ASKS_WITHIN) > 0))
    out += np.where(turn, 0, 0.5) + 1.0 * has(PINNED)  # kept on purpose
    out += 5 * _when(s.at[rows], q)  # who names a day wants what was said then
    out += 0.1 * z(np.log(np.maximum(s.length[rows], 1)).astype(np.float32))
    return out


def _when(said: Ints, q: Question) -> Floats:
    """How well the time at which a row was said fits the times that the question names."""
    out = np.zeros(len(said), np.float32)
    for first, end, kind in q.spans:
        exact = kind in ("day", "week")
        inside = (said >= first) & (said <= end)
        # people tell of a day within the week after it; a month or a year holds much
        soon = (said > end) & (said <= end + 7 * DAY_MS) & (kind == "day")
        out = np.maximum(out, np.where(inside, 1.0 if exact else 0.4, np.where(soon, 0.6, 0)))
    return out
