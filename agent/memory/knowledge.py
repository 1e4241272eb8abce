"""Documents of a tenant or a bot: stored, parsed by a child behind, found by the same search, cited with place."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from agent.memory import rows as table
from agent.memory.base import MemoryScope
from agent.memory.parsers.chunks import Piece, pieces
from agent.memory.parsers.limits import Block, Limits
from agent.memory.parsers.run import parse
from agent.memory.parsers.sniff import SUFFIXES
from agent.memory.rows import document_t, memory_t, vector_t
from agent.memory.store import MemoryStore
from storage.audit import Audit
from storage.background import Background
from storage.clock import Clock
from storage.database import new_id
from storage.errors import AppError, Conflict, Invalid, NotFound, TooLarge
from storage.principal import Principal
from storage.tables.bots import Bot

log = logging.getLogger(__name__)
bot_t = Bot.__table__  # type: ignore[attr-defined]

MOST_DOCUMENTS = 5_000
LONGEST_NAME = 200
TOGETHER = 60  # blocks between two writes
OPEN = ("waiting", "parsing")


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentRow:
    """A document as shown. status: waiting, parsing, indexing (found by words already), ready, failed.

    `done` of `pages` says how far parsing is, `vectors` of `chunks` how far the index is. `error` and `params` are
    an error's code and the values of its text.
    """

    id: int
    name: str
    bot: str
    kind: str
    size: int
    version: int
    status: str
    error: str
    params: dict[str, Any]
    pages: int
    done: int
    chunks: int
    vectors: int
    added_by: str
    created_at: int
    updated_at: int


class Knowledge:
    """Use cases of the Knowledge page and the API. One document is parsed at a time."""

    def __init__(
        self,
        memory: MemoryStore,
        audit: Audit,
        clock: Clock,
        background: Background,
        files_dir: Path,
        limits: Limits | None = None,
    ) -> None:
        self.memory, self.db, self.audit, self.clock = memory, memory.db, audit, clock
        self.background, self.files_dir, self.limits = background, files_dir, limits or Limits()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()

    # ---- life

    async def start(self) -> None:
        """Go on with what was cut off, behind."""
        restart = update(document_t).where(document_t.c.status == "parsing").values(status="waiting")
        await self.db.write(lambda c: c.execute(restart).rowcount)
        self._wake.set()
        self._working = self.background.spawn("knowledge", self._run())

    async def stop(self) -> None:
        """End the work; what is not done is done after the next start."""
        self._working.cancel()
        await asyncio.wait([self._working], timeout=10)

    async def settle(self) -> None:
        """Wait until every document is parsed or refused."""
        await self._idle.wait()

    # ---- seen

    async def list(self, who: Principal) -> Sequence[DocumentRow]:
        """All documents of the tenant, newest first. Right: knowledge.manage."""
        who.require("knowledge.manage")
        embedder = self.memory.embedder.name if self.memory.embedder is not None else ""

        def fn(c: Connection) -> Sequence[DocumentRow]:
            counted = (
                select(memory_t.c.document_id, func.count().label("n"))
                .select_from(vector_t.join(memory_t, memory_t.c.id == vector_t.c.memory_id))
                .where(
                    and_(memory_t.c.tenant == who.tenant, memory_t.c.kind == "chunk", vector_t.c.embedder == embedder)
                )
                .group_by(memory_t.c.document_id)
                .subquery()
            )
            stores = table.store_t
            joined = document_t.join(stores, stores.c.id == document_t.c.store_id).outerjoin(
                counted, counted.c.document_id == document_t.c.id
            )
            query = select(document_t, stores.c.key, counted.c.n).select_from(joined)
            mine = query.where(document_t.c.tenant == who.tenant).order_by(document_t.c.id.desc()).limit(MOST_DOCUMENTS)
            return [_shown(row, embedder) for row in c.execute(mine)]

        return await self.db.read(fn)

    async def bots(self, who: Principal) -> Sequence[str]:
        """Names of the bots that may have documents of their own. Right: knowledge.manage."""
        who.require("knowledge.manage")
        query = select(bot_t.c.name).where(bot_t.c.tenant == who.tenant).order_by(bot_t.c.name)
        return await self.db.read(lambda c: [row.name for row in c.execute(query)])

    async def file_of(self, who: Principal, number: int) -> tuple[str, Path]:
        """Name and path of the stored file, for download. Right: knowledge.manage."""
        row = await self._row(who, number)
        return row.name, self._path(who.tenant, row.digest, row.name)

    # ---- changed

    async def add(self, who: Principal, name: str, data: bytes, *, bot: str = "") -> int:
        """Take a document in; one of the same name and bot is replaced. Right: knowledge.manage.

        Raises:
            Invalid: `knowledge.name`, `knowledge.kind`; TooLarge `knowledge.bytes`; Conflict `knowledge.many`.
        """
        who.require("knowledge.manage")
        name = clean_name(name)
        if Path(name).suffix.lower() not in SUFFIXES:
            raise Invalid("knowledge.kind", field="file", name=Path(name).suffix or name)
        if len(data) > self.limits.bytes:
            raise TooLarge("knowledge.bytes", most=self.limits.bytes // 1_000_000)
        digest = await asyncio.get_running_loop().run_in_executor(None, self._store, who.tenant, name, data)
        now = self.clock.ms()
        values = {"size": len(data), "digest": digest, "status": "waiting", "error": "", "params": "{}", "pages": 0}
        values |= {"done": 0, "chunks": 0, "updated_at": now, "added_by": who.id, "media": Path(name).suffix.lower()}

        def fn(c: Connection) -> tuple[int, str, int]:
            kind, key = ("bot", bot) if bot else ("tenant", "")
            store = table.make_store(c, who.tenant, kind, key, now)
            same = and_(document_t.c.store_id == store, document_t.c.name == name)
            old = c.execute(select(document_t).where(same)).first()
            if old is not None:
                self._drop_pieces(c, old.id)
                c.execute(update(document_t).where(document_t.c.id == old.id).values(version=old.version + 1, **values))
                self.audit.record(c, who, "knowledge.replace", f"document:{old.id}", after=name)
                return old.id, old.digest, store
            mine = select(func.count()).select_from(document_t).where(document_t.c.tenant == who.tenant)
            if c.execute(mine).scalar_one() >= MOST_DOCUMENTS:
                raise Conflict("knowledge.many", most=MOST_DOCUMENTS)
            new = {
                "tenant": who.tenant,
                "store_id": store,
                "name": name,
                "version": 1,
                "label": "t5",
                "created_at": now,
            }
            number = new_id(c.execute(insert(document_t), new | values))
            self.audit.record(c, who, "knowledge.add", f"document:{number}", after=name)
            return number, "", store

        number, old_digest, store = await self.db.write(fn)
        self.memory.forgotten([store])
        if old_digest and old_digest != digest:
            await self._unlink_unused(who.tenant, old_digest, name)
        self._begin()
        return number

    async def reindex(self, who: Principal, number: int) -> None:
        """Parse a document anew, as after an update of the parsers."""
        row = await self._row(who, number)

        def fn(c: Connection) -> None:
            self._drop_pieces(c, number)
            values = {"status": "waiting", "error": "", "params": "{}", "done": 0, "chunks": 0}
            c.execute(update(document_t).where(document_t.c.id == number).values(updated_at=self.clock.ms(), **values))
            self.audit.record(c, who, "knowledge.reindex", f"document:{number}")

        await self.db.write(fn)
        self.memory.forgotten([row.store_id])
        self._begin()

    async def remove(self, who: Principal, number: int) -> None:
        """Delete a document with its pieces, words, vectors and file."""
        row = await self._row(who, number)

        def fn(c: Connection) -> None:
            self._drop_pieces(c, number)
            c.execute(delete(document_t).where(document_t.c.id == number))
            self.audit.record(c, who, "knowledge.remove", f"document:{number}", before=row.name)

        await self.db.write(fn)
        self.memory.forgotten([row.store_id])
        await self._unlink_unused(who.tenant, row.digest, row.name)

    async def _row(self, who: Principal, number: int) -> Any:
        who.require("knowledge.manage")
        mine = and_(document_t.c.tenant == who.tenant, document_t.c.id == number)
        row = await self.db.read(lambda c: c.execute(select(document_t).where(mine)).first())
        if row is None:
            raise NotFound("knowledge.none")
        return row

    def _drop_pieces(self, c: Connection, number: int) -> None:
        while True:
            some = c.execute(
                select(memory_t.c.id, memory_t.c.store_id, memory_t.c.terms)
                .where(and_(memory_t.c.document_id == number, memory_t.c.kind == "chunk"))
                .limit(2_000)
            ).all()
            if not some:
                return
            table.remove_rows(c, self.memory.index, some)

    # ---- files

    def _path(self, tenant: str, digest: str, name: str) -> Path:
        return self.files_dir / tenant / "knowledge" / f"{digest}{Path(name).suffix.lower()}"

    def _store(self, tenant: str, name: str, data: bytes) -> str:
        """Write the file whole, under a name made of its content."""
        digest = hashlib.blake2b(data, digest_size=20).hexdigest()
        path = self._path(tenant, digest, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        return digest

    async def _unlink_unused(self, tenant: str, digest: str, name: str) -> None:
        used = and_(document_t.c.tenant == tenant, document_t.c.digest == digest)
        if await self.db.read(lambda c: c.execute(select(document_t.c.id).where(used).limit(1)).first()) is None:
            path = self._path(tenant, digest, name)
            await asyncio.get_running_loop().run_in_executor(None, lambda: path.unlink(missing_ok=True))

    # ---- parsing

    def _begin(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            waiting = select(document_t).where(document_t.c.status == "waiting").order_by(document_t.c.id).limit(1)
            row = await self.db.read(lambda c, q=waiting: c.execute(q).first())  # type: ignore[misc]
            if row is None:
                if not self._wake.is_set():
                    self._idle.set()
                await self._wake.wait()
                continue
            await self._take(row)

    async def _take(self, row: Any) -> None:
        """Parse one document and keep its pieces; whatever is wrong with it is noted in its row."""
        version = row.version

        async def note(**values: Any) -> bool:
            mine = and_(document_t.c.id == row.id, document_t.c.version == version, document_t.c.status.in_(OPEN))
            changed = update(document_t).where(mine).values(updated_at=self.clock.ms(), **values)
            return await self.db.write(lambda c: c.execute(changed).rowcount == 1, durable=False)

        try:
            await self.db.write(lambda c: self._drop_pieces(c, row.id))
            await note(status="parsing")
            chunks = await self._keep(row, note)
            if not chunks:
                await note(status="failed", error="knowledge.no_text")
            else:
                await note(status="ready", chunks=chunks)
        except AppError as error:
            params = json.dumps(error.params, ensure_ascii=False, default=str)
            await self.db.write(lambda c: self._drop_pieces(c, row.id))
            self.memory.forgotten([row.store_id])
            await note(status="failed", error=error.code, params=params, chunks=0)

    async def _keep(self, row: Any, note: Any) -> int:
        scope = await self._scope(row)
        held: list[Block] = []
        first, section, chunks = 1, 1, 0

        async def flush() -> bool:
            nonlocal first, section, chunks
            made: list[Piece] = await self.memory.thread(lambda: list(pieces(held, first=first, section=section)))
            done, of = held[-1].page, held[-1].pages
            if not await note(done=done, pages=of, chunks=chunks + len(made)):
                return False  # replaced or removed meanwhile
            if made:
                await self.memory.keep_pieces(scope, row.id, made, label=row.label)
                first, section, chunks = made[-1].number + 1, int(made[-1].section) + 1, chunks + len(made)
            held.clear()
            return True

        async for block in parse(self._path(row.tenant, row.digest, row.name), row.name, self.limits):
            held.append(block)
            if len(held) >= TOGETHER and not await flush():
                return chunks
        if held:
            await flush()
        return chunks

    async def _scope(self, row: Any) -> MemoryScope:
        query = select(table.store_t).where(table.store_t.c.id == row.store_id)
        store = await self.db.read(lambda c: c.execute(query).one())
        return MemoryScope(tenant=row.tenant, bot=store.key if store.kind == "bot" else "")


def clean_name(name: str) -> str:
    """A file's name for showing: the last part of a path, no control characters, not too long.

    Raises:
        Invalid: nothing is left.
    """
    plain = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    plain = "".join(c for c in plain if unicodedata.category(c)[0] != "C").strip(" .")
    stem, dot, suffix = plain.rpartition(".")
    plain = (
        f"{stem[: LONGEST_NAME - len(suffix) - 1]}{dot}{suffix}" if dot and len(suffix) < 20 else plain[:LONGEST_NAME]
    )
    if not plain:
        raise Invalid("knowledge.name", field="file")
    return plain


def _shown(row: Any, embedder: str) -> DocumentRow:
    vectors = int(row.n or 0)
    status = "indexing" if row.status == "ready" and embedder and vectors < row.chunks else row.status
    return DocumentRow(
        id=row.id,
        name=row.name,
        bot=row.key,
        kind=SUFFIXES.get(row.media, ""),
        size=row.size,
        version=row.version,
        status=status,
        error=row.error,
        params=json.loads(row.params or "{}"),
        pages=row.pages,
        done=row.done,
        chunks=row.chunks,
        vectors=vectors,
        added_by=row.added_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
