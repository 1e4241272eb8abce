"""Text to piece numbers: the most likely cut of each word into pieces of the vocabulary (unigram, Viterbi)."""

from __future__ import annotations

from functools import lru_cache

from agent.memory.e5.weights import Weights

SPACE = "\u2581"
LONGEST_WORD = 256  # characters; Chinese text has no spaces, so a "word" may be a sentence
LONGEST_PIECE = 16
CACHED = 30_000


class Pieces:
    """The tokenizer of the bundled model. Safe beside itself."""

    def __init__(self, weights: Weights) -> None:
        self._pieces, self._scores = weights.pieces, weights.scores
        self._characters = weights.characters
        self._unknown = weights.shape.unk
        self._unknown_score = min(weights.scores) - 10.0
        self._longest = min(LONGEST_PIECE, max(map(len, weights.pieces)))
        self._cut = lru_cache(CACHED)(self._best_cut)

    def score(self, piece: int) -> float:
        """Log probability of a piece in ordinary text."""
        return self._scores[piece]

    def __call__(self, text: str) -> list[int]:
        """Piece numbers of a text, without marks of begin and end."""
        out: list[int] = []
        for word in text.translate(self._characters).split(" "):
            for i in range(0, len(word), LONGEST_WORD):
                out += self._cut((SPACE if i == 0 else "") + word[i : i + LONGEST_WORD])
        return out

    def _best_cut(self, word: str) -> tuple[int, ...]:
        length, pieces, scores = len(word), self._pieces, self._scores
        best = [0.0] + [-1e30] * length
        piece_to, came_from = [0] * (length + 1), [0] * (length + 1)
        for start in range(length):
            here = best[start]
            for end in range(start + 1, min(length, start + self._longest) + 1):
                piece = pieces.get(word[start:end])
                if piece is None or piece == self._unknown:
                    continue
                reached = here + scores[piece]
                if reached > best[end]:
                    best[end], piece_to[end], came_from[end] = reached, piece, start
            reached = here + self._unknown_score
            if reached > best[start + 1]:
                best[start + 1], piece_to[start + 1], came_from[start + 1] = reached, self._unknown, start
        out, end = [], length
        while end:
            out.append(piece_to[end])
            end = came_from[end]
        return tuple(reversed(out))
