"""Where something that was recalled was said."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, and_, select

from agent.actions import BOT
from storage.database import Database
from storage.ledger import conversation_t, message_t
from storage.principal import Principal

MOST = 500


async def conversations_of(db: Database, who: Principal, message_ids: Collection[int]) -> dict[int, int]:
    """Conversation by message id, for messages of the person's own conversations in the playground.

    Right: chat.use. Messages of others, of vendors' chats and of deleted conversations are left out.
    """
    who.require("chat.use")
    wanted = sorted(set(message_ids))[:MOST]
    if not wanted:
        return {}

    def fn(c: Connection) -> dict[int, int]:
        query = (
            select(message_t.c.id, message_t.c.conversation_id)
            .join(conversation_t, conversation_t.c.id == message_t.c.conversation_id)
            .where(
                and_(
                    message_t.c.id.in_(wanted),
                    conversation_t.c.tenant == who.tenant,
                    conversation_t.c.bot == BOT,
                    conversation_t.c.person == who.id,
                    conversation_t.c.hidden_at.is_(None),
                )
            )
        )
        return {row.id: row.conversation_id for row in c.execute(query)}

    return await db.read(fn)
