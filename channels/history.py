"""What a bot's connection did: spans of one state each, kept for a month."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, insert, select, update

from channels.hooks import Turn
from storage.database import new_id
from storage.tables.bots import BotSpan

span_t = BotSpan.__table__  # type: ignore[attr-defined]

KEPT_MS = 30 * 86_400_000
MOST_SPANS = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A time in one state: `online`, `connecting`, `lost`, `waiting` (for the vendor's calls) or `off`."""

    state: str
    reason: str
    begun_at: int
    ended_at: int


class History:
    """Writes the spans of this process. A gap between two spans is a time in which the process did not run."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[int, str]] = {}

    def note(self, c: Connection, bot: int, turns: Sequence[Turn], state: str, now: int) -> None:
        """Write what a bot's connection did since the last time, and that it stands in `state` now."""
        for at, name, reason in turns:
            if bot in self._open:
                c.execute(update(span_t).where(span_t.c.id == self._open[bot][0]).values(ended_at=at))
            values = {"bot_id": bot, "state": name, "reason": reason[:200], "begun_at": at, "ended_at": at}
            self._open[bot] = new_id(c.execute(insert(span_t).values(**values))), name
        if bot in self._open and self._open[bot][1] == state:
            c.execute(update(span_t).where(span_t.c.id == self._open[bot][0]).values(ended_at=now))
        if turns:
            _bound(c, bot, now)


def spans_of(c: Connection, bot: int, since: int) -> list[Span]:
    """A bot's spans that reach into the time since, oldest first."""
    query = select(span_t).where(and_(span_t.c.bot_id == bot, span_t.c.ended_at >= since)).order_by(span_t.c.begun_at)
    return [
        Span(state=row.state, reason=row.reason, begun_at=row.begun_at, ended_at=row.ended_at)
        for row in c.execute(query.limit(MOST_SPANS))
    ]


def forget(c: Connection, bot: int) -> None:
    """Remove all spans of a bot that is removed."""
    c.execute(delete(span_t).where(span_t.c.bot_id == bot))


def _bound(c: Connection, bot: int, now: int) -> None:
    mine = span_t.c.bot_id == bot
    c.execute(delete(span_t).where(and_(mine, span_t.c.ended_at < now - KEPT_MS)))
    newest = select(span_t.c.id).where(mine).order_by(span_t.c.id.desc()).limit(1).offset(MOST_SPANS)
    oldest = c.execute(newest).scalar()
    if oldest is not None:
        c.execute(delete(span_t).where(and_(mine, span_t.c.id <= oldest)))
