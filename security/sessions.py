"""Sessions of the panel: rows on the server, one random cookie value each, looked up in memory."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, or_, select, update

from storage.clock import Clock
from storage.database import Database
from storage.principal import TENANT, Principal, principal
from storage.tables.people import Session, User
from storage.words import negotiate

log = logging.getLogger(__name__)
session_t = Session.__table__  # type: ignore[attr-defined]
user_t = User.__table__  # type: ignore[attr-defined]

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
IDLE = 12 * HOUR
ABSOLUTE = 7 * DAY
SETUP = HOUR
CHALLENGE = 5 * MINUTE
SAVE_AFTER = MINUTE
MOST_PER_USER = 20
MOST_SETUP = 50
NO_USER_ROLES = ("setup", "challenge")


@dataclass(kw_only=True, slots=True)
class Live:
    """A session as it stands in memory."""

    id: str
    user_id: int | None
    who: Principal
    version: int
    lang: str
    theme: str
    ip: str
    agent: str
    created_at: int
    seen_at: int
    expires_at: int
    verified_at: int | None
    saved_at: int

    def principal(self, ip: str, accept_language: str = "") -> Principal:
        """Who acts in one request; the browser's language where the person chose none."""
        lang = self.lang or negotiate(accept_language)
        if self.who.ip == ip and self.who.lang == lang:
            return self.who
        return replace(self.who, ip=ip, lang=lang)


def key_of(value: str) -> str:
    """The row id of a cookie value."""
    return hashlib.sha256(value.encode()).hexdigest()


_COLUMNS = (
    session_t.c.id,
    session_t.c.tenant,
    session_t.c.user_id,
    session_t.c.role,
    session_t.c.version,
    session_t.c.ip,
    session_t.c.agent,
    session_t.c.created_at,
    session_t.c.seen_at,
    session_t.c.expires_at,
    session_t.c.verified_at,
    session_t.c.revoked_at,
    user_t.c.name,
    user_t.c.role.label("user_role"),
    user_t.c.version.label("user_version"),
    user_t.c.disabled_at,
    user_t.c.lang,
    user_t.c.theme,
)


class Sessions:
    """Makes, finds and ends sessions. A request with a known session costs no database read.

    Listeners registered with `on_end` are told the id of each session that ended, at once and in the event loop.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self.db, self.clock = db, clock
        self._live: dict[str, Live] = {}
        self._alone = False  # True once memory knows every session there is
        self._listeners: list[Callable[[str], None]] = []

    def on_end(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with a session's id when it ended. It must not block or raise."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Read what is alive, at start, so that a restart logs nobody out."""
        now = self.clock.ms()
        query = _joined().where(session_t.c.revoked_at.is_(None), session_t.c.expires_at > now).limit(50_000)
        for row in await self.db.read(lambda c: c.execute(query).all()):
            if (live := self._alive(row)) is not None:
                self._live[live.id] = live
        self._alone = self.db.dialect == "sqlite"  # one process: made-up cookies cost no database read either

    async def find(self, value: str) -> Live | None:
        """The live session of a cookie value, its idle time begun anew; None if there is none."""
        live = await self._get(value)
        return None if live is None or live.who.role == "challenge" else live

    async def find_challenge(self, value: str) -> Live | None:
        """The pending second step of a login; None if there is none or it is over."""
        live = await self._get(value)
        return live if live is not None and live.who.role == "challenge" else None

    async def _get(self, value: str) -> Live | None:
        if not 20 <= len(value) <= 100 or not value.isascii():
            return None
        sid = key_of(value)
        live = self._live.get(sid)
        if live is None and not self._alone:
            live = await self.admit(sid)
        return None if live is None else self.touch(live)

    async def admit(self, sid: str) -> Live | None:
        """Take a session that was just written, or written by another process, into memory."""
        row = await self.db.read(lambda c: c.execute(_joined().where(session_t.c.id == sid)).first())
        live = None if row is None else self._alive(row)
        return None if live is None else self._live.setdefault(sid, live)

    def touch(self, live: Live) -> Live | None:
        """Begin the idle time anew; None if the session is over."""
        now = self.clock.ms()
        if self._live.get(live.id) is not live or now >= live.expires_at or now - live.seen_at >= _idle(live):
            self._forget([live.id])
            return None
        live.seen_at = now
        return live

    def alive(self, sid: str | None) -> bool:
        """True if the session may act now. Costs no database read."""
        live = self._live.get(sid or "")
        if live is None:
            return False
        now = self.clock.ms()
        return now < live.expires_at and now - live.seen_at < _idle(live)

    def get(self, sid: str | None) -> Live | None:
        """The session by its row id, if it is alive; its idle time goes on."""
        return self._live.get(sid or "") if self.alive(sid) else None

    def start(
        self, c: Connection, *, role: str, user_id: int | None, ip: str, agent: str, verified: bool = False
    ) -> tuple[str, str]:
        """Write a new session inside the caller's transaction. After the commit call `admit` with the row's id.

        Args:
            role: the user's role, or `setup`, or `challenge` (password given, code still missing).
            verified: a second factor was given.

        Returns:
            The cookie's value and the row's id.
        """
        now, value = self.clock.ms(), secrets.token_urlsafe(32)
        lasts = {"setup": SETUP, "challenge": CHALLENGE}.get(role, ABSOLUTE)
        version = 1
        if user_id is not None:
            version = int(c.execute(select(user_t.c.version).where(user_t.c.id == user_id)).scalar_one())
        self._bound(c, role, user_id, now)
        c.execute(
            insert(session_t).values(
                id=key_of(value),
                tenant=TENANT,
                user_id=user_id,
                role=role,
                version=version,
                ip=ip[:64],
                agent=agent[:200],
                created_at=now,
                seen_at=now,
                expires_at=now + lasts,
                verified_at=now if verified else None,
            )
        )
        return value, key_of(value)

    def _bound(self, c: Connection, role: str, user_id: int | None, now: int) -> None:
        """Let the oldest ones go where somebody has very many."""
        mine = and_(session_t.c.revoked_at.is_(None), session_t.c.expires_at > now)
        most = MOST_SETUP if role in NO_USER_ROLES else MOST_PER_USER
        mine = and_(mine, session_t.c.role == role) if role in NO_USER_ROLES else and_(mine, _of(user_id))
        rows = c.execute(select(session_t.c.id).where(mine).order_by(session_t.c.seen_at.desc()).offset(most - 1))
        for row in rows.all():
            c.execute(update(session_t).where(session_t.c.id == row.id).values(revoked_at=now))

    def end_in(self, c: Connection, *, user_id: int, keep: str | None = None) -> None:
        """End a user's sessions inside the caller's transaction; after the commit call `ended`."""
        query = update(session_t).where(_of(user_id), session_t.c.revoked_at.is_(None))
        if keep is not None:
            query = query.where(session_t.c.id != keep)
        c.execute(query.values(revoked_at=self.clock.ms()))

    def ended(self, *, user_id: int, keep: str | None = None) -> None:
        """Tell at once that a user's sessions are over, but `keep`."""
        self._forget([s.id for s in self._live.values() if s.user_id == user_id and s.id != keep])

    async def revoke(self, sid: str) -> None:
        """End one session. Safe to repeat."""
        self._forget([sid])  # first of all here, whatever the database says
        now = self.clock.ms()
        await self.db.write(
            lambda c: (
                c.execute(
                    update(session_t)
                    .where(session_t.c.id == sid, session_t.c.revoked_at.is_(None))
                    .values(revoked_at=now)
                ).rowcount
            )
        )

    async def refresh(self, user_id: int) -> None:
        """Read a user's own settings again (name, language, theme, version) for the sessions that stay."""
        mine = [s.id for s in self._live.values() if s.user_id == user_id]
        await self._reread(mine)

    def expire(self) -> None:
        """End what is over by time. Cheap: memory only."""
        self._forget([sid for sid in self._live if not self.alive(sid)])

    async def sweep(self) -> None:
        """End what is over, keep the time of the last act, and learn what another process changed.

        Called every few seconds; bounded by the number of live sessions.
        """
        self.expire()
        stale = [s for s in self._live.values() if s.seen_at - s.saved_at >= SAVE_AFTER]
        if stale:
            seen = [{"sid": s.id, "at": s.seen_at} for s in stale]
            query = update(session_t).where(session_t.c.id == bindparam("sid")).values(seen_at=bindparam("at"))
            await self.db.write(lambda c: c.execute(query, seen).rowcount, durable=False)
            for live in stale:
                live.saved_at = live.seen_at
        await self._reread(list(self._live))

    async def tidy(self) -> None:
        """Remove rows that have been over for a week."""
        before = self.clock.ms() - 7 * DAY
        over = or_(session_t.c.expires_at < before, session_t.c.revoked_at < before)
        await self.db.write(lambda c: c.execute(delete(session_t).where(over)).rowcount, durable=False)

    async def _reread(self, ids: list[str]) -> None:
        if not ids:
            return
        rows: dict[str, Row[Any]] = {}
        for at in range(0, len(ids), 500):
            part = ids[at : at + 500]
            found = await self.db.read(
                lambda c, part=part: c.execute(_joined().where(session_t.c.id.in_(part))).all()  # type: ignore[misc]
            )
            rows |= {row.id: row for row in found}
        for sid in ids:
            live, row = self._live.get(sid), rows.get(sid)
            fresh = None if row is None else self._alive(row)
            if live is None:
                continue
            if fresh is None:
                self._forget([sid])
            else:
                live.who, live.version, live.lang, live.theme = fresh.who, fresh.version, fresh.lang, fresh.theme

    def _alive(self, row: Row[Any]) -> Live | None:
        """The row as a live session, unless it or its user is over, disabled or changed since."""
        now, nobody = self.clock.ms(), row.role in NO_USER_ROLES
        if row.revoked_at is not None or row.expires_at <= now:
            return None
        if row.user_id is not None and (row.user_version != row.version or row.disabled_at is not None):
            return None
        if row.user_id is None and row.role != "setup":
            return None
        role = row.role if nobody else row.user_role
        who = principal(
            id="setup" if row.user_id is None else f"user:{row.user_id}",
            name=row.name or "",
            role=role,
            tenant=row.tenant,
            session=row.id,
            ip=row.ip,
            lang=row.lang or "zh_CN",
        )
        live = Live(
            id=row.id,
            user_id=row.user_id,
            who=who,
            version=row.version,
            lang=row.lang or "",
            theme=row.theme or "auto",
            ip=row.ip,
            agent=row.agent,
            created_at=row.created_at,
            seen_at=row.seen_at,
            expires_at=row.expires_at,
            verified_at=row.verified_at,
            saved_at=row.seen_at,
        )
        return None if now - live.seen_at >= _idle(live) else live

    def _forget(self, ids: Iterable[str]) -> None:
        for sid in ids:
            self._live.pop(sid, None)
            for listener in self._listeners:
                listener(sid)


def _joined() -> Any:
    return select(*_COLUMNS).select_from(session_t.outerjoin(user_t, session_t.c.user_id == user_t.c.id))


def _of(user_id: int | None) -> Any:
    return session_t.c.user_id == user_id


def _idle(live: Live) -> int:
    return {"setup": SETUP, "challenge": CHALLENGE}.get(live.who.role, IDLE)
