"""What a person may do with memory: their own with `memory.own`, all others' with `memory.manage`. Page and API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, and_, func, or_, select, update

from agent.memory import portable
from agent.memory import rows as table
from agent.memory.base import MemoryScope
from agent.memory.embedder import CHOICES
from agent.memory.forget import Forgetter, Preview, Wish
from agent.memory.newrow import OURS, local, reworded
from agent.memory.rows import memory_t, store_t
from agent.memory.shown import FoundItem, Item, MemoryState, Place, item, state_of
from agent.memory.store import MemoryStore
from agent.memory.tokens import PINNED
from agent.memory.transformers import is_model
from storage.audit import Audit
from storage.clock import Clock
from storage.errors import Invalid, NotFound
from storage.ledger import conversation_t
from storage.principal import Principal

MOST_PAGE = 200
MOST_PLACES = 1_000
MOST_CHARS = 2_000
BATCH = 200
MINE = 0  # place number of one's own memory, whether it exists yet or not


class MemoryActions:
    """Use cases of the Memory page and the API. Every act on a place of another person is audited."""

    def __init__(self, memory: MemoryStore, forgetter: Forgetter, audit: Audit, clock: Clock) -> None:
        self.memory, self.forgetter, self.audit, self.clock = memory, forgetter, audit, clock
        self.db = memory.db

    # ---- places

    async def places(self, who: Principal) -> list[Place]:
        """One's own memory first; with memory.manage all others of the tenant. Right: memory.own."""
        who.require("memory.own")

        def fn(c: Connection) -> tuple[list[Any], dict[int, str]]:
            facts = func.sum((memory_t.c.kind.not_in(("turn", "chunk"))).cast(table.INTEGER))
            joined = store_t.outerjoin(memory_t, memory_t.c.store_id == store_t.c.id)
            query = select(
                store_t, func.count(memory_t.c.id).label("n"), facts.label("facts"), func.max(memory_t.c.at).label("at")
            )
            mine = store_t.c.tenant == who.tenant
            if not who.may("memory.manage"):
                mine = and_(mine, store_t.c.kind == "person", store_t.c.key == who.id)
            found = list(
                c.execute(
                    query.select_from(joined)
                    .where(mine)
                    .group_by(store_t.c.id)
                    .order_by(func.max(memory_t.c.at).desc())
                    .limit(MOST_PLACES)
                )
            )
            return found, _names(c, found)

        own = Place(id=MINE, kind="person", key=who.id, rows=0, facts=0, newest=0)
        others = []
        found, names = await self.db.read(fn)
        for row in found:
            is_mine = row.kind == "person" and row.key == who.id
            place = Place(
                id=MINE if is_mine else row.id,
                kind=row.kind,
                key=row.key,
                rows=row.n,
                facts=int(row.facts or 0),
                newest=row.at or 0,
                name=names.get(row.id, ""),
            )
            if is_mine:
                own = place
            else:
                others.append(place)
        return [own, *others]

    async def _scope(self, who: Principal, place: int) -> MemoryScope:
        """The scope of a place that this principal may see.

        Raises: Denied; NotFound, also for what belongs to another tenant or person.
        """
        who.require("memory.own")
        if place == MINE:
            return MemoryScope(tenant=who.tenant, person=who.id)
        query = select(store_t).where(and_(store_t.c.tenant == who.tenant, store_t.c.id == place))
        row = await self.db.read(lambda c: c.execute(query).first())
        if row is None or not who.may("memory.manage"):
            raise NotFound("memory.no_place")
        if row.kind == "bot":
            return MemoryScope(tenant=who.tenant, bot=row.key)
        return MemoryScope(
            tenant=who.tenant,
            person=row.key if row.kind == "person" else "",
            group=row.key if row.kind == "group" else "",
        )

    async def _row(self, who: Principal, number: int) -> tuple[MemoryScope, Any]:
        query = select(memory_t, store_t.c.kind.label("store_kind"), store_t.c.key.label("store_key")).select_from(
            memory_t.join(store_t, store_t.c.id == memory_t.c.store_id)
        )
        mine = and_(memory_t.c.tenant == who.tenant, memory_t.c.id == number)
        row = await self.db.read(lambda c: c.execute(query.where(mine)).first())
        if row is None:
            raise NotFound("memory.no_row")
        own = row.store_kind == "person" and row.store_key == who.id
        try:
            return await self._scope(who, MINE if own else row.store_id), row
        except NotFound:
            raise NotFound("memory.no_row") from None

    # ---- seen

    async def search(self, who: Principal, place: int, query: str, *, limit: int = 20) -> list[FoundItem]:
        """What the agent would find, with each part of the score. Right: memory.own, memory.manage for others'."""
        scope = await self._scope(who, place)
        hits = await self.memory.search(scope, query, limit=min(limit, MOST_PAGE))
        full, names = await self._full(who, [hit.id for hit in hits])
        return [
            FoundItem(
                item=item(row, names.get(row.document_id, "")), score=round(h.score, 3), fits=h.fit >= 0, parts=h.why
            )
            for h in hits
            if (row := full.get(h.id)) is not None
        ]

    async def _full(self, who: Principal, ids: Sequence[int]) -> tuple[dict[int, Any], dict[int, str]]:
        """Whole rows by id, and the names of the documents that they are pieces of."""

        def fn(c: Connection) -> tuple[dict[int, Any], dict[int, str]]:
            rows = table.full_rows(c, who.tenant, ids)
            return rows, table.document_names(c, sorted({r.document_id for r in rows.values() if r.document_id}))

        return await self.db.read(fn)

    async def items(
        self,
        who: Principal,
        place: int,
        *,
        kind: str = "",
        before: int | None = None,
        history: bool = False,
        month: str = "",
        limit: int = 50,
    ) -> list[Item]:
        """Rows, newest first.

        Args:
            kind: empty for all but pieces of documents.
            before: those behind this row, for the next page.
            month: "2026-05" for what was said then.
        """
        store = await self.memory.own_store(await self._scope(who, place))
        where = [memory_t.c.store_id == store, memory_t.c.kind == kind if kind else memory_t.c.kind != "chunk"]
        if not history:
            where += [memory_t.c.superseded_by.is_(None), memory_t.c.retracted_at.is_(None)]
        if before is not None:
            last = select(memory_t.c.at).where(memory_t.c.id == before).scalar_subquery()
            where.append(or_(memory_t.c.at < last, and_(memory_t.c.at == last, memory_t.c.id < before)))
        if month:
            first, end = _month(month, self.memory.zone)
            where += [memory_t.c.at >= first, memory_t.c.at < end]
        query = (
            select(memory_t)
            .where(and_(*where))
            .order_by(memory_t.c.at.desc(), memory_t.c.id.desc())
            .limit(min(limit, MOST_PAGE))
        )
        return [] if store is None else [item(row) for row in await self.db.read(lambda c: list(c.execute(query)))]

    async def months(self, who: Principal, place: int) -> list[tuple[str, int]]:
        """The time line: (year-month, rows), oldest first."""
        store = await self.memory.own_store(await self._scope(who, place))

        def fn(c: Connection) -> dict[str, int]:
            out: dict[str, int] = {}
            mine = and_(memory_t.c.store_id == store, memory_t.c.kind != "chunk")
            for (at,) in c.execute(select(memory_t.c.at).where(mine)):
                month = f"{local(at, self.memory.zone):%Y-%m}"
                out[month] = out.get(month, 0) + 1
            return out

        return sorted((await self.db.read(fn)).items()) if store is not None else []

    async def one(self, who: Principal, number: int) -> tuple[Item, Place]:
        """A row, and the memory that it stands in."""
        _, row = await self._row(who, number)
        own = row.store_kind == "person" and row.store_key == who.id
        id = MINE if own else row.store_id
        return item(row), Place(id=id, kind=row.store_kind, key=row.store_key, rows=0, facts=0, newest=0)

    async def related(self, who: Principal, number: int, *, limit: int = 8) -> list[FoundItem]:
        """What is near a row in words and meaning, for the picture."""
        scope, row = await self._row(who, number)
        hits = await self.memory.search(scope, row.text[:400], limit=limit + 4)
        full, names = await self._full(who, [hit.id for hit in hits])
        said = row.source if row.source.startswith("message:") else ""  # a fact and its turn are one
        near = [h for h in hits if h.id in full and h.id != number and full[h.id].source != said]
        return [
            FoundItem(
                item=item(full[h.id], names.get(full[h.id].document_id, "")),
                score=round(h.score, 3),
                fits=h.fit >= 0,
                parts=h.why,
            )
            for h in near[:limit]
        ]

    async def past(self, who: Principal, number: int) -> list[Item]:
        """Everything said about the same, oldest first: how a fact has changed."""
        _, row = await self._row(who, number)
        if not row.attribute:
            return [item(row)]
        same = and_(
            memory_t.c.store_id == row.store_id,
            memory_t.c.subject == row.subject,
            memory_t.c.attribute == row.attribute,
        )
        query = select(memory_t).where(same).order_by(memory_t.c.at).limit(MOST_PAGE)
        return [item(one) for one in await self.db.read(lambda c: list(c.execute(query)))]

    # ---- changed

    async def add(self, who: Principal, place: int, text: str) -> int:
        """Keep a fact by hand. Raises: Invalid `memory.empty`, `memory.long`."""
        scope = await self._scope(who, place)
        number = await self.memory.remember(
            scope, _checked(text), at=self.clock.ms(), source=f"panel:{who.id}", label="t1", speaker_id=scope.person
        )
        await self._record(who, scope, "memory.add", number)
        return number

    async def edit(self, who: Principal, number: int, text: str) -> None:
        """Change a row's text; words and vectors follow. What it was is not kept: to keep it, supersede."""
        _, row = await self._row(who, number)
        text = _checked(text)
        made = await self.memory.thread(reworded, row, text, self.memory.zone)
        now = self.clock.ms()

        def fn(c: Connection) -> None:
            table.rewrite(c, self.memory.index, row, made, now)
            self.audit.record(c, who, "memory.edit", f"memory:{number}")

        await self.db.write(fn)
        self.memory.reworded(row.store_id, row.sitting or number)

    async def supersede(self, who: Principal, number: int, text: str) -> int:
        """Put a newer fact in a row's place; the row stays as history."""
        scope, row = await self._row(who, number)
        now = self.clock.ms()
        newer = await self.memory.remember(
            scope,
            _checked(text),
            at=now,
            source=f"panel:{who.id}",
            label="t1",
            speaker=row.speaker,
            speaker_id=row.speaker_id,
            subject=row.subject,
            attribute=row.attribute,
        )

        def fn(c: Connection) -> None:
            table.close(c, [number], newer, now)
            self.audit.record(c, who, "memory.supersede", f"memory:{number}")

        await self.db.write(fn)
        self.memory.forgotten([row.store_id])
        return newer

    async def pin(self, who: Principal, number: int, pinned: bool) -> None:
        """Let a row come before others that fit as well."""
        _, row = await self._row(who, number)
        traits = row.traits | PINNED if pinned else row.traits & ~PINNED
        values = {"pinned_at": self.clock.ms() if pinned else None, "traits": traits}

        def fn(c: Connection) -> None:
            c.execute(update(memory_t).where(memory_t.c.id == number).values(**values))
            self.audit.record(c, who, "memory.pin" if pinned else "memory.unpin", f"memory:{number}")

        await self.db.write(fn)
        self.memory.forgotten([row.store_id])

    # ---- forgotten

    async def preview(self, who: Principal, place: int, wish: Wish) -> Preview:
        """What would go. Changes nothing."""
        return await self.forgetter.preview(await self._wished(who, place, wish), wish)

    async def forget(self, who: Principal, place: int, wish: Wish) -> Preview:
        """Remove for good: rows, words, vectors, echoes, transcripts."""
        scope = await self._wished(who, place, wish)
        gone = await self.forgetter.forget(scope, wish)

        def fn(c: Connection) -> None:
            self.audit.record(c, who, "memory.forget", _target(scope), after=gone.counts)

        await self.db.write(fn)
        return gone

    async def _wished(self, who: Principal, place: int, wish: Wish) -> MemoryScope:
        if wish.person and wish.person != who.id:
            who.require("memory.manage")
        return await self._scope(who, place)

    # ---- taken along

    async def export(self, who: Principal, place: int) -> AsyncIterator[str]:
        """All rows as JSON lines, history too, a page at a time."""
        scope = await self._scope(who, place)
        await self.memory.settle()
        store = await self.memory.own_store(scope)
        kind, key = table.store_keys(scope)[0]
        await self._record(who, scope, "memory.export", 0)
        yield portable.head(kind, key, self.clock.ms()) + "\n"
        after = 0
        while store is not None:
            query = select(memory_t).where(
                and_(memory_t.c.store_id == store, memory_t.c.id > after, memory_t.c.kind != "chunk")
            )
            rows = await self.db.read(lambda c, q=query: list(c.execute(q.order_by(memory_t.c.id).limit(BATCH))))  # type: ignore[misc]
            if not rows:
                return
            yield "".join(portable.line(row, current=state_of(row) == "now") + "\n" for row in rows)
            after = rows[-1].id

    async def export_person(self, who: Principal, person: str) -> AsyncIterator[str]:
        """All that is kept of a person anywhere in the tenant: their own memory, and what they said in groups.

        Right: memory.own for oneself, memory.manage for others.
        """
        who.require("memory.own" if person == who.id else "memory.manage")
        await self.memory.settle()
        await self._record(who, MemoryScope(tenant=who.tenant, person=person), "memory.export_person", 0)
        yield portable.head("person", person, self.clock.ms()) + "\n"
        own = select(store_t.c.id).where(
            and_(store_t.c.tenant == who.tenant, store_t.c.kind == "person", store_t.c.key == person)
        )
        theirs = or_(memory_t.c.store_id.in_(own), memory_t.c.speaker_id == person)
        after = 0
        while True:
            query = select(memory_t).where(
                and_(memory_t.c.tenant == who.tenant, theirs, memory_t.c.id > after, memory_t.c.kind != "chunk")
            )
            rows = await self.db.read(lambda c, q=query: list(c.execute(q.order_by(memory_t.c.id).limit(BATCH))))  # type: ignore[misc]
            if not rows:
                return
            yield "".join(portable.line(row, current=state_of(row) == "now") + "\n" for row in rows)
            after = rows[-1].id

    async def import_(self, who: Principal, place: int, lines: Iterable[str]) -> int:
        """Take in an export; rows that are there already are not doubled. Gives how many lines were taken.

        Raises: Invalid `memory.import_line`; TooLarge `memory.import_size`. Lines before it are kept.
        """
        scope = await self._scope(who, place)
        rows = portable.read(lines, f"import:{table.store_keys(scope)[0][1]}")
        taken = 0
        while some := await self.memory.thread(lambda: list(islice(rows, BATCH))):
            ready = await self.memory.thread(lambda s=some: [(scope, self.memory.keeper.prepared(row)) for row in s])
            taken += len(await self.memory.keeper.write(ready))
        await self._record(who, scope, "memory.import", taken)
        return taken

    # ---- the index

    async def state(self, who: Principal) -> MemoryState:
        """Which embedder serves and how far the vectors are. Right: memory.own."""
        who.require("memory.own")
        progress, meaning = await self.memory.progress(), self.memory.meaning
        return MemoryState(
            embedder=meaning.embedder.name if meaning.embedder is not None else "",
            wanted=meaning.wanted,
            moving_to=meaning.moving_to,
            done=progress.done,
            total=progress.total,
            choices=CHOICES,
            refused=meaning.refused,
        )

    async def set_embedder(self, who: Principal, wanted: str) -> None:
        """Move to another embedder behind; the present one serves until it is ready. Right: memory.manage."""
        who.require("memory.manage")
        if wanted not in CHOICES and not await asyncio.to_thread(is_model, wanted):
            raise Invalid("memory.embedder_unknown", field="model", name=wanted[:100])
        await self.db.write(lambda c: self.audit.record(c, who, "memory.embedder", wanted))
        await self.memory.meaning.switch(wanted)

    async def _record(self, who: Principal, scope: MemoryScope, action: str, number: int) -> None:
        target = f"{_target(scope)} {number}" if number else _target(scope)
        await self.db.write(lambda c: self.audit.record(c, who, action, target))


def _names(c: Connection, places: Sequence[Any]) -> dict[int, str]:
    """What people call the memories: a person's name as last seen, a group's title."""
    people = [row.id for row in places if row.kind == "person"]
    out: dict[int, str] = {}
    for i in range(0, len(people), table.PART):
        said = and_(
            memory_t.c.store_id.in_(people[i : i + table.PART]), memory_t.c.kind == "turn", memory_t.c.speaker != OURS
        )
        last = select(func.max(memory_t.c.id)).where(said).group_by(memory_t.c.store_id)
        found = select(memory_t.c.store_id, memory_t.c.speaker).where(memory_t.c.id.in_(last))
        out |= {row.store_id: row.speaker for row in c.execute(found)}
    groups = {row.key.partition("/"): row.id for row in places if row.kind == "group"}
    for (bot, _, key), number in list(groups.items())[:MOST_PAGE]:
        mine = and_(conversation_t.c.bot == bot, conversation_t.c.key == key)
        out[number] = str(c.execute(select(conversation_t.c.title).where(mine).limit(1)).scalar() or "")
    return out


def _month(month: str, zone: ZoneInfo) -> tuple[int, int]:
    """First ms of a month and of the next one.

    Raises: Invalid `memory.month`.
    """
    try:
        first = datetime.strptime(month, "%Y-%m").replace(tzinfo=zone)
    except ValueError:
        raise Invalid("memory.month", field="month") from None
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp() * 1000), int(after.timestamp() * 1000)


def _target(scope: MemoryScope) -> str:
    kind, key = table.store_keys(scope)[0]
    return f"memory:{kind}:{key}"


def _checked(text: str) -> str:
    plain = " ".join(text.split())
    if not plain:
        raise Invalid("memory.empty", field="text")
    if len(plain) > MOST_CHARS:
        raise Invalid("memory.long", field="text", most=MOST_CHARS)
    return plain
