"""Asking again who it is, before an act that could hurt: a session that was left open must not be enough for it."""

from __future__ import annotations

from sqlalchemy import Connection, Row, update

from security import user_rows
from security.guessing import Guessing, by_account
from security.passwords import Passwords
from security.sessions import Sessions, session_t
from security.sign_in import SignIn
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.errors import Denied, Invalid, Unauthenticated
from storage.principal import Principal

FRESH = 5 * 60_000
NEEDED = "step_up.needed"


class StepUp:
    """Knows when each session last proved who it is: at sign-in, or since.

    A proof holds for five minutes. Password, and the one-time code where the account has one.
    """

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        audit: Audit,
        passwords: Passwords,
        guessing: Guessing,
        sessions: Sessions,
        sign_in: SignIn,
    ) -> None:
        self.db, self.clock, self.audit = db, clock, audit
        self.passwords, self.guessing = passwords, guessing
        self.sessions, self.sign_in = sessions, sign_in
        self._proved: dict[str, int] = {}
        sessions.on_end(self._ended)

    def _ended(self, sid: str) -> None:
        self._proved.pop(sid, None)

    def require(self, who: Principal) -> None:
        """Call it in a use case, after its right.

        Who is no person (the console, an API key) has no second factor to ask for: their rights decide alone.

        Raises:
            Denied: `step_up.needed`; the panel asks and tries again.
        """
        if who.session is not None and not self.fresh(who):
            raise Denied(NEEDED)

    def fresh(self, who: Principal) -> bool:
        """True if the session proved who it is in the last five minutes."""
        live = self.sessions.get(who.session)
        if live is None:
            return False
        last = max(live.created_at, live.verified_at or 0, self._proved.get(live.id, 0))
        return 0 <= self.clock.ms() - last < FRESH

    async def wants_code(self, who: Principal) -> bool:
        """True if the account has one-time codes."""
        row = await self.db.read(lambda c: user_rows.get(c, _own(who)))
        return bool(row.totp_secret)

    async def prove(self, who: Principal, password: str, code: str = "") -> None:
        """Prove it now. Tries are counted as at the login.

        Raises:
            Invalid: `password.current_empty`, `password.current` (field password); `code.empty`, `code.wrong`,
                `code.used` (field code). Throttled: `login.locked`.
        """
        user_id = _own(who)
        live = self.sessions.get(who.session)
        if live is None:
            raise Denied("step_up.person")
        if not password:
            raise Invalid("password.current_empty", "password")

        def count(c: Connection) -> Row[tuple[object, ...]]:
            row = user_rows.get(c, user_id)
            self.guessing.attempt(c, by_account(row.name_key))
            return row

        row = await self.db.write(count)
        if not await self.passwords.verify(password, row.password_hash):
            raise Invalid("password.current", "password")
        if row.totp_secret and not code.strip():
            raise Invalid("code.empty", "code")
        now = self.clock.ms()

        def take(c: Connection) -> None:
            if row.totp_secret:
                self.sign_in.take_code(c, user_id, code)
                c.execute(update(session_t).where(session_t.c.id == who.session).values(verified_at=now))
            self.guessing.succeeded(c, by_account(row.name_key))
            self.audit.record(c, who, "session.verify", who.id, after={"code": bool(row.totp_secret)})

        try:
            await self.db.write(take)
        except Unauthenticated as error:
            raise Invalid(error.code, "code") from error
        if row.totp_secret:
            live.verified_at = now
        self._proved[live.id] = now


def _own(who: Principal) -> int:
    kind, _, number = who.id.partition(":")
    if kind != "user" or not number.isdigit():
        raise Denied("step_up.person")
    return int(number)
