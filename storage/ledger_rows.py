"""Rows of the ledger as values, and our messages with their outbox rows. Called inside the ledger's transactions."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, bindparam, insert, update

from storage.database import new_id
from storage.envelope import Outgoing
from storage.jobs import DeliveryView, Finished, JobView, StepView
from storage.tables.ledger import Conversation, Delivery, Job, Message, Seen, Step

conversation_t = Conversation.__table__  # type: ignore[attr-defined]
message_t = Message.__table__  # type: ignore[attr-defined]
job_t = Job.__table__  # type: ignore[attr-defined]
step_t = Step.__table__  # type: ignore[attr-defined]
delivery_t = Delivery.__table__  # type: ignore[attr-defined]
seen_t = Seen.__table__  # type: ignore[attr-defined]

NEW_CONVERSATION = insert(conversation_t)
NEW_MESSAGE = insert(message_t)
NEW_JOB = insert(job_t)
NEW_SEEN = insert(seen_t)
NEW_STEP = insert(step_t)
NEW_DELIVERY = insert(delivery_t)
_SPOKEN = update(conversation_t).where(conversation_t.c.id == bindparam("i")).values(updated_at=bindparam("now"))


def say_all(c: Connection, job: JobView, say: tuple[Outgoing, ...], now: int, *, prefix: str = "") -> Finished:
    """Write our messages and their outbox rows.

    The playground has nobody to call, nor has a schedule without a bot: there, stored is delivered.
    """
    messages: list[int] = []
    rows: list[DeliveryView] = []
    for n, out in enumerate(say):
        message = None
        if job.conversation_id is not None:
            message = new_id(
                c.execute(
                    NEW_MESSAGE,
                    {
                        "tenant": job.tenant,
                        "conversation_id": job.conversation_id,
                        "job_id": job.id,
                        "direction": "out",
                        "channel": job.channel,
                        "vendor_id": "",
                        "sender": "",
                        "sender_name": "",
                        "text": out.text,
                        "parts": json.dumps([{"kind": "file", "key": f} for f in out.files]),
                        "origin": "t4",
                        "created_at": now,
                    },
                )
            )
            messages.append(message)
        stored = job.channel in ("web", "api", "schedule")
        key, payload = f"{job.id}-{prefix}{n}", out.to_json()
        made = c.execute(
            NEW_DELIVERY,
            {
                "tenant": job.tenant,
                "bot": job.bot,
                "channel": job.channel,
                "lane": job.lane,
                "key": key,
                "job_id": job.id,
                "conversation_id": job.conversation_id,
                "message_id": message,
                "address": job.address,
                "payload": payload,
                "event": "",
                "status": "delivered" if stored else "pending",
                "attempts": 0,
                "vendor_id": f"{job.channel}-{message}" if stored else "",
                "error": "",
                "detail": "",
                "committed_at": now,
                "written_at": now if stored else None,
                "ended_at": now if stored else None,
            },
        )
        if not stored:
            rows.append(
                DeliveryView(
                    id=new_id(made),
                    tenant=job.tenant,
                    bot=job.bot,
                    channel=job.channel,
                    lane=job.lane,
                    key=key,
                    job_id=job.id,
                    conversation_id=job.conversation_id,
                    address=job.address,
                    payload=payload,
                    attempts=0,
                    committed_at=now,
                )
            )
    if messages and job.conversation_id is not None:
        c.execute(_SPOKEN, {"i": job.conversation_id, "now": now})
    return Finished(message_ids=tuple(messages), deliveries=tuple(rows))


def view_of(row: object, token: str, steps: tuple[StepView, ...]) -> JobView:
    r: Any = row
    return JobView(
        id=r.id,
        tenant=r.tenant,
        key=r.key,
        lane=r.lane,
        kind=r.kind,
        payload=r.payload,
        bot=r.bot,
        channel=r.channel or "",
        conversation_id=r.conversation_id,
        message_id=r.message_id,
        address=r.address or r.conversation_address or "{}",
        model=r.model or r.conversation_model or "",
        title=r.title,
        attempts=r.attempts,
        token=token,
        received_at=r.received_at or r.created_at,
        steps=steps,
    )
