"""Nearest vectors of a large memory by pgvector: one index for all processes, kept in step by the rows themselves.

Stands where `ann.Graph` stands for one process. Where the server has no pgvector, each process keeps its own graph.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from agent.memory.view import Floats, Ints
from storage.errors import Unavailable
from storage.postgres import LOCK_SCHEMA, PostgresDatabase, problem

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger(__name__)

SEARCH_WIDTH = 200
_SAFE = re.compile(r"[^a-z0-9]+")

_TABLE = (
    "CREATE TABLE IF NOT EXISTS memory_embedding (memory_id bigint NOT NULL REFERENCES memory(id) ON DELETE CASCADE,"
    " embedder text NOT NULL, store_id bigint NOT NULL, part text NOT NULL, v vector NOT NULL,"
    " PRIMARY KEY (memory_id, embedder))",
    "CREATE INDEX IF NOT EXISTS ix_memory_embedding_store ON memory_embedding (store_id, part, embedder)",
)
_MINE = "store_id = :store AND part = :part AND embedder = :embedder"
_IDS = text(f"SELECT memory_id FROM memory_embedding WHERE {_MINE}")  # noqa: S608 - our own text
_ADD = text(
    "INSERT INTO memory_embedding (memory_id, embedder, store_id, part, v)"
    " SELECT :id, :embedder, :store, :part, CAST(:v AS vector) WHERE EXISTS (SELECT 1 FROM memory WHERE id = :id)"
    " ON CONFLICT DO NOTHING"
)
_REMOVE = text(
    f"DELETE FROM memory_embedding WHERE {_MINE} AND memory_id = ANY(CAST(:ids AS bigint[]))"  # noqa: S608 - our own text
)


class PgGraph:
    """The vectors of one part of one memory. Called in threads; every call is one transaction."""

    shared = True

    def __init__(self, db: PostgresDatabase, store: int, part: str, embedder: str, size: int) -> None:
        self.db, self.embedder, self.size = db, embedder, size
        self._mine: dict[str, object] = {"store": store, "part": part, "embedder": embedder}
        self.unsaved = 0  # every change is in the database at once
        # the embedder's name stands in the index's condition, so it must stand in the query as itself, too
        quoted = embedder.replace("'", "''").replace(":", "\\:")
        self._near = text(
            f"SELECT memory_id, -(v::vector({size}) <#> CAST(:q AS vector({size}))) AS likeness FROM memory_embedding"  # noqa: S608 - a name of ours
            f" WHERE store_id = :store AND part = :part AND embedder = '{quoted}'"
            f" ORDER BY v::vector({size}) <#> CAST(:q AS vector({size})) LIMIT :most"
        )

    @property
    def count(self) -> int:
        return len(self.ids())

    def ids(self) -> set[int]:
        """Ids of the vectors that are in."""
        with self.db.writer.begin() as c:
            return {int(row[0]) for row in c.execute(_IDS, self._mine)}

    def add(self, ids: Sequence[int], vectors: Floats) -> None:
        """Put vectors in; one that is in already keeps its place until it is removed."""
        rows = [self._mine | {"id": int(i), "v": _text(v)} for i, v in zip(ids, vectors, strict=True)]
        if rows:
            with self.db.writer.begin() as c:
                c.execute(_ADD, rows)

    def remove(self, ids: Sequence[int]) -> None:
        """Take vectors out; those that are not in are passed over."""
        with self.db.writer.begin() as c:
            c.execute(_REMOVE, self._mine | {"ids": [int(i) for i in ids]})

    def near(self, vector: Floats, most: int) -> tuple[Ints, Floats]:
        """Ids and likenesses of the nearest vectors, best first."""
        try:
            with self.db.reader.begin() as c:
                # goes on through the index until enough of this memory are found
                c.exec_driver_sql(
                    f"SELECT set_config('hnsw.ef_search', '{max(SEARCH_WIDTH, most)}', true),"
                    " set_config('hnsw.iterative_scan', 'relaxed_order', true)"
                )
                rows = c.execute(self._near, self._mine | {"q": _text(vector), "most": most}).all()
        except DBAPIError as error:
            raise problem(error) or error from error
        found = sorted(((float(row.likeness), int(row.memory_id)) for row in rows), reverse=True)
        return np.array([i for _, i in found], np.int64), np.array([s for s, _ in found], np.float32)

    def save(self, path: object) -> None:
        """It is saved."""


class PgGraphs:
    """Makes them, where the server can."""

    def __init__(self, db: PostgresDatabase) -> None:
        self.db = db
        self._able: bool | None = None
        self._indexed: set[str] = set()

    def open(self, store: int, part: str, embedder: str, size: int) -> PgGraph | None:
        """The vectors of a part of a memory; None where the server has no pgvector.

        Raises:
            Unavailable: the database does not answer now.
        """
        try:
            if self._able is None:
                self._able = self._prepare()
            if self._able and embedder not in self._indexed:
                with self.db.writer.begin() as c:
                    _index(c, embedder, size)
                self._indexed.add(embedder)
        except DBAPIError as error:
            raise problem(error) or Unavailable("db.unreachable") from error
        return PgGraph(self.db, store, part, embedder, size) if self._able else None

    def _prepare(self) -> bool:
        with self.db.writer.begin() as c:
            c.execute(text(f"SELECT pg_advisory_xact_lock({LOCK_SCHEMA})"))
            offered = c.execute(text("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")).scalar()
            if offered is None:
                log.info("the database has no pgvector: each process keeps its own index of vectors")
                return False
            try:
                with c.begin_nested():
                    c.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")
            except DBAPIError as error:
                log.warning("an admin of the database must run CREATE EXTENSION vector: %s", error.orig)
                return False
            for statement in _TABLE:
                c.exec_driver_sql(statement)
            return True


def _index(c: Connection, embedder: str, size: int) -> None:
    """One index for each embedder: vectors of another size cannot stand in it."""
    c.execute(text(f"SELECT pg_advisory_xact_lock({LOCK_SCHEMA})"))
    name = f"ix_embedding_{_SAFE.sub('_', embedder.lower())}"[:60]
    quoted = embedder.replace("'", "''")
    c.exec_driver_sql(
        f"CREATE INDEX IF NOT EXISTS {name} ON memory_embedding"
        f" USING hnsw ((v::vector({size})) vector_ip_ops) WHERE embedder = '{quoted}'"
    )


def _text(vector: Floats) -> str:
    return "[" + ",".join(f"{x:.6g}" for x in vector.tolist()) + "]"
