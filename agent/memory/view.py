"""One memory as ranking sees it: columns and postings in memory, made from the database, thrown away at will.

Imports numpy: only threads of the search load this module. A snapshot is never changed after it was handed out.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.memory.tokens import words

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

TAIL = 256  # rows that may wait beside the postings before these are made anew
KINDS = ("turn", "fact", "preference", "decision", "promise", "summary", "chunk")
NO_VECTOR = 0


@dataclass(frozen=True, slots=True)
class Postings:
    """Which rows hold a word, and how often: sorted word numbers, and for each its slice of rows."""

    keys: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    often: npt.NDArray[np.uint16]

    @staticmethod
    def of(terms: Sequence[bytes], first_row: int = 0) -> Postings:
        """Postings of rows `first_row`, `first_row` + 1, … from their packed words."""
        counts = np.fromiter((len(t) // 4 for t in terms), np.int64, len(terms))
        values = np.frombuffer(b"".join(terms), np.uint32)
        rows = np.repeat(np.arange(first_row, first_row + len(terms), dtype=np.uint64), counts)
        pairs, often = np.unique((values.astype(np.uint64) << np.uint64(32)) | rows, return_counts=True)
        keys, starts = np.unique((pairs >> np.uint64(32)).astype(np.uint32), return_index=True)
        return Postings(
            keys=keys,
            starts=np.append(starts, len(pairs)).astype(np.int64),
            rows=(pairs & np.uint64(0xFFFFFFFF)).astype(np.int32),
            often=np.minimum(often, 65535).astype(np.uint16),
        )

    def find(self, key: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint16]]:
        """Rows that hold the word, and how often each does."""
        at = int(np.searchsorted(self.keys, np.uint32(key)))
        if at == len(self.keys) or self.keys[at] != key:
            return self.rows[:0], self.often[:0]
        part = slice(int(self.starts[at]), int(self.starts[at + 1]))
        return self.rows[part], self.often[part]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A memory at one moment. All arrays have one entry a row; `prev` and `next` are neighbours or -1.

    `total` and `known` stand for the whole memory where the rows are only the candidates of a large one:
    its number of rows, and in how many of them each word stands. `group` numbers the sittings from 0.
    """

    ids: Ints
    kind: npt.NDArray[np.int8]
    sitting: Ints
    speaker: npt.NDArray[np.int32]
    at: Ints
    traits: npt.NDArray[np.int32]
    message: Ints
    length: npt.NDArray[np.int32]
    prev: npt.NDArray[np.int32]
    next: npt.NDArray[np.int32]
    pooled: Floats | None
    embedded: npt.NDArray[np.bool_]
    speakers: tuple[str, ...]
    names: tuple[frozenset[str], ...]
    postings: tuple[Postings, ...]
    group: Ints
    sittings: int
    mean_length: float
    total: int
    known: Mapping[int, int] | None = None

    @property
    def size(self) -> int:
        return len(self.ids)


class View:
    """A growing memory. Built from rows of `rows.load_rows`, extended as more is said."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._lock = threading.Lock()
        self._terms: list[bytes] = []
        self._whole: Postings | None = None
        self._settled = 0
        self._speakers: dict[str, int] = {}
        self._last: dict[int, int] = {}  # sitting -> its last row
        self._at: dict[int, int] = {}  # id -> row
        self._columns: dict[str, npt.NDArray[Any]] = {
            "ids": np.zeros(0, np.int64),
            "kind": np.zeros(0, np.int8),
            "sitting": np.zeros(0, np.int64),
            "speaker": np.zeros(0, np.int32),
            "at": np.zeros(0, np.int64),
            "traits": np.zeros(0, np.int32),
            "message": np.zeros(0, np.int64),
            "length": np.zeros(0, np.int32),
            "prev": np.zeros(0, np.int32),
            "next": np.zeros(0, np.int32),
            "embedded": np.zeros(0, np.bool_),
        }
        self._pooled: Floats | None = None
        self._snapshot: Snapshot | None = None
        self.add(rows)

    @property
    def size(self) -> int:
        return len(self._at)

    @property
    def embedded(self) -> bool:
        """True if any row has its vector."""
        return self._pooled is not None

    def holds(self, row_id: int) -> bool:
        """True if the row is in the view."""
        return row_id in self._at

    def add(self, rows: Sequence[Any]) -> None:
        """Append rows; those that are in already are passed over."""
        with self._lock:
            fresh = [row for row in rows if row.id not in self._at]
            if not fresh:
                return
            n = len(self._at)
            prev = np.full(len(fresh), -1, np.int32)
            after = np.append(self._columns["next"], np.full(len(fresh), -1, np.int32))
            for i, row in enumerate(fresh):
                before = self._last.get(row.sitting, -1)
                prev[i] = before
                if before >= 0:
                    after[before] = n + i
                self._last[row.sitting] = n + i
                self._at[row.id] = n + i
                self._terms.append(bytes(row.terms))
            new: dict[str, Any] = {
                "ids": [row.id for row in fresh],
                "kind": [KINDS.index(row.kind) for row in fresh],
                "sitting": [row.sitting for row in fresh],
                "speaker": [self._speakers.setdefault(row.speaker, len(self._speakers)) for row in fresh],
                "at": [row.at for row in fresh],
                "traits": [row.traits for row in fresh],
                "message": [row.message_id or 0 for row in fresh],
                "length": [len(row.terms) // 4 for row in fresh],
                "prev": prev,
                "embedded": np.zeros(len(fresh), np.bool_),
            }
            for name, values in new.items():
                old = self._columns[name]
                self._columns[name] = np.concatenate([old, np.asarray(values, dtype=old.dtype)])
            self._columns["next"] = after
            if self._pooled is not None and len(self._pooled) < len(self._at):
                room = np.zeros((len(self._at) * 5 // 4 + 64, self._pooled.shape[1]), np.float32)
                room[: len(self._pooled)] = self._pooled
                self._pooled = room
            self._snapshot = None

    def set_pooled(self, vectors: Mapping[int, Floats]) -> None:
        """Give rows their vectors; rows that are not in the view are passed over."""
        with self._lock:
            at = [(self._at[i], v) for i, v in vectors.items() if i in self._at]
            if not at:
                return
            size = len(at[0][1])
            if self._pooled is None or self._pooled.shape[1] != size:
                self._pooled = np.zeros((len(self._at), size), np.float32)
                self._columns["embedded"] = np.zeros(len(self._at), np.bool_)
            else:
                self._columns["embedded"] = self._columns["embedded"].copy()
            for row, vector in at:
                self._pooled[row] = vector
                self._columns["embedded"][row] = True
            self._snapshot = None

    def drop_pooled(self) -> None:
        """Forget all vectors: another embedder has taken over."""
        with self._lock:
            self._pooled = None
            self._columns["embedded"] = np.zeros(len(self._at), np.bool_)
            self._snapshot = None

    def snapshot(self) -> Snapshot:
        """The memory now."""
        with self._lock:
            if self._snapshot is None:
                self._snapshot = self._make()
            return self._snapshot

    def _make(self) -> Snapshot:
        n = len(self._terms)
        if self._whole is None or n - self._settled > TAIL:
            self._whole, self._settled = Postings.of(self._terms), n
        parts = [self._whole]
        if n > self._settled:
            parts.append(Postings.of(self._terms[self._settled :], self._settled))
        length = self._columns["length"]
        columns: dict[str, Any] = self._columns
        sittings, group = np.unique(self._columns["sitting"], return_inverse=True)
        return Snapshot(
            **columns,
            pooled=None if self._pooled is None else self._pooled[:n],
            speakers=tuple(self._speakers),
            names=tuple(frozenset(words(name)) for name in self._speakers),
            postings=tuple(parts),
            group=group.astype(np.int64),
            sittings=len(sittings),
            mean_length=float(length.mean()) if n else 1.0,
            total=n,
        )
