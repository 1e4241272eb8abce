"""Nearest vectors of a large memory without looking at all of them: a graph by hnswlib, or voyager where that is what
the platform has. A cache of the database: anything wrong with its file, and it is made anew.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from agent.memory.view import Floats, Ints

log = logging.getLogger(__name__)

LINKS, BUILD_WIDTH, SEARCH_WIDTH = 16, 200, 160
ROOM = 5_000  # free places made at a time
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Label:
    """What a saved graph says about itself. Only a graph whose label fits in every point is used."""

    format: int
    backend: str
    embedder: str
    size: int
    count: int
    digest: str


class Backend(Protocol):
    """The library behind a graph. Numbers of vectors are ids of memory rows."""

    name: str

    def add(self, ids: Ints, vectors: Floats) -> None: ...
    def remove(self, number: int) -> None: ...
    def ids(self) -> set[int]: ...
    def near(self, vector: Floats, most: int) -> tuple[Ints, Floats]: ...
    def save(self, path: Path) -> None: ...


class Hnswlib:
    """hnswlib: capacity grows by hand, removed places are used again."""

    name = "hnswlib"

    def __init__(self, size: int, path: Path | None = None, room: int = 0) -> None:
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=size)
        if path is not None:
            self._index.load_index(str(path), max_elements=room, allow_replace_deleted=True)
        else:
            self._index.init_index(
                max_elements=max(room, ROOM), M=LINKS, ef_construction=BUILD_WIDTH, allow_replace_deleted=True
            )
        self._index.set_num_threads(1)
        self._gone = 0

    def add(self, ids: Ints, vectors: Floats) -> None:
        replaced = min(self._gone, len(ids))
        if replaced:
            self._index.add_items(vectors[:replaced], ids[:replaced], replace_deleted=True)
            self._gone -= replaced
        rest = len(ids) - replaced
        if rest:
            if self._index.element_count + rest > self._index.max_elements:
                self._index.resize_index(self._index.element_count + rest + ROOM)
            self._index.add_items(vectors[replaced:], ids[replaced:])

    def remove(self, number: int) -> None:
        self._index.mark_deleted(number)
        self._gone += 1

    def ids(self) -> set[int]:
        return {int(i) for i in self._index.get_ids_list()}

    def near(self, vector: Floats, most: int) -> tuple[Ints, Floats]:
        have = self._index.element_count - self._gone
        most = min(most, have)
        if most < 1:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        self._index.set_ef(max(SEARCH_WIDTH, most))
        try:
            labels, distances = self._index.knn_query(vector[None], k=most, num_threads=1)
        except RuntimeError:  # fewer could be reached than were asked for
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        return labels[0].astype(np.int64), 1 - distances[0]

    def save(self, path: Path) -> None:
        self._index.save_index(str(path))


class Voyager:
    """voyager: the same graph under another API."""

    name = "voyager"

    def __init__(self, size: int, path: Path | None = None, room: int = 0) -> None:
        import voyager

        if path is not None:
            self._index = voyager.Index.load(str(path))
        else:
            self._index = voyager.Index(
                voyager.Space.InnerProduct, num_dimensions=size, M=LINKS, ef_construction=BUILD_WIDTH
            )

    def add(self, ids: Ints, vectors: Floats) -> None:
        self._index.add_items(vectors, ids.tolist(), num_threads=1)

    def remove(self, number: int) -> None:
        self._index.mark_deleted(number)

    def ids(self) -> set[int]:
        return {int(i) for i in self._index.ids}

    def near(self, vector: Floats, most: int) -> tuple[Ints, Floats]:
        most = min(most, len(self._index))
        if most < 1:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        labels, distances = self._index.query(vector, most, num_threads=1, query_ef=max(SEARCH_WIDTH, most))
        return labels.astype(np.int64), 1 - distances

    def save(self, path: Path) -> None:
        self._index.save(str(path))


def backend() -> type[Hnswlib] | type[Voyager] | None:
    """The library that is installed; None: look at all vectors."""
    if importlib.util.find_spec("hnswlib") is not None:
        return Hnswlib
    return Voyager if importlib.util.find_spec("voyager") is not None else None


class Graph:
    """A graph with its lock and its file. Writers and readers may call from any thread."""

    def __init__(self, made: Backend, size: int, embedder: str) -> None:
        self._made, self.size, self.embedder = made, size, embedder
        self._lock = threading.Lock()
        self._ids = made.ids()
        self.unsaved = 0

    @property
    def count(self) -> int:
        return len(self._ids)

    def ids(self) -> set[int]:
        """Ids of the vectors that are in."""
        with self._lock:
            return set(self._ids)

    def add(self, ids: Sequence[int], vectors: Floats) -> None:
        """Put vectors in; one that is in already keeps its place until it is removed."""
        with self._lock:
            fresh = [n for n, number in enumerate(ids) if number not in self._ids]
            if fresh:
                numbers = np.asarray([ids[n] for n in fresh], np.int64)
                self._made.add(numbers, np.ascontiguousarray(vectors[fresh], dtype=np.float32))
                self._ids.update(numbers.tolist())
                self.unsaved += len(fresh)

    def remove(self, ids: Sequence[int]) -> None:
        """Take vectors out; those that are not in are passed over."""
        with self._lock:
            for number in ids:
                if number in self._ids:
                    self._made.remove(number)
                    self._ids.discard(number)
                    self.unsaved += 1

    def near(self, vector: Floats, most: int) -> tuple[Ints, Floats]:
        """Ids and likenesses of the nearest vectors, best first."""
        with self._lock:
            return self._made.near(vector, most)

    def save(self, path: Path) -> None:
        """Write the file whole or not at all: first the graph under a new name, last the label that names it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with self._lock:
            self._made.save(part)
            count, self.unsaved = len(self._ids), 0
        with part.open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "blake2b").hexdigest()
        label = Label(FORMAT, self._made.name, self.embedder, self.size, count, digest)
        note = path.with_suffix(".json.part")
        with note.open("w", encoding="utf-8") as file:
            json.dump(asdict(label), file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        note.replace(path.with_suffix(".json"))  # killed between the two: the digest does not fit, made anew

    @staticmethod
    def load(path: Path, embedder: str, size: int) -> Graph | None:
        """Read a saved graph; None if it is missing, torn, changed, or of another embedder or library."""
        library = backend()
        try:
            raw = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            label = Label(**raw)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "blake2b").hexdigest()
        except (OSError, ValueError, TypeError):
            return None
        fits = library is not None and label.backend == library.name and label.format == FORMAT
        if library is None or not fits or (label.embedder, label.size, label.digest) != (embedder, size, digest):
            log.warning("the index %s is damaged, old or of another embedder: making it anew", path.name)
            return None
        graph = Graph(library(size, path, label.count + ROOM), size, embedder)
        return graph if graph.count == label.count else None

    @staticmethod
    def fresh(embedder: str, size: int, room: int) -> Graph | None:
        """An empty graph; None where no library is installed."""
        library = backend()
        return None if library is None else Graph(library(size, None, room), size, embedder)
