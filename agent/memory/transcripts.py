"""Takes forgotten words out of the ledger: messages, steps, answers, summaries. What has not ended is left to end.

A memory that is gone while its transcript stays would be read again; so both go, in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, or_, select, update

from storage.ledger import OPEN, conversation_t, delivery_t, job_t, message_t, step_t

PART = 200
ENDED = ("delivered", "failed", "unknown", "split")


def redact(c: Connection, tenant: str, messages: Sequence[int], memories: Sequence[int]) -> int:
    """Empty these messages and all that was recorded for them, and every recorded recall of these memories.

    Returns how many messages were emptied. Texts become empty; rows, times and receipts stay.
    """
    emptied, conversations = 0, set()
    jobs: set[int] = set()
    for some in _parts(messages):
        mine = and_(message_t.c.tenant == tenant, message_t.c.id.in_(some), message_t.c.text != "")
        for row in c.execute(select(message_t.c.id, message_t.c.conversation_id, message_t.c.job_id).where(mine)):
            emptied += 1
            conversations.add(row.conversation_id)
            if row.job_id is not None:
                jobs.add(row.job_id)
        c.execute(update(message_t).where(mine).values(text="", parts="[]"))
    jobs |= _recalled(c, tenant, memories)
    for some in _parts(sorted(jobs)):
        _empty_jobs(c, tenant, some)
    for some in _parts(sorted(conversations)):
        mine = and_(conversation_t.c.tenant == tenant, conversation_t.c.id.in_(some))
        c.execute(update(conversation_t).where(mine).values(summary="", summary_to=None))
        _retitle(c, some)
    return emptied


def _parts(ids: Sequence[int]) -> list[list[int]]:
    return [list(ids[i : i + PART]) for i in range(0, len(ids), PART)]


def _recalled(c: Connection, tenant: str, memories: Sequence[int]) -> set[int]:
    """Jobs whose recorded recall holds any of these memories."""
    out: set[int] = set()
    on = job_t.c.id == step_t.c.job_id
    for some in _parts(memories):
        holds = or_(*[step_t.c.result.like(f'%"id": {int(number)},%') for number in some])
        query = select(step_t.c.job_id).select_from(step_t.join(job_t, on))
        out |= {row.job_id for row in c.execute(query.where(and_(job_t.c.tenant == tenant, _recall(), holds)))}
    return out


def _recall() -> Any:
    return step_t.c.kind == "recall"


def _empty_jobs(c: Connection, tenant: str, some: Sequence[int]) -> None:
    ended = and_(job_t.c.tenant == tenant, job_t.c.id.in_(some), job_t.c.status.not_in(OPEN))
    ids = [row.id for row in c.execute(select(job_t.c.id).where(ended))]
    c.execute(update(job_t).where(job_t.c.id.in_(ids)).values(title="", detail=""))
    c.execute(update(step_t).where(step_t.c.job_id.in_(ids)).values(request="", result=""))
    sent = and_(delivery_t.c.job_id.in_(ids), delivery_t.c.status.in_(ENDED))
    c.execute(update(delivery_t).where(sent).values(payload="{}"))


def _retitle(c: Connection, conversations: Sequence[int]) -> None:
    """A conversation's title is its first words: take it from what is left."""
    for number in conversations:
        said = and_(message_t.c.conversation_id == number, message_t.c.direction == "in")
        query = select(message_t.c.text).where(said).order_by(message_t.c.id).limit(1)
        first = c.execute(query).scalar()
        if first == "":
            c.execute(update(conversation_t).where(conversation_t.c.id == number).values(title=""))
