"""What is remembered. Owned by agent/memory; the word index beside it (FTS5) is made by agent/memory/fulltext.py."""

from __future__ import annotations

from sqlalchemy import Index, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel

from storage.tables.columns import long_text, ms, ref, row_id


class MemoryStoreRow(SQLModel, table=True):
    """One memory: a person's, a group's, a bot's knowledge or the tenant's. Every memory row belongs to exactly one.

    kind: person, group, bot, tenant. `key` is the person's stable id, the group's conversation key, the bot's name.
    """

    __tablename__ = "memory_store"
    __table_args__ = (UniqueConstraint("tenant", "kind", "key"),)

    id: int | None = row_id()
    tenant: str
    kind: str
    key: str = ""
    created_at: int = ms()


class MemoryRow(SQLModel, table=True):
    """Something said, a fact drawn from it, or a piece of a document.

    kind: turn, fact, preference, decision, promise, summary, chunk.
    `sitting` is the id of the first row of the same sitting (or section of a document): rows of a sitting are
    neighbours. Two clocks: true from `valid_from` to `valid_to`, known from `created_at` to `retracted_at`.
    `superseded_by` is the row that took this one's place; the row stays as history.
    `terms` are the hashed words for scoring, `traits` bits that ranking reads; both are made anew from `text`.
    """

    __tablename__ = "memory"
    __table_args__ = (
        UniqueConstraint("store_id", "kind", "source", "place"),
        Index("ix_memory_session", "store_id", "session", "id"),
        Index("ix_memory_subject", "store_id", "subject", "attribute"),
    )

    id: int | None = row_id()
    tenant: str
    store_id: int = ref(nullable=False, index=True)
    kind: str
    text: str = long_text()
    speaker: str = ""
    speaker_id: str = Field(default="", index=True)
    session: str = ""
    sitting: int | None = ref()
    at: int = ms()
    label: str = "t2"
    source: str = ""
    place: str = ""
    message_id: int | None = ref(index=True)
    document_id: int | None = ref(index=True)
    subject: str = ""
    attribute: str = ""
    valid_from: int | None = ms()
    valid_to: int | None = ms()
    retracted_at: int | None = ms()
    superseded_by: int | None = ref()
    pinned_at: int | None = ms()
    terms: bytes = Field(default=b"", sa_type=LargeBinary)
    traits: int = 0
    created_at: int = ms()
    updated_at: int = ms()


class MemoryVector(SQLModel, table=True):
    """Vectors of a row under one embedder: a cache, made anew from the text whenever it is missing.

    `pooled` is float16, `tokens` packed token vectors (agent/memory/vectors.py). `settled` is false while later
    turns of the sitting may still change the context in which the row was encoded.
    """

    __tablename__ = "memory_vector"

    memory_id: int = Field(primary_key=True, sa_type=row_id().sa_type)
    embedder: str = Field(primary_key=True)
    store_id: int = ref(nullable=False, index=True)
    settled: bool = True
    pooled: bytes = Field(default=b"", sa_type=LargeBinary)
    tokens: bytes = Field(default=b"", sa_type=LargeBinary)


class MemoryDocument(SQLModel, table=True):
    """A document of the knowledge base. status: waiting, parsing, indexing, ready, failed.

    `digest` names the stored file. A replaced document keeps its id, `version` rises.
    """

    __tablename__ = "memory_document"
    __table_args__ = (UniqueConstraint("store_id", "name"),)

    id: int | None = row_id()
    tenant: str = Field(index=True)
    store_id: int = ref(nullable=False)
    name: str
    media: str = ""
    size: int = 0
    digest: str = ""
    version: int = 1
    status: str = "waiting"
    error: str = ""
    params: str = long_text("{}")
    pages: int = 0
    chunks: int = 0
    done: int = 0
    label: str = "t5"
    added_by: str = ""
    created_at: int = ms()
    updated_at: int = ms()
