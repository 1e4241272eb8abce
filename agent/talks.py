"""Talks with clients that send all that was said with every request, as OpenAI's do.

What was said finds the conversation in which it was said, so that the ledger holds each word once. What the client
has changed, or brought from elsewhere, begins a conversation of its own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, insert, select
from sqlalchemy.exc import IntegrityError

from agent.actions import MOST_CHARS
from agent.task_view import UNNAMED
from agent.tasks import BOT, Talk, TaskActions, TaskDraft
from storage.database import new_id
from storage.errors import Invalid
from storage.ledger import conversation_t, job_t, message_t
from storage.principal import Principal
from storage.tables.api import ApiTalk

log = logging.getLogger(__name__)
talk_t = ApiTalk.__table__  # type: ignore[attr-defined]
MOST_SAID = 500
MOST_ALL = 400_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """One thing that was said. role: `system`, `user`, `assistant`."""

    role: str
    text: str


class TalkActions:
    """Use cases of the OpenAI-compatible API. Right: chat.use."""

    def __init__(self, tasks: TaskActions) -> None:
        self.tasks, self.db, self.clock = tasks, tasks.db, tasks.clock

    async def begin(self, who: Principal, said: Sequence[Said], *, model: str = "", key: str = "") -> int:
        """Enter the last thing said as a task; what came before is its history. Returns the task's id.

        Raises:
            Invalid: `chat.last`, `chat.long`, `message.*`, `task.*`. Conflict: `task.key_reused`.
        """
        who.require("chat.use")
        if not said or said[-1].role != "user":
            raise Invalid("chat.last", field="messages")
        if len(said) > MOST_SAID or sum(len(one.text) for one in said) > MOST_ALL:
            raise Invalid("chat.long", field="messages", most=MOST_SAID, chars=MOST_ALL)
        if len(said[-1].text) > MOST_CHARS:
            raise Invalid("message.too_long", field="messages", limit=MOST_CHARS)
        if not said[-1].text.strip():
            raise Invalid("message.empty", field="messages")
        shown, draft = hash_of(said), TaskDraft(text=said[-1].text, model=model)
        if await self.tasks.known(who, key) is not None:
            made = await self.tasks.create(who, draft, key=key, talk=Talk(key=f"{who.id}/{UNNAMED}", print=shown))
            return made.task.id
        before = said[:-1]
        place = await self.db.write(lambda c: self._place(c, who, before))
        made = await self.tasks.create(who, draft, key=key, talk=Talk(key=place, print=shown))
        return made.task.id

    def _place(self, c: Connection, who: Principal, before: Sequence[Said]) -> str:
        """The conversation that goes on; taken, so that a second request with the same past begins another."""
        if before:
            mine = and_(talk_t.c.tenant == who.tenant, talk_t.c.caller == who.id, talk_t.c.hash == hash_of(before))
            query = select(talk_t.c.id, conversation_t.c.key).join(
                conversation_t, conversation_t.c.id == talk_t.c.conversation_id
            )
            found = c.execute(query.where(mine)).first()
            if found is not None and c.execute(delete(talk_t).where(talk_t.c.id == found.id)).rowcount == 1:
                return str(found.key)
        key = f"{who.id}/{UNNAMED}talk-{secrets.token_hex(8)}"
        if before:
            self._import(c, who, key, before)
        return key

    def _import(self, c: Connection, who: Principal, key: str, before: Sequence[Said]) -> None:
        now = self.clock.ms()
        first = next((one.text for one in before if one.role == "user"), "")
        row = {
            "tenant": who.tenant,
            "bot": BOT,
            "channel": "api",
            "key": key,
            "kind": "direct",
            "person": who.id,
            "title": " ".join(first.split())[:80],
            "address": "{}",
            "model": "",
            "summary": "",
            "state": "open",
            "created_at": now,
            "updated_at": now,
        }
        place = new_id(c.execute(insert(conversation_t), row))
        same = {"tenant": who.tenant, "conversation_id": place, "channel": "api", "vendor_id": "", "created_at": now}
        rows = [
            {
                **same,
                "direction": "out" if one.role == "assistant" else "in",
                "sender": "" if one.role == "assistant" else who.id,
                "sender_name": "" if one.role == "assistant" else who.name,
                "text": one.text,
                "parts": json.dumps([] if one.role == "assistant" else [{"kind": "text", "text": one.text}]),
                "origin": "t4" if one.role == "assistant" else "t2",
            }
            for one in before
            if one.text.strip()
        ]
        if rows:
            c.execute(insert(message_t), rows)

    async def keep(self, who: Principal, said: Sequence[Said], answer: str, job_id: int) -> None:
        """Remember what was said and answered, so that the next request finds this conversation. Safe to repeat."""
        shown, now = hash_of([*said, Said(role="assistant", text=answer)]), self.clock.ms()

        def fn(c: Connection) -> None:
            place = c.execute(select(job_t.c.conversation_id).where(job_t.c.id == job_id)).scalar()
            if place is None:
                return
            mine = and_(talk_t.c.tenant == who.tenant, talk_t.c.caller == who.id, talk_t.c.hash == shown)
            c.execute(delete(talk_t).where(mine))
            values = {"tenant": who.tenant, "caller": who.id, "hash": shown, "conversation_id": place, "at": now}
            c.execute(insert(talk_t), values)

        try:
            await self.db.write(fn, durable=False)
        except IntegrityError:
            log.info("the talk of task %s was kept by somebody else", job_id)


def hash_of(said: Sequence[Said]) -> str:
    """A hash of a whole talk; spaces at the ends do not count."""
    return hashlib.sha256(json.dumps([(one.role, one.text.strip()) for one in said]).encode()).hexdigest()
