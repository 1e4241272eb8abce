"""Opens graphs that stand in the database. Loads the part that needs numpy only in the search's own threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.memory.pg_graph import PgGraph, PgGraphs

OpenGraph = Callable[[int, str, str, int], "PgGraph | None"]


def shared_graphs(db: Any) -> OpenGraph:
    """What `Large.open_graph` is on PostgreSQL."""
    made: list[PgGraphs] = []

    def open_graph(store: int, part: str, embedder: str, size: int) -> PgGraph | None:
        from agent.memory.pg_graph import PgGraphs

        if not made:
            made.append(PgGraphs(db))
        return made[0].open(store, part, embedder, size)

    return open_graph
