"""The word index on PostgreSQL: which rows of one memory hold a word. The same hashed words and counts as on SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, text

from agent.memory.tokens import unpack

_ADD = text(
    "INSERT INTO memory_word (store_id, term, memory_id)"
    " SELECT :store, term, :row FROM unnest(CAST(:terms AS bigint[])) AS wanted(term) ON CONFLICT DO NOTHING"
)
_REMOVE = text(
    "DELETE FROM memory_word WHERE store_id = :store AND memory_id = :row AND term = ANY(CAST(:terms AS bigint[]))"
)
_COUNTS = text(
    "SELECT term, count(*) AS n FROM memory_word"
    " WHERE store_id = :store AND term = ANY(CAST(:terms AS bigint[])) GROUP BY term"
)
_ROWS = text(
    "SELECT DISTINCT memory_id FROM memory_word WHERE store_id = :store AND term = ANY(CAST(:terms AS bigint[]))"
    " ORDER BY memory_id DESC LIMIT :most"
)


class PgWords:
    """`WordIndex` over a table: one entry for each word of a row, found by memory and word."""

    def make(self, c: Connection) -> None:
        # at every start of every process: the lock of CREATE TABLE is taken only where it is needed
        if c.execute(text("SELECT to_regclass('memory_word')")).scalar() is None:
            c.exec_driver_sql(
                "CREATE TABLE memory_word (store_id bigint, term bigint, memory_id bigint,"
                " PRIMARY KEY (store_id, term, memory_id))"
            )

    def add(self, c: Connection, rows: Iterable[tuple[int, int, bytes]]) -> None:
        values = [_values(*row) for row in rows]
        if values:
            c.execute(_ADD, values)

    def remove(self, c: Connection, rows: Iterable[tuple[int, int, bytes]]) -> None:
        values = [_values(*row) for row in rows]
        if values:
            c.execute(_REMOVE, values)

    def counts(self, c: Connection, store: int, terms: Sequence[int]) -> dict[int, int]:
        found = {int(row.term): int(row.n) for row in c.execute(_COUNTS, {"store": store, "terms": list(terms)})}
        return {term: found.get(term, 0) for term in terms}

    def rows(self, c: Connection, store: int, terms: Sequence[int], most: int) -> list[int]:
        if not terms:
            return []
        return [int(row[0]) for row in c.execute(_ROWS, {"store": store, "terms": list(terms), "most": most})]

    def purge(self, c: Connection, *, begin: bool) -> bool:
        """Deleted entries hold no text; the server's own vacuum overwrites their places."""
        return False

    def clear(self, c: Connection) -> None:
        c.exec_driver_sql("DELETE FROM memory_word")


def _values(store: int, row: int, packed: bytes) -> dict[str, object]:
    return {"store": store, "row": row, "terms": sorted(set(unpack(packed)))}
