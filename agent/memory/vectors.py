"""Vectors as stored: pooled ones as 16-bit numbers, token vectors as int8 with a scale each; and MaxSim over them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agent.memory.view import Floats

SCALE_BYTES = 2


def pack_pooled(vector: Floats) -> bytes:
    """A pooled vector as stored."""
    packed: bytes = vector.astype("<f2").tobytes()
    return packed


def unpack_pooled(packed: Sequence[bytes], size: int) -> Floats:
    """Stored pooled vectors, one a row. All must have `size` numbers."""
    out: Floats = np.frombuffer(b"".join(packed), "<f2").reshape(-1, size).astype(np.float32)
    return out


def pack_tokens(vectors: Floats) -> bytes:
    """Token vectors as stored: first the scales of all, then the numbers of all."""
    scale = np.maximum(np.abs(vectors).max(axis=1), 1e-6) / 127
    stored = scale.astype("<f2")
    numbers = np.rint(vectors / stored.astype(np.float32)[:, None]).clip(-127, 127).astype(np.int8)
    packed: bytes = stored.tobytes() + numbers.tobytes()
    return packed


def nearest(query: Floats, packed: Sequence[bytes]) -> Floats:
    """For each text and each query token the likeness of the text's nearest token; a row of NaN where it has none.

    Args:
        query: unit vectors of the query's tokens.
        packed: `pack_tokens` of each text, or empty.
    """
    size = query.shape[1]
    out = np.full((len(packed), len(query)), np.nan, np.float32)
    counts = [len(p) // (size + SCALE_BYTES) for p in packed]
    have = [i for i, n in enumerate(counts) if n]
    if not have or not len(query):
        return out
    heads = b"".join([packed[i][: SCALE_BYTES * counts[i]] for i in have])
    bodies = b"".join([packed[i][SCALE_BYTES * counts[i] : (size + SCALE_BYTES) * counts[i]] for i in have])
    scales = np.frombuffer(heads, "<f2").astype(np.float32)
    raw: npt.NDArray[np.int8] = np.frombuffer(bodies, np.int8)
    near = raw.reshape(-1, size).astype(np.float32) @ query.T
    near *= scales[:, None]
    starts = np.concatenate([[0], np.cumsum([counts[i] for i in have])[:-1]])
    out[have] = np.maximum.reduceat(near, starts, axis=0)
    return out
