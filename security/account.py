"""What a person may do with their own account: password, one-time codes, sessions, language, theme."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from security import totp, user_rows
from security.guessing import Guessing, by_account
from security.passwords import Passwords
from security.sessions import Sessions, session_t
from security.sign_in import SignIn
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from storage.principal import TENANT, Principal
from storage.vault import Vault
from storage.words import LANGS

user_t = user_rows.user_t
ISSUER = "Zhixing"
THEMES = ("auto", "light", "dark")
FRESH = 15 * 60_000


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountView:
    """One's own account. `lang` is empty where the browser decides."""

    name: str
    role: str
    lang: str
    theme: str
    totp: bool
    recovery_left: int
    password_at: int
    created_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Enrolment:
    """What an authenticator needs; shown once. `svg` is the QR code, `grouped` the secret for typing."""

    uri: str
    svg: str
    grouped: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionRow:
    """One of one's sessions. `handle` names it to `revoke_session`; it opens nothing."""

    handle: str
    ip: str
    agent: str
    created_at: int
    seen_at: int
    verified: bool
    current: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountActions:
    """Right for all of them: account.own, and only on the caller's own account."""

    db: Database
    vault: Vault
    audit: Audit
    clock: Clock
    passwords: Passwords
    guessing: Guessing
    sessions: Sessions
    sign_in: SignIn

    async def view(self, who: Principal) -> AccountView:
        """The caller's account."""
        user_id = _own(who)
        row = await self.db.read(lambda c: user_rows.get(c, user_id))
        return AccountView(
            name=row.name,
            role=row.role,
            lang=row.lang,
            theme=row.theme,
            totp=bool(row.totp_secret),
            recovery_left=len(json.loads(row.recovery_hashes or "[]")),
            password_at=row.password_at or row.created_at,
            created_at=row.created_at,
        )

    async def change_password(self, who: Principal, current: str, new: str, again: str) -> None:
        """Set a new password. All other sessions end.

        Raises:
            Invalid: `password.current` (field current), `password.*` (field password), `password.differs` (again).
            Throttled: `login.locked`.
        """
        user_id = _own(who)
        row = await self._proven(user_id, current)
        await self.passwords.check(new, name=row.name)
        if new != again:
            raise Invalid("password.differs", "again")
        if new == current:
            raise Invalid("password.same", "password")
        hashed = await self.passwords.hash(new)

        def run(c: Connection) -> None:
            self._changed(c, who, user_id, password_hash=hashed, password_at=self.clock.ms())
            self.audit.record(c, who, "account.password", who.id)

        await self.db.write(run)
        await self._settle(who, user_id)

    async def totp_begin(self, who: Principal, password: str = "") -> Enrolment:
        """Begin to set up one-time codes; nothing changes until `totp_confirm`.

        Args:
            password: the current one; not needed within 15 minutes after signing in.

        Raises:
            Invalid: `password.current`.
        """
        user_id = _own(who)
        live = self.sessions.get(who.session)
        if live is None or self.clock.ms() - live.created_at > FRESH:
            await self._proven(user_id, password)
        pending = f"user:{user_id}:totp_new"

        def run(c: Connection) -> str:
            # the same secret until it is confirmed: a reload must not spoil what was just scanned
            secret = self.vault.open(c, TENANT, pending) or totp.new_secret()
            self.vault.seal(c, TENANT, pending, secret)
            return secret

        secret = await self.db.write(run)
        uri = totp.uri(secret, who.name, ISSUER)
        return Enrolment(uri=uri, svg=totp.picture(uri), grouped=totp.grouped(secret))

    async def totp_confirm(self, who: Principal, code: str) -> list[str]:
        """Switch one-time codes on with a first code. All other sessions end.

        Returns:
            Ten recovery codes; they are shown this once.

        Raises:
            Invalid: `code.empty`, `code.wrong` (field code). Conflict: `totp.not_begun`.
        """
        user_id = _own(who)
        if not code.strip():
            raise Invalid("code.empty", "code")
        recovery = totp.recovery_codes()

        def run(c: Connection) -> None:
            pending = f"user:{user_id}:totp_new"
            secret = self.vault.open(c, TENANT, pending)
            if secret is None:
                raise Conflict("totp.not_begun")
            step = totp.matching_step(secret, code, self.clock.ms(), 0)
            if step is None:
                raise Invalid("code.wrong", "code")
            self.vault.seal(c, TENANT, f"user:{user_id}:totp", secret)
            self.vault.remove(c, TENANT, pending)
            hashes = json.dumps([totp.recovery_hash(item) for item in recovery])
            self._changed(c, who, user_id, totp_secret="vault", totp_last_step=step, recovery_hashes=hashes)  # noqa: S106 - says where it is
            now = {"verified_at": self.clock.ms()}
            c.execute(update(session_t).where(session_t.c.id == who.session).values(**now))
            self.audit.record(c, who, "account.totp_on", who.id)

        await self.db.write(run)
        await self._settle(who, user_id)
        return recovery

    async def totp_remove(self, who: Principal, password: str, code: str) -> None:
        """Switch one-time codes off. All other sessions end.

        Raises:
            Invalid: `password.current`, `code.empty`, `code.wrong`, `code.used`.
        """
        user_id = _own(who)
        await self._proven(user_id, password)
        await self._count_code(user_id, code)

        def run(c: Connection) -> None:
            self._take(c, user_id, code)
            self.vault.remove(c, TENANT, f"user:{user_id}:totp")
            self._changed(c, who, user_id, totp_secret="", recovery_hashes="[]")
            self.audit.record(c, who, "account.totp_off", who.id)

        await self.db.write(run)
        await self._settle(who, user_id)

    async def recovery_renew(self, who: Principal, code: str) -> list[str]:
        """Replace all recovery codes; the old ones end.

        Raises:
            Invalid: `code.empty`, `code.wrong`, `code.used`.
        """
        user_id = _own(who)
        await self._count_code(user_id, code)
        recovery = totp.recovery_codes()

        def run(c: Connection) -> None:
            self._take(c, user_id, code)
            hashes = json.dumps([totp.recovery_hash(item) for item in recovery])
            c.execute(update(user_t).where(user_t.c.id == user_id).values(recovery_hashes=hashes))
            self.audit.record(c, who, "account.recovery", who.id)

        await self.db.write(run)
        return recovery

    async def list_sessions(self, who: Principal) -> list[SessionRow]:
        """The caller's live sessions, the last used first."""
        user_id, now = _own(who), self.clock.ms()
        query = (
            select(session_t)
            .where(session_t.c.user_id == user_id, session_t.c.revoked_at.is_(None), session_t.c.expires_at > now)
            .where(session_t.c.role != "challenge")
            .order_by(session_t.c.seen_at.desc())
            .limit(50)
        )
        rows = await self.db.read(lambda c: c.execute(query).all())
        return [self._row(row, who) for row in rows if row.id == who.session or self.sessions.alive(row.id)]

    def _row(self, row: Row[Any], who: Principal) -> SessionRow:
        live = self.sessions.get(row.id)
        return SessionRow(
            handle=row.id[:16],
            ip=row.ip,
            agent=row.agent,
            created_at=row.created_at,
            seen_at=row.seen_at if live is None else live.seen_at,
            verified=row.verified_at is not None,
            current=row.id == who.session,
        )

    async def revoke_session(self, who: Principal, handle: str) -> None:
        """End one of one's own sessions; its open pages stop within a second.

        Raises:
            NotFound: `session.gone`.
        """
        user_id = _own(who)
        if len(handle) < 12 or not handle.isalnum():
            raise NotFound("session.gone")

        def run(c: Connection) -> str:
            mine = (session_t.c.user_id == user_id, session_t.c.id.startswith(handle), session_t.c.revoked_at.is_(None))
            row = c.execute(select(session_t.c.id).where(*mine)).first()
            if row is None:
                raise NotFound("session.gone")
            c.execute(update(session_t).where(session_t.c.id == row.id).values(revoked_at=self.clock.ms()))
            self.audit.record(c, who, "session.revoke", handle[:12])
            return str(row.id)

        await self.sessions.revoke(await self.db.write(run))

    async def revoke_others(self, who: Principal) -> None:
        """End all of one's sessions but this one."""
        user_id = _own(who)

        def run(c: Connection) -> None:
            self.sessions.end_in(c, user_id=user_id, keep=who.session)
            self.audit.record(c, who, "session.revoke_others", who.id)

        await self.db.write(run)
        self.sessions.ended(user_id=user_id, keep=who.session)

    async def set_language(self, who: Principal, lang: str) -> None:
        """Choose the panel's language: `zh_CN`, `en`, or empty to let the browser decide."""
        await self._prefer(who, "lang", lang, ("", *LANGS))

    async def set_theme(self, who: Principal, theme: str) -> None:
        """Choose `auto`, `light` or `dark`."""
        await self._prefer(who, "theme", theme, THEMES)

    async def _prefer(self, who: Principal, column: str, value: str, allowed: tuple[str, ...]) -> None:
        user_id = _own(who)
        if value not in allowed:
            raise Invalid("account.choice", column)
        query = update(user_t).where(user_t.c.id == user_id).values({column: value})
        await self.db.write(lambda c: c.execute(query).rowcount)
        await self.sessions.refresh(user_id)

    async def _proven(self, user_id: int, password: str) -> Row[Any]:
        """The user's row, if the current password is right; tries are limited as at the login."""

        def count(c: Connection) -> Row[Any]:
            row = user_rows.get(c, user_id)
            self.guessing.attempt(c, by_account(row.name_key))
            return row

        if not password:
            raise Invalid("password.current_empty", "current")
        row = await self.db.write(count)
        if not await self.passwords.verify(password, row.password_hash):
            raise Invalid("password.current", "current")
        await self.db.write(lambda c: self.guessing.succeeded(c, by_account(row.name_key)))
        return row

    async def _count_code(self, user_id: int, code: str) -> None:
        """Count a try in a write of its own: a refusal undoes the write that it happens in."""
        if not code.strip():
            raise Invalid("code.empty", "code")
        await self.db.write(lambda c: self.guessing.attempt(c, by_account(f"code {user_id}")))

    def _take(self, c: Connection, user_id: int, code: str) -> None:
        try:
            self.sign_in.take_code(c, user_id, code)
            self.guessing.succeeded(c, by_account(f"code {user_id}"))
        except Unauthenticated as error:
            raise Invalid(error.code, "code") from error

    def _changed(self, c: Connection, who: Principal, user_id: int, **values: object) -> None:
        """Write new factors: the version rises, other sessions end, the caller's own goes along."""
        version = user_rows.get(c, user_id).version + 1
        c.execute(update(user_t).where(user_t.c.id == user_id).values(version=version, **values))
        self.sessions.end_in(c, user_id=user_id, keep=who.session)
        c.execute(update(session_t).where(session_t.c.id == who.session).values(version=version))

    async def _settle(self, who: Principal, user_id: int) -> None:
        self.sessions.ended(user_id=user_id, keep=who.session)
        await self.sessions.refresh(user_id)


def _own(who: Principal) -> int:
    """The caller's user id.

    Raises:
        Denied: for anybody but a person.
    """
    who.require("account.own")
    kind, _, number = who.id.partition(":")
    if kind != "user" or not number.isdigit():
        raise Denied("account.person")
    return int(number)
