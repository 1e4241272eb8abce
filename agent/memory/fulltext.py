"""The word index in the database: which rows of one memory hold a word. Replaceable; PostgreSQL gets its own.

On SQLite an FTS5 table without content. A term is the memory's number and the word's hash, so a search can only
ever touch the rows of the memory that it names, and counts are that memory's own. Scores are ours (`rank.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from sqlalchemy import Connection

from agent.memory.tokens import unpack

MERGE_PAGES = 400


class WordIndex(Protocol):
    """Called inside a transaction with the connection of `Database.read` or `Database.write`."""

    def make(self, c: Connection) -> None:
        """Create the index if it is missing."""
        ...

    def add(self, c: Connection, rows: Iterable[tuple[int, int, bytes]]) -> None:
        """Index rows: (memory, row id, packed terms)."""
        ...

    def remove(self, c: Connection, rows: Iterable[tuple[int, int, bytes]]) -> None:
        """Take rows out; the terms must be those that were added."""
        ...

    def counts(self, c: Connection, store: int, terms: Sequence[int]) -> dict[int, int]:
        """In how many rows of the memory each term stands."""
        ...

    def rows(self, c: Connection, store: int, terms: Sequence[int], most: int) -> list[int]:
        """Ids of rows that hold any of the terms, newest first, at most `most`."""
        ...

    def purge(self, c: Connection, *, begin: bool) -> bool:
        """Drop what removed rows have left behind, a slice at a time. True while there may be more."""
        ...

    def clear(self, c: Connection) -> None:
        """Empty the index, to be filled anew."""
        ...


def _term(store: int, value: int) -> str:
    return f"{store:x}z{value:x}"


class Fts5Words:
    """`WordIndex` over SQLite's FTS5."""

    def make(self, c: Connection) -> None:
        c.exec_driver_sql(
            "CREATE VIRTUAL TABLE IF NOT EXISTS memory_words USING fts5"
            "(t, content='', detail=none, columnsize=0, tokenize='ascii')"
        )
        c.exec_driver_sql("CREATE VIRTUAL TABLE IF NOT EXISTS memory_words_count USING fts5vocab(memory_words, 'row')")

    def add(self, c: Connection, rows: Iterable[tuple[int, int, bytes]]) -> None:
        for store, row, packed in rows:
            text = " ".join(_term(store, value) for value in sorted(set(unpack(packed))))
            c.exec_driver_sql("INSERT INTO memory_words(rowid, t) VALUES (?, ?)", (row, text))

    def remove(self, c: Connection, rows: Iterable[tuple[int, int, bytes]]) -> None:
        for store, row, packed in rows:
            text = " ".join(_term(store, value) for value in sorted(set(unpack(packed))))
            c.exec_driver_sql("INSERT INTO memory_words(memory_words, rowid, t) VALUES ('delete', ?, ?)", (row, text))

    def counts(self, c: Connection, store: int, terms: Sequence[int]) -> dict[int, int]:
        out: dict[int, int] = {}
        for value in terms:
            found = c.exec_driver_sql(
                "SELECT doc FROM memory_words_count WHERE term = ?", (_term(store, value),)
            ).first()
            out[value] = int(found[0]) if found is not None else 0
        return out

    def rows(self, c: Connection, store: int, terms: Sequence[int], most: int) -> list[int]:
        if not terms:
            return []
        match = " OR ".join(f'"{_term(store, value)}"' for value in terms)
        found = c.exec_driver_sql(
            "SELECT rowid FROM memory_words WHERE memory_words MATCH ? ORDER BY rowid DESC LIMIT ?", (match, most)
        )
        return [int(row[0]) for row in found]

    def purge(self, c: Connection, *, begin: bool) -> bool:
        # the first, negative count puts all parts on one level, the next ones merge them: entries of removed rows
        # go with that (SQLite's manual, 6.8). SQLite 3.42 could overwrite at once (secure-delete), older ones cannot
        before = int(c.exec_driver_sql("SELECT total_changes()").scalar_one())
        pages = -MERGE_PAGES if begin else MERGE_PAGES
        c.exec_driver_sql("INSERT INTO memory_words(memory_words, rank) VALUES ('merge', ?)", (pages,))
        after = int(c.exec_driver_sql("SELECT total_changes()").scalar_one())
        return after - before >= 2

    def clear(self, c: Connection) -> None:
        c.exec_driver_sql("INSERT INTO memory_words(memory_words) VALUES ('delete-all')")
