"""Reads and writes of the memory tables. Each function runs inside a transaction of `Database`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Integer, Row, and_, bindparam, delete, func, insert, select, update

from agent.memory.base import MemoryScope
from agent.memory.fulltext import WordIndex
from agent.memory.newrow import Added, NewRow, stated_value
from agent.memory.tokens import DRAWN, PINNED
from storage.database import new_id
from storage.tables.memory import MemoryDocument, MemoryRow, MemoryStoreRow, MemoryVector

store_t = MemoryStoreRow.__table__  # type: ignore[attr-defined]
memory_t = MemoryRow.__table__  # type: ignore[attr-defined]
vector_t = MemoryVector.__table__  # type: ignore[attr-defined]
document_t = MemoryDocument.__table__  # type: ignore[attr-defined]

SITTING_MS = 4 * 3600 * 1000  # a longer silence ends a sitting
INTEGER = Integer
PART = 500  # ids in one IN list


def store_keys(scope: MemoryScope) -> list[tuple[str, str]]:
    """(kind, key) of the memories that a scope may see, its own first. A group never sees a person's."""
    if not scope.group and not scope.person:
        return [("bot", scope.bot)] if scope.bot else [("tenant", "")]
    own = ("group", scope.group) if scope.group else ("person", scope.person)
    out = [own]
    if scope.bot:
        out.append(("bot", scope.bot))
    out.append(("tenant", ""))
    return out


_STORE = select(store_t.c.id).where(
    and_(store_t.c.tenant == bindparam("t"), store_t.c.kind == bindparam("k"), store_t.c.key == bindparam("y"))
)


def find_store(c: Connection, tenant: str, kind: str, key: str) -> int | None:
    """The number of a memory, if there is one."""
    found = c.execute(_STORE, {"t": tenant, "k": kind, "y": key}).first()
    return None if found is None else int(found.id)


def make_store(c: Connection, tenant: str, kind: str, key: str, now: int) -> int:
    """The number of a memory, made if there is none."""
    found = find_store(c, tenant, kind, key)
    if found is not None:
        return found
    return new_id(c.execute(insert(store_t), {"tenant": tenant, "kind": kind, "key": key, "created_at": now}))


_SAME = select(memory_t.c.id).where(
    and_(
        memory_t.c.store_id == bindparam("s"),
        memory_t.c.kind == bindparam("k"),
        memory_t.c.source == bindparam("o"),
        memory_t.c.place == bindparam("p"),
    )
)
_LAST = (
    select(memory_t.c.id, memory_t.c.sitting, memory_t.c.at)
    .where(and_(memory_t.c.store_id == bindparam("s"), memory_t.c.session == bindparam("e")))
    .order_by(memory_t.c.id.desc())
    .limit(1)
)


def add_rows(c: Connection, index: WordIndex, tenant: str, store: int, rows: Iterable[NewRow], now: int) -> list[Added]:
    """Insert rows and index their words. A row kept before is not kept twice; what it replaces becomes history."""
    out: list[Added] = []
    last: dict[str, tuple[int, int]] = {}  # session -> (sitting, at) of its last row
    words_of: list[tuple[int, int, bytes]] = []
    for row in rows:
        same = c.execute(_SAME, {"s": store, "k": row.kind, "o": row.source, "p": row.place}).first()
        if same is not None:
            out.append(Added(id=int(same.id), row=row, fresh=False))
            continue
        sitting = row.sitting
        if sitting is None and row.kind == "turn" and row.session:
            if row.session not in last:
                before = c.execute(_LAST, {"s": store, "e": row.session}).first()
                if before is not None:
                    last[row.session] = (int(before.sitting or before.id), int(before.at))
            held = last.get(row.session)
            if held is not None and row.at - held[1] < SITTING_MS:
                sitting = held[0]
        values: dict[str, Any] = {name: getattr(row, name) for name in row.__dataclass_fields__ if name != "past"}
        values |= {"tenant": tenant, "store_id": store, "sitting": sitting, "created_at": now, "updated_at": now}
        number = new_id(c.execute(insert(memory_t), values))
        if sitting is None:
            sitting = number
            c.execute(update(memory_t).where(memory_t.c.id == number).values(sitting=number))
        if row.session:
            last[row.session] = (sitting, row.at)
        words_of.append((store, number, row.terms))
        replaced = supersede(c, store, number, row) if row.attribute else ()
        out.append(Added(id=number, row=row, sitting=sitting, replaced=replaced))
    index.add(c, words_of)
    return out


def supersede(c: Connection, store: int, number: int, row: NewRow) -> tuple[int, ...]:
    """Close what a new statement contradicts: rows about the same that began to hold before it.

    The same said again replaces nothing. A late word about the past closes nothing newer: it is history itself,
    ended by what came after.
    """
    mine = and_(
        memory_t.c.store_id == store,
        memory_t.c.subject == row.subject,
        memory_t.c.attribute == row.attribute,
        memory_t.c.superseded_by.is_(None),
        memory_t.c.retracted_at.is_(None),
        memory_t.c.id != number,
    )
    since = row.valid_from or row.at
    columns = select(memory_t.c.id, memory_t.c.valid_from, memory_t.c.at, memory_t.c.text)
    value = stated_value(row.text)
    held = [o for o in c.execute(columns.where(mine)) if value is None or stated_value(o.text) != value]
    later = [o for o in held if row.past or (o.valid_from or o.at) > since]
    if later:
        first = min(later, key=lambda o: int(o.valid_from or o.at))
        close(c, [number], first.id, first.valid_from or first.at)
        return (number,)
    close(c, [o.id for o in held], number, since)
    return tuple(o.id for o in held)


def rewrite(c: Connection, index: WordIndex, row: Any, made: NewRow, now: int) -> None:
    """Give a row its new text, words and traits; its vectors are made anew."""
    index.remove(c, [(row.store_id, row.id, row.terms)])
    kept = row.traits & (PINNED | DRAWN)
    values = {"text": made.text, "terms": made.terms, "traits": made.traits | kept, "updated_at": now}
    values |= {"subject": made.subject, "attribute": made.attribute}
    c.execute(update(memory_t).where(memory_t.c.id == row.id).values(**values))
    c.execute(delete(vector_t).where(vector_t.c.memory_id == row.id))
    index.add(c, [(row.store_id, row.id, made.terms)])


def close(c: Connection, ids: Sequence[int], by: int, at: int) -> None:
    """Make rows history."""
    if ids:
        c.execute(update(memory_t).where(memory_t.c.id.in_(ids)).values(superseded_by=by, valid_to=at))


_COLUMNS = (
    memory_t.c.id,
    memory_t.c.kind,
    memory_t.c.sitting,
    memory_t.c.speaker,
    memory_t.c.at,
    memory_t.c.traits,
    memory_t.c.message_id,
    memory_t.c.session,
    memory_t.c.terms,
)


def part_of(part: str) -> Any:
    """The rows of one part of a memory: what was said and holds now (`talk`), what held once, or documents."""
    if part == "documents":
        return memory_t.c.kind == "chunk"
    if part == "history":
        return and_(
            memory_t.c.kind != "chunk", memory_t.c.superseded_by.is_not(None), memory_t.c.retracted_at.is_(None)
        )
    return and_(memory_t.c.kind != "chunk", memory_t.c.superseded_by.is_(None), memory_t.c.retracted_at.is_(None))


def count_rows(c: Connection, store: int, part: str) -> int:
    """How many rows a search of this memory looks at."""
    return int(
        c.execute(
            select(func.count()).select_from(memory_t).where(and_(memory_t.c.store_id == store, part_of(part)))
        ).scalar_one()
    )


def load_rows(c: Connection, store: int, part: str, ids: Sequence[int] | None = None) -> list[Row[Any]]:
    """Columns for ranking, in the order in which things were said."""
    where = and_(memory_t.c.store_id == store, part_of(part))
    query = select(*_COLUMNS).where(where).order_by(memory_t.c.sitting, memory_t.c.id)
    if ids is None:
        return list(c.execute(query))
    out: list[Row[Any]] = []
    for i in range(0, len(ids), PART):
        out += c.execute(query.where(memory_t.c.id.in_(ids[i : i + PART])))
    return sorted(out, key=lambda row: (row.sitting, row.id))


def load_pooled(c: Connection, store: int, part: str, embedder: str) -> list[tuple[int, bytes]]:
    """Packed pooled vectors of a part of a memory."""
    found = c.execute(
        select(vector_t.c.memory_id, vector_t.c.pooled)
        .select_from(vector_t.join(memory_t, memory_t.c.id == vector_t.c.memory_id))
        .where(and_(memory_t.c.store_id == store, part_of(part), vector_t.c.embedder == embedder))
    )
    return [(int(row[0]), row[1]) for row in found if row[1]]


def load_pooled_of(c: Connection, ids: Sequence[int], embedder: str) -> list[tuple[int, bytes]]:
    """Packed pooled vectors of rows."""
    out: list[tuple[int, bytes]] = []
    for i in range(0, len(ids), PART):
        mine = and_(vector_t.c.memory_id.in_(ids[i : i + PART]), vector_t.c.embedder == embedder)
        found = c.execute(select(vector_t.c.memory_id, vector_t.c.pooled).where(mine))
        out += [(int(row[0]), row[1]) for row in found if row[1]]
    return out


_TOKENS = select(vector_t.c.memory_id, vector_t.c.tokens).where(
    and_(vector_t.c.memory_id.in_(bindparam("ids", expanding=True)), vector_t.c.embedder == bindparam("e"))
)


def load_tokens(c: Connection, embedder: str, ids: Sequence[int]) -> dict[int, bytes]:
    """Packed token vectors by row."""
    out: dict[int, bytes] = {}
    for i in range(0, len(ids), PART):
        found = c.execute(_TOKENS, {"ids": ids[i : i + PART], "e": embedder})
        out |= {int(row[0]): row[1] for row in found}
    return out


_FULL = select(memory_t).where(
    and_(memory_t.c.tenant == bindparam("t"), memory_t.c.id.in_(bindparam("ids", expanding=True)))
)


def full_rows(c: Connection, tenant: str, ids: Sequence[int]) -> dict[int, Row[Any]]:
    """Whole rows by id, of one tenant."""
    out: dict[int, Row[Any]] = {}
    for i in range(0, len(ids), PART):
        out |= {int(row.id): row for row in c.execute(_FULL, {"t": tenant, "ids": ids[i : i + PART]})}
    return out


def some_rows(c: Connection, ids: Sequence[int]) -> list[Row[Any]]:
    """Where rows come from, by id; for those who hold the ids from a search of their own."""
    out: list[Row[Any]] = []
    for i in range(0, len(ids), PART):
        columns = select(memory_t.c.id, memory_t.c.message_id, memory_t.c.place)
        out += c.execute(columns.where(memory_t.c.id.in_(ids[i : i + PART])))
    return out


def remove_rows(c: Connection, index: WordIndex, rows: Sequence[Row[Any]]) -> None:
    """Delete rows with their words and vectors. `rows` need id, store_id and terms."""
    index.remove(c, [(row.store_id, row.id, row.terms) for row in rows])
    ids = [row.id for row in rows]
    for i in range(0, len(ids), PART):
        part = ids[i : i + PART]
        c.execute(delete(vector_t).where(vector_t.c.memory_id.in_(part)))
        c.execute(
            update(memory_t).where(memory_t.c.superseded_by.in_(part)).values(superseded_by=0)
        )  # history stays history
        c.execute(delete(memory_t).where(memory_t.c.id.in_(part)))


def document_names(c: Connection, ids: Sequence[int]) -> dict[int, str]:
    """Names of documents."""
    if not ids:
        return {}
    found = c.execute(select(document_t.c.id, document_t.c.name).where(document_t.c.id.in_(ids)))
    return {row.id: row.name for row in found}


def rows_in(c: Connection, stores: Sequence[int], ids: Sequence[int]) -> list[Row[Any]]:
    """Rows among `ids` that belong to one of the memories; others count as absent."""
    out: list[Row[Any]] = []
    for i in range(0, len(ids), PART):
        out += c.execute(
            select(memory_t).where(and_(memory_t.c.store_id.in_(stores), memory_t.c.id.in_(ids[i : i + PART])))
        )
    return out
