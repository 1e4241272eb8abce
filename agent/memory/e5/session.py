"""The bundled embedder: e5's weights, run by onnxruntime in int8, with vectors of every token."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.memory.e5 import graph
from agent.memory.e5.pieces import Pieces
from agent.memory.e5.weights import Floats, Weights, digest, unpack_blocks

log = logging.getLogger(__name__)

QUERY_PIECES = 96
WINDOW = 220  # pieces that are encoded together: longer windows cost more and find no better
MOST_PIECES = 660  # of one text; the rest of a longer one is found by its words


class Session:
    """Runs the network. One thread a call, no spinning; safe beside itself."""

    def __init__(self, source: Path, model: Path) -> None:
        import onnxruntime

        self.weights = Weights(source)
        self.pieces = Pieces(self.weights)
        shape = self.weights.shape
        self.size, self._bos, self._eos = shape.hidden, shape.bos, shape.eos
        self._words = self.weights.blocks("emb.word", shape.hidden)
        kind = self.weights.floats("emb.type")[: shape.hidden]
        self._places = self.weights.floats("emb.pos").reshape(-1, shape.hidden) + kind
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # a twentieth slower, 60 MB less
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def _embedded(self, ids: Sequence[int]) -> Floats:
        out: Floats = unpack_blocks(self._words[np.asarray(ids)]) + self._places[: len(ids)]
        return out

    def hidden(self, texts: Sequence[Sequence[int]]) -> list[Floats]:
        """Token states of texts given as pieces, marks of begin and end left out. Shorter ones are padded."""
        longest = max(map(len, texts)) + 2
        x = np.zeros((len(texts), longest, self.size), np.float32)
        mask = np.zeros((len(texts), longest), np.int32)
        for i, ids in enumerate(texts):
            whole = [self._bos, *ids, self._eos]
            x[i, : len(whole)] = self._embedded(whole)
            mask[i, : len(whole)] = 1
        states = self._session.run(["hidden"], {"x": x, "mask": mask})[0]
        return [states[i, 1 : len(ids) + 1] for i, ids in enumerate(texts)]


def open_session(source: Path, folder: Path) -> Session:
    """Make or take the converted model in `folder` and load it; a damaged one is made anew.

    Raises:
        BadWeights, OSError, RuntimeError: it cannot be run here; use a simpler embedder.
    """
    target = folder / f"e5-{digest(source)}-v{graph.VERSION}.onnx"
    if target.is_file():
        try:
            return Session(source, target)
        except Exception as error:  # noqa: BLE001 - a torn or foreign file raises whatever the parser likes
            log.warning("converted model is damaged, making it anew: %s", type(error).__name__)
    graph.write_file(target, graph.build(Weights(source)))
    for old in folder.glob("e5-*.onnx"):
        if old != target:
            old.unlink(missing_ok=True)
    return Session(source, target)
