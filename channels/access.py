"""Who may talk with a bot: everybody, those listed, or those whom an admin let in after they asked."""

from __future__ import annotations

import re
from enum import StrEnum

from sqlalchemy import Connection, and_, func, insert, select

from channels.base import BotConfig
from storage.clock import Clock
from storage.database import Database
from storage.envelope import Inbound
from storage.tables.bots import Access

access_t = Access.__table__  # type: ignore[attr-defined]

MOST_ASKED = 5_000
DEFAULT = "request"


class Verdict(StrEnum):
    """May the sender talk?"""

    ALLOWED = "allowed"
    ASKED = "asked"
    """Asked just now, for the first time: say so once."""
    WAITING = "waiting"
    REFUSED = "refused"


class AccessList:
    """Looks senders up by their stable vendor id; a group may be let in as a whole by its conversation key."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self.db, self.clock = db, clock

    async def verdict(self, config: BotConfig, message: Inbound) -> Verdict:
        """Decide, and note a first request. `open` costs no database read."""
        policy = config.get("access", DEFAULT)
        if policy == "open":
            return Verdict.ALLOWED
        listed = set(re.split(r"[\s,，;；]+", config.get("allow")))
        # a group is let in as a whole, whatever keeps its conversations apart: `<group>/<thread or person>`
        place = message.conversation
        groups = {place, place.rpartition("/")[0]} - {""} if message.kind == "group" else set()
        if message.sender in listed or groups & listed:
            return Verdict.ALLOWED
        subjects = [message.sender, *groups]
        now = self.clock.ms()

        def fn(c: Connection) -> Verdict:
            found = c.execute(
                select(access_t.c.status).where(and_(access_t.c.bot_id == config.id, access_t.c.subject.in_(subjects)))
            ).scalars()
            states = set(found)
            if "refused" in states:
                return Verdict.REFUSED
            if "allowed" in states:
                return Verdict.ALLOWED
            if policy != "request":
                return Verdict.REFUSED
            if "asked" in states:
                return Verdict.WAITING
            asked = select(func.count()).where(and_(access_t.c.bot_id == config.id, access_t.c.status == "asked"))
            if c.execute(asked).scalar_one() >= MOST_ASKED:
                return Verdict.WAITING
            c.execute(
                insert(access_t).values(
                    tenant=config.tenant,
                    bot_id=config.id,
                    subject=message.sender,
                    name=message.sender_name[:80],
                    status="asked",
                    asked_at=now,
                    decided_by="",
                )
            )
            return Verdict.ASKED

        known = await self.db.read(
            lambda c: (
                c.execute(
                    select(access_t.c.status).where(
                        and_(access_t.c.bot_id == config.id, access_t.c.subject.in_(subjects))
                    )
                )
                .scalars()
                .all()
            )
        )
        if "allowed" in known and "refused" not in known:
            return Verdict.ALLOWED
        return await self.db.write(fn)
