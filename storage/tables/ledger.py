"""The ledger: conversations, messages, jobs, recorded steps, deliveries. The panel's pages read the same rows."""

from __future__ import annotations

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from storage.tables.columns import long_text, ms, ref, row_id


class Conversation(SQLModel, table=True):
    """A lane of messages in order.

    `key` is the vendor's; `person` is the owner of a direct conversation (None for a group).
    """

    __table_args__ = (UniqueConstraint("tenant", "bot", "key"), Index("ix_conversation_recent", "tenant", "updated_at"))

    id: int | None = row_id()
    tenant: str
    bot: str
    channel: str
    key: str
    kind: str = "direct"
    person: str | None = Field(default=None, index=True)
    title: str = ""
    address: str = long_text("{}")
    model: str = ""
    summary: str = long_text()
    summary_to: int | None = ref()
    state: str = "open"
    created_at: int = ms()
    updated_at: int = ms()
    hidden_at: int | None = ms()


class Message(SQLModel, table=True):
    """What was said, by a person (`in`) or by us (`out`)."""

    __table_args__ = (Index("ix_message_conversation", "conversation_id", "id"),)

    id: int | None = row_id()
    tenant: str
    conversation_id: int = ref(nullable=False)
    job_id: int | None = ref(index=True)
    direction: str
    channel: str
    vendor_id: str = ""
    sender: str = ""
    sender_name: str = ""
    text: str = long_text()
    parts: str = long_text("[]")
    origin: str = "t2"
    sent_at: int | None = ms()
    created_at: int = ms(index=True)


class Seen(SQLModel, table=True):
    """Every id under which something has entered: the memory of deduplication."""

    tenant: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    job_id: int = ref(nullable=False)
    at: int = ms(index=True)


class Job(SQLModel, table=True):
    """One request and everything done for it (a *task* in the panel).

    status: todo, doing, waiting (for a person), done, failed, refused, cancelled.
    `token` fences: only the attempt that holds it may write.
    `address` is where its own message is answered; the conversation's is that of the newest message.
    """

    __table_args__ = (
        Index(
            "ix_job_open",
            "id",
            sqlite_where=text("status IN ('todo','doing')"),
            postgresql_where=text("status IN ('todo','doing')"),
        ),
        Index("ix_job_tenant", "tenant", "id"),
        Index("ix_job_lane", "lane", "id"),
    )

    id: int | None = row_id()
    tenant: str
    key: str = Field(unique=True)
    lane: str
    kind: str
    payload: str = long_text("{}")
    status: str = "todo"
    attempts: int = 0
    token: str | None = None
    owner: str = ""
    conversation_id: int | None = ref(index=True)
    message_id: int | None = ref()
    bot: str = ""
    title: str = ""
    model: str = ""
    address: str = long_text()
    reason: str = ""
    detail: str = long_text()
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    received_at: int | None = ms()
    created_at: int = ms(index=True)
    started_at: int | None = ms()
    ended_at: int | None = ms(index=True)


class Step(SQLModel, table=True):
    """One recorded act of a job: recall, model call, tool call, reply. A resumed job continues after the last."""

    job_id: int = Field(primary_key=True, sa_type=row_id().sa_type)
    n: int = Field(primary_key=True)
    name: str
    kind: str
    status: str = "done"
    request: str = long_text()
    result: str = long_text()
    started_at: int = ms()
    ended_at: int | None = ms()


class Delivery(SQLModel, table=True):
    """One message on its way to a vendor: the outbox.

    status: pending, sending, delivered (vendor_id is set), failed, unknown, split (replaced by its parts).
    `key` is the idempotency key. `committed_at` → `written_at` is our push latency.
    """

    __table_args__ = (
        Index(
            "ix_delivery_open",
            "bot",
            "id",
            sqlite_where=text("status IN ('pending','sending')"),
            postgresql_where=text("status IN ('pending','sending')"),
        ),
        Index("ix_delivery_tenant", "tenant", "id"),
    )

    id: int | None = row_id()
    tenant: str
    bot: str
    channel: str
    lane: str
    key: str = Field(unique=True)
    job_id: int | None = ref(index=True)
    conversation_id: int | None = ref(index=True)
    message_id: int | None = ref()
    address: str = long_text("{}")
    payload: str = long_text("{}")
    event: str = ""
    status: str = "pending"
    attempts: int = 0
    vendor_id: str = ""
    error: str = ""
    detail: str = long_text()
    next_at: int | None = ms()
    committed_at: int = ms(index=True)
    written_at: int | None = ms()
    ended_at: int | None = ms()
