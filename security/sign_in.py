"""Signing in: password, then the one-time code where the account has one. The same answer for whoever is unknown."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection, Row, update

from security import user_rows
from security.guessing import CHALLENGE, Guessing, Key, by_account, by_address
from security.passwords import Passwords
from security.sessions import Live, Sessions
from security.totp import digits, matching_step, recovery_hash
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.errors import Conflict, Invalid, Unauthenticated
from storage.principal import TENANT, Principal, principal
from storage.vault import Vault

user_t = user_rows.user_t


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Where a login stands.

    Attributes:
        value: cookie value of the session, or of the pending second step.
        done: True if signed in; else the code is still missing.
        sid: the row's id.
    """

    value: str
    sid: str
    done: bool


class SignIn:
    """Checks factors and starts sessions. Owns no page and no cookie."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        vault: Vault,
        audit: Audit,
        passwords: Passwords,
        guessing: Guessing,
        sessions: Sessions,
    ) -> None:
        self.db, self.clock, self.vault, self.audit = db, clock, vault, audit
        self.passwords, self.guessing, self.sessions = passwords, guessing, sessions

    async def password(self, name: str, password: str, *, ip: str, agent: str, lang: str = "") -> Step:
        """First step. A wrong password and an unknown or disabled name get the same answer in the same time.

        Args:
            lang: language chosen on the form; kept where the account has none.

        Raises:
            Invalid: `login.name`, `login.password` (left empty). Unauthenticated: `login.wrong`.
            Throttled: `login.locked`, `login.busy`.
        """
        key = user_rows.name_key(name)
        if not key:
            raise Invalid("login.name", "name")
        if not password:
            raise Invalid("login.password", "password")
        counted = (by_account(key), by_address(ip))

        def count(c: Connection) -> Row[tuple[object, ...]] | None:
            self.guessing.attempt(c, *counted)
            return user_rows.find(c, key)

        row = await self.db.write(count)
        able = row is not None and row.disabled_at is None
        fits = await self.passwords.verify(password, row.password_hash if able and row is not None else "")
        if not fits or row is None:
            await self._failed(row, ip, "password")
            raise Unauthenticated("login.wrong")

        def begin(c: Connection) -> Step:
            if lang and not row.lang:
                c.execute(update(user_t).where(user_t.c.id == row.id).values(lang=lang))
            if row.totp_secret:
                # the tries stay counted until the code is right as well
                value, sid = self.sessions.start(c, role="challenge", user_id=row.id, ip=ip, agent=agent)
                return Step(value=value, sid=sid, done=False)
            return self._begin(c, row, counted, ip, agent, verified=False)

        step = await self.db.write(begin)
        await self.sessions.admit(step.sid)
        return step

    async def code(self, challenge: str, code: str, *, ip: str, agent: str) -> Step:
        """Second step: a code of the authenticator or a recovery code, each good for one use.

        Raises:
            Conflict: `login.expired` (begin again). Invalid: `code.empty`. Unauthenticated: `code.wrong`,
            `code.used`. Throttled: `login.locked`.
        """
        pending = await self.sessions.find_challenge(challenge)
        if pending is None or pending.user_id is None:
            raise Conflict("login.expired")
        if not code.strip():
            raise Invalid("code.empty", "code")
        tries = Key(rule=CHALLENGE, value=pending.id)
        row = await self.db.write(lambda c: self._count(c, pending, tries))
        counted = (by_account(row.name_key), by_address(ip), tries)

        def finish(c: Connection) -> Step:
            self.take_code(c, row.id, code)
            return self._begin(c, row, counted, ip, agent, verified=True)

        try:
            step = await self.db.write(finish)
        except Unauthenticated:
            await self._failed(row, ip, "code")
            raise
        await self.sessions.admit(step.sid)
        await self.sessions.revoke(pending.id)
        return step

    def _count(self, c: Connection, pending: Live, tries: Key) -> Row[tuple[object, ...]]:
        self.guessing.attempt(c, tries)
        assert pending.user_id is not None  # noqa: S101 - the caller looked
        return user_rows.get(c, pending.user_id)

    def take_code(self, c: Connection, user_id: int, code: str) -> None:
        """Use up a one-time or recovery code inside the caller's transaction.

        Raises:
            Unauthenticated: `code.wrong`, or `code.used` for a code that was right but is spent.
        """
        row = user_rows.get(c, user_id)
        if digits(code):
            secret = self.vault.open(c, TENANT, f"user:{user_id}:totp")
            step = None if secret is None else matching_step(secret, code, self.clock.ms(), row.totp_last_step)
            if step is None:
                spent = secret is not None and matching_step(secret, code, self.clock.ms(), 0) is not None
                raise Unauthenticated("code.used" if spent else "code.wrong")
            c.execute(update(user_t).where(user_t.c.id == user_id).values(totp_last_step=step))
            return
        left, used = json.loads(row.recovery_hashes or "[]"), recovery_hash(code)
        if used not in left:
            raise Unauthenticated("code.wrong")
        left.remove(used)
        c.execute(update(user_t).where(user_t.c.id == user_id).values(recovery_hashes=json.dumps(left)))

    def _begin(
        self,
        c: Connection,
        row: Row[tuple[object, ...]],
        counted: tuple[Key, ...],
        ip: str,
        agent: str,
        *,
        verified: bool,
    ) -> Step:
        self.guessing.succeeded(c, *counted)
        value, sid = self.sessions.start(c, role=row.role, user_id=row.id, ip=ip, agent=agent, verified=verified)
        who = principal(id=f"user:{row.id}", name=row.name, role=row.role, session=sid, ip=ip)
        self.audit.record(c, who, "login.ok", who.id, after={"factor": "code" if verified else "password"})
        return Step(value=value, sid=sid, done=True)

    async def _failed(self, row: Row[tuple[object, ...]] | None, ip: str, factor: str) -> None:
        """Note a failure, without what was typed as the name: it may be a password."""
        who = Principal(id="anonymous", tenant=TENANT, name="", role="", rights=frozenset(), ip=ip)
        target = "unknown" if row is None else f"user:{row.id}"
        what = {"factor": factor}
        await self.db.write(lambda c: self.audit.record(c, who, "login.fail", target, after=what, result="refused"))

    async def out(self, who: Principal) -> None:
        """Sign out: end this session. Safe to repeat."""
        if who.session is not None:
            await self.db.write(lambda c: self.audit.record(c, who, "login.out", who.id))
            await self.sessions.revoke(who.session)
