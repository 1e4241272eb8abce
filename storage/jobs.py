"""The values in which jobs and deliveries are handed about. Frozen; the ledger makes them."""

from __future__ import annotations

from dataclasses import dataclass, field

from storage.envelope import Outgoing


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """Outcome of `accept`. `fresh` is False if this had entered before: nothing was written."""

    fresh: bool
    job_id: int
    message_id: int = 0
    conversation_id: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """A job at the moment it was claimed, or as the dispatcher queues it."""

    id: int
    tenant: str
    key: str
    lane: str
    kind: str
    payload: str
    bot: str
    channel: str
    conversation_id: int | None
    message_id: int | None
    address: str
    model: str
    title: str
    attempts: int
    token: str
    received_at: int
    steps: tuple[StepView, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class StepView:
    """A recorded step."""

    n: int
    name: str
    kind: str
    status: str
    request: str
    result: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a job ends. Every job has exactly one.

    Attributes:
        status: `done`, `failed`, `refused` or `cancelled`.
        say: what to send to the job's conversation, in order. Empty for jobs that answer nobody.
        reason: code of the error where status is not `done`.
        detail: for the trace page; never secrets.
    """

    status: str = "done"
    say: tuple[Outgoing, ...] = ()
    reason: str = ""
    detail: str = ""
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryView:
    """A delivery as the sender needs it."""

    id: int
    tenant: str
    bot: str
    channel: str
    lane: str
    key: str
    job_id: int | None
    conversation_id: int | None
    address: str
    payload: str
    attempts: int
    committed_at: int
    status: str = "pending"
    next_at: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """Rows that ending a job has made."""

    message_ids: tuple[int, ...] = ()
    deliveries: tuple[DeliveryView, ...] = field(default_factory=tuple)


def lane_of(tenant: str, bot: str, key: str) -> str:
    """Name of a conversation's lane."""
    return f"{tenant}/{bot}/{key}"
