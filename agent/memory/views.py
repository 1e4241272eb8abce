"""Memories that are kept ready for searching. The least used go first; what is gone is made again from the database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection

from agent.memory import rows as table
from agent.memory.embedder import Embedder
from agent.memory.large import LARGE
from agent.memory.newrow import Added, NewRow
from storage.database import Database

if TYPE_CHECKING:
    from agent.memory.view import View

PARTS = ("talk", "documents", "history")
MOST_IN_MEMORY = 40_000  # rows of all views; 1.8 KB each
EACH = 50  # what an empty view counts
COUNT_AFTER = 500  # rows added to views before they are counted again


def part_of(row: NewRow) -> str:
    """The part of a memory to which a new row belongs."""
    return "documents" if row.kind == "chunk" else "talk"


class Kept:
    """A new row in the form in which views read rows."""

    __slots__ = ("at", "id", "kind", "message_id", "session", "sitting", "speaker", "terms", "traits")

    def __init__(self, added: Added) -> None:
        row = added.row
        self.id, self.kind, self.sitting, self.speaker = added.id, row.kind, added.sitting, row.speaker
        self.at, self.traits, self.message_id, self.session = row.at, row.traits, row.message_id, row.session
        self.terms = row.terms


class Views:
    """A bounded number of views, by memory and part."""

    def __init__(self, db: Database, run: Callable[..., Any]) -> None:
        """`run` runs a function in one of the search's threads."""
        self.db, self._run = db, run
        self._held: OrderedDict[tuple[int, str], View] = OrderedDict()
        self._adding = 0  # rows added since the views were last counted
        self._large: set[tuple[int, str]] = set()
        self._changed: dict[int, int] = {}  # memory -> how often it has changed since the start

    async def get(self, store: int, part: str, embedder: Embedder | None) -> View | Literal["large"] | None:
        """A memory's part, loaded if need be; None if it is empty, a word if it is too large for a view."""
        held = self._held.get((store, part))
        large = (store, part) in self._large
        if held is None and (large or await self.db.read(lambda c: table.count_rows(c, store, part)) > LARGE):
            self._large.add((store, part))
            return "large"
        fresh = held is None
        while held is None:
            before = self._changed.get(store, 0)
            loaded, pooled = await self.db.read(lambda c: _load(c, store, part, embedder))
            held = await self._run(_make, loaded, pooled, 0 if embedder is None else embedder.size)
            if self._changed.get(store, 0) != before:  # something came in meanwhile
                held = None
        self._held[(store, part)] = held
        self._held.move_to_end((store, part))
        if fresh or self._adding > COUNT_AFTER:
            self._bound()
        return held if held.size else None

    def _bound(self) -> None:
        """Let the least used go, so that all together stay small."""
        self._adding = 0
        size = sum(view.size + EACH for view in self._held.values())
        while len(self._held) > 1 and size > MOST_IN_MEMORY:
            size -= self._held.popitem(last=False)[1].size + EACH

    async def add(self, store: int, added: Sequence[Added]) -> None:
        """Show new rows to the views that are held. What they replace leaves them."""
        self._touch(store)
        if any(one.replaced for one in added):
            self.drop([store])
            return
        for part in PARTS:
            view = self._held.get((store, part))
            fresh = [Kept(one) for one in added if one.fresh and part_of(one.row) == part]
            if view is not None and fresh:
                self._adding += len(fresh)
                await self._run(view.add, fresh)
                if view.size > LARGE + LARGE // 10:
                    self._held.pop((store, part), None)

    async def embedded(self, store: int, vectors: dict[int, bytes], size: int) -> None:
        """Show new vectors to the views that are held."""
        self._touch(store)
        for part in PARTS:
            view = self._held.get((store, part))
            if view is not None:
                await self._run(_show, view, list(vectors.items()), size)

    def drop(self, stores: Sequence[int]) -> None:
        """Rows of these memories have changed or gone."""
        for store in stores:
            self._touch(store)
            for part in PARTS:
                self._held.pop((store, part), None)
                self._large.discard((store, part))

    def clear(self) -> None:
        """Another embedder has taken over."""
        self.drop([store for store, _ in list(self._held)])

    def _touch(self, store: int) -> None:
        if len(self._changed) > 100_000:
            self._changed.clear()
        self._changed[store] = self._changed.get(store, 0) + 1


def _load(c: Connection, store: int, part: str, embedder: Embedder | None) -> tuple[list[Any], list[tuple[int, bytes]]]:
    pooled = table.load_pooled(c, store, part, embedder.name) if embedder is not None else []
    return table.load_rows(c, store, part), pooled


def _make(loaded: Sequence[Any], pooled: Sequence[tuple[int, bytes]], size: int) -> View:
    from agent.memory.search import make_view

    return make_view(loaded, pooled, size)


def _show(view: View, pooled: Sequence[tuple[int, bytes]], size: int) -> None:
    from agent.memory.search import show

    show(view, pooled, size)
