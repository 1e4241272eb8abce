"""Takes forgotten words out of the ledger: messages, steps, answers, summaries. What has not ended is left to end.

A memory that is gone while its transcript stays would be read again; so both go, in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, func, or_, select, update

from storage.ledger import OPEN, conversation_t, delivery_t, job_t, message_t, step_t

PART = 200
LATE = 5_000  # newest jobs that are looked through after a start
GONE = '"gone": true'  # in the recorded step of a request that made memory forget
ENDED = ("delivered", "failed", "unknown", "split")


def redact(c: Connection, tenant: str, messages: Sequence[int], memories: Sequence[int]) -> int:
    """Empty these messages, their answers and all that was recorded for them, and recorded recalls of these memories.

    Returns how many messages were emptied. Texts become empty; rows, times and receipts stay.
    """
    conversations: set[int] = set()
    jobs: set[int] = set()
    for some in _parts(messages):
        mine = and_(message_t.c.tenant == tenant, message_t.c.id.in_(some))
        for row in c.execute(select(message_t.c.conversation_id, message_t.c.job_id).where(mine)):
            conversations.add(row.conversation_id)
            if row.job_id is not None:
                jobs.add(row.job_id)
    emptied = 0
    for some in _parts(sorted(jobs)):
        emptied += _empty_jobs(c, tenant, some)
    for some in _parts(messages):
        mine = and_(message_t.c.tenant == tenant, message_t.c.id.in_(some), message_t.c.text != "")
        emptied += c.execute(update(message_t).where(mine).values(text="", parts="[]")).rowcount
    _empty_recalls(c, tenant, memories)
    for some in _parts(sorted(conversations)):
        mine = and_(conversation_t.c.tenant == tenant, conversation_t.c.id.in_(some))
        c.execute(update(conversation_t).where(mine).values(summary="", summary_to=None))
        _retitle(c, some)
    return emptied


def of_person(c: Connection, tenant: str, person: str) -> list[int]:
    """Messages that a person sent, by the id under which memory knows them (`feishu:ou_x`, `user:1`)."""
    channel, _, sender = person.partition(":")
    here = and_(message_t.c.channel.in_(("web", "api")), message_t.c.sender == person)
    there = and_(message_t.c.channel == channel, message_t.c.sender == sender)
    mine = and_(message_t.c.tenant == tenant, message_t.c.direction == "in", message_t.c.text != "", or_(here, there))
    return [row.id for row in c.execute(select(message_t.c.id).where(mine))]


def unended(c: Connection, tenant: str, messages: Sequence[int]) -> list[int]:
    """Those of the messages for which something still runs or waits to be sent: to be emptied later."""
    out = []
    for some in _parts(messages):
        mine = and_(message_t.c.tenant == tenant, message_t.c.id.in_(some))
        jobs = {r.job_id: r.id for r in c.execute(select(message_t.c.id, message_t.c.job_id).where(mine)) if r.job_id}
        running = and_(job_t.c.id.in_(list(jobs)), job_t.c.status.in_(OPEN))
        waiting = and_(delivery_t.c.job_id.in_(list(jobs)), delivery_t.c.status.not_in(ENDED))
        open_jobs = {r.id for r in c.execute(select(job_t.c.id).where(running))}
        open_jobs |= {r.job_id for r in c.execute(select(delivery_t.c.job_id).where(waiting))}
        out += [jobs[number] for number in open_jobs]
    return out


def forgetting(c: Connection) -> list[tuple[str, int]]:
    """(tenant, message) of late requests to forget that still say what is forgotten."""
    newest = select(func.max(job_t.c.id)).scalar_subquery()
    mine = and_(step_t.c.job_id > newest - LATE, step_t.c.kind == "memory", step_t.c.result.like(f"%{GONE}%"))
    query = select(job_t.c.tenant, job_t.c.message_id).join(step_t, step_t.c.job_id == job_t.c.id).where(mine)
    return [(row.tenant, row.message_id) for row in c.execute(query) if row.message_id]


def _parts(ids: Sequence[int]) -> list[list[int]]:
    return [list(ids[i : i + PART]) for i in range(0, len(ids), PART)]


def _empty_recalls(c: Connection, tenant: str, memories: Sequence[int]) -> None:
    """Recorded recalls that hold any of these memories. Answers that repeat them are found by their words elsewhere."""
    mine = select(job_t.c.id).where(and_(job_t.c.tenant == tenant, job_t.c.status.not_in(OPEN)))
    for some in _parts(memories):
        holds = or_(*[step_t.c.result.like(f'%"id": {int(number)},%') for number in some])
        recall = and_(step_t.c.kind == "recall", step_t.c.job_id.in_(mine), holds)
        c.execute(update(step_t).where(recall).values(result="[]"))


def _empty_jobs(c: Connection, tenant: str, some: Sequence[int]) -> int:
    ended = and_(job_t.c.tenant == tenant, job_t.c.id.in_(some), job_t.c.status.not_in(OPEN))
    ids = [row.id for row in c.execute(select(job_t.c.id).where(ended))]
    c.execute(update(job_t).where(job_t.c.id.in_(ids)).values(title="", detail=""))
    c.execute(update(step_t).where(step_t.c.job_id.in_(ids)).values(request="", result=""))
    sent = and_(delivery_t.c.job_id.in_(ids), delivery_t.c.status.in_(ENDED))
    c.execute(update(delivery_t).where(sent).values(payload="{}"))
    said = and_(message_t.c.job_id.in_(ids), message_t.c.text != "")
    return c.execute(update(message_t).where(said).values(text="", parts="[]")).rowcount


def _retitle(c: Connection, conversations: Sequence[int]) -> None:
    """A conversation's title is its first words: take it from what is left."""
    for number in conversations:
        said = and_(message_t.c.conversation_id == number, message_t.c.direction == "in")
        query = select(message_t.c.text).where(said).order_by(message_t.c.id).limit(1)
        first = c.execute(query).scalar()
        if first == "":
            c.execute(update(conversation_t).where(conversation_t.c.id == number).values(title=""))
