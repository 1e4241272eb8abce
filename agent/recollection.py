"""What memory does around one message: it is spoken to, it is asked, it keeps what was said. Each a recorded step."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict

from agent.context import Asked
from agent.memory.base import Memory, MemoryScope, Recalled
from agent.memory.citing import with_sources
from agent.memory.extract import Extractor
from agent.memory.newrow import FIRST_HAND, OURS
from agent.memory.said import SaidToIt, Speaker, meant
from storage.envelope import Origin, Outgoing
from storage.errors import AppError
from storage.ledger import Ending, JobView
from storage.runner import Work

log = logging.getLogger(__name__)

MOST = 6
LONGEST_QUERY = 500


def scope_of(job: JobView, asked: Asked) -> MemoryScope:
    """Whose memory a message belongs to: the group's in a group, the person's otherwise; and the bot's knowledge."""
    return scope(job.tenant, job.bot, asked.person, asked.key if asked.kind == "group" else "")


def scope(tenant: str, bot: str, person: str, group: str) -> MemoryScope:
    """The same for whoever is not answering a message. `group` is the conversation's key, empty in a direct chat."""
    if group:
        return MemoryScope(tenant=tenant, group=f"{bot}/{group}", bot=bot)
    return MemoryScope(tenant=tenant, person=person, bot=bot)


class Recollection:
    """The loop's way to memory.

    Args:
        said: takes what a person says to memory itself; None: the model's tools are the only way.
        extractor: is told of what was said, and draws facts out of it later.
    """

    def __init__(self, memory: Memory, said: SaidToIt | None = None, extractor: Extractor | None = None) -> None:
        self.memory, self.said, self.extractor = memory, said, extractor

    async def spoken_to(self, work: Work, scope: MemoryScope, asked: Asked, lang: str) -> Ending | None:
        """Do what was asked of memory itself, and the ending that confirms it; None: it was something else."""
        said = self.said
        what = meant(asked.text) if said is not None else ""
        if said is None or not what:
            return None
        who = Speaker(
            scope=scope,
            message_id=work.job.message_id or 0,
            at=asked.created_at,
            label=asked.origin,
            lang=lang,
            name=asked.sender_name,
            id=asked.person,
        )

        async def act() -> str:
            done = await said.act(who, asked.text)
            return json.dumps(None if done is None else asdict(done), ensure_ascii=False)

        done = json.loads(await work.step(what, "memory", act))
        if done is None:
            return None
        work.tell("text", delta=done["text"])
        return Ending(say=(Outgoing(kind="answer", text=done["text"]),))

    async def recall(self, work: Work, scope: MemoryScope, asked: Asked) -> list[Recalled]:
        """What fits the message. Empty where memory does not work now: an answer without it is better than none."""
        if not asked.text.strip():
            return []

        async def find() -> str:
            try:
                found = await self.memory.recall(
                    scope,
                    asked.text[:LONGEST_QUERY],
                    limit=MOST,
                    now=asked.created_at,
                    session=session_of(work.job),
                    since=asked.since,
                )
            except AppError as error:
                log.warning("recall failed: %s", error)
                found = []
            own = f"message:{work.job.message_id}"
            return json.dumps([asdict(item) for item in found if item.source != own], ensure_ascii=False)

        items = [Recalled(**item) for item in json.loads(await work.step("recall", "recall", find))]
        if items:
            work.tell("recall", items=[asdict(item) for item in items])
        return items

    async def keep(self, job: JobView, scope: MemoryScope, asked: Asked) -> None:
        """Keep what was said as it was said, and let facts be drawn out of it once the conversation is over."""
        if not asked.text:
            return
        await self.memory.keep_turn(
            scope,
            message_id=job.message_id or 0,
            speaker=asked.sender_name or asked.person,
            speaker_id=asked.person,
            text=asked.text,
            at=asked.created_at,
            session=session_of(job),
            label=asked.origin,
        )
        if self.extractor is not None and asked.origin in FIRST_HAND:
            self.extractor.notice(scope, session_of(job))

    async def keep_answer(self, job: JobView, scope: MemoryScope, asked: Asked, text: str, label: str) -> None:
        """Keep what we answered. It goes with the message that it answers: forgotten together.

        `label` is the worst of what the answer was made from.
        """
        await self.memory.keep_turn(
            scope,
            message_id=job.message_id or 0,
            speaker=OURS,
            text=text,
            at=asked.created_at + 1,
            session=session_of(job),
            label=label,
        )


def session_of(job: JobView) -> str:
    """What was said in one conversation belongs together."""
    return f"conversation:{job.conversation_id}"


def worst(labels: Sequence[str]) -> str:
    """The label of what was made from these."""
    return max(labels, default=str(Origin.USER))


__all__ = ["Recollection", "scope", "scope_of", "session_of", "with_sources", "worst"]
