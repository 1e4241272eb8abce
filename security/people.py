"""Users of the panel: who there is, with which role. One owner always remains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from security import user_rows
from security.passwords import Passwords
from security.sessions import Sessions, session_t
from security.step_up import StepUp
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.errors import Conflict, Denied, Invalid
from storage.principal import ROLES, TENANT, Principal
from storage.vault import Vault

user_t = user_rows.user_t
GIVEN_ROLES = ("owner", "admin", "operator", "auditor", "member")


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonRow:
    """A user as listed. `seen_at` is the last act of a kept session, 0 if none."""

    id: int
    name: str
    role: str
    totp: bool
    disabled: bool
    created_at: int
    password_at: int
    seen_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PeopleActions:
    """Right: people.view to look, people.manage to change; owner.manage where an owner is concerned.

    Nobody gives a role that holds more rights than their own. Each change ends the person's sessions at once, and
    wants a session that has just proved who it is (`step_up.needed`).
    """

    db: Database
    vault: Vault
    audit: Audit
    clock: Clock
    passwords: Passwords
    sessions: Sessions
    step_up: StepUp | None = None

    async def list(self, who: Principal) -> list[PersonRow]:
        """All users, by name."""
        who.require("people.view")
        rows = await self.db.read(_all)
        seen = await self.db.read(_seen)
        return [
            PersonRow(
                id=row.id,
                name=row.name,
                role=row.role,
                totp=bool(row.totp_secret),
                disabled=row.disabled_at is not None,
                created_at=row.created_at,
                password_at=row.password_at or row.created_at,
                seen_at=seen.get(row.id, 0),
            )
            for row in rows
        ]

    async def create(self, who: Principal, *, name: str, role: str, password: str, lang: str = "") -> int:
        """Add a user, who can sign in at once.

        Raises:
            Invalid: `name.*`, `password.*`, `role.unknown`. Denied.
        """
        _may_give(who, role)
        self._again(who)
        shown, _ = user_rows.read_name(name)
        await self.passwords.check(password, name=shown)
        hashed = await self.passwords.hash(password)

        def run(c: Connection) -> int:
            now = self.clock.ms()
            user_id = user_rows.add(c, name=name, role=role, password_hash=hashed, now=now, lang=lang)
            self.audit.record(c, who, "user.create", f"user:{user_id}", after={"name": shown, "role": role})
            return user_id

        return await self.db.write(run)

    async def set_role(self, who: Principal, user_id: int, role: str) -> None:
        """Give another role. Safe to repeat.

        Raises:
            Denied; NotFound; Conflict `user.last_owner`, `user.own_role`.
        """
        _may_give(who, role)
        self._again(who)

        def run(c: Connection) -> bool:
            row = self._other(c, who, user_id)
            if row.role == role:
                return False
            if row.role == "owner":
                user_rows.keep_an_owner(c, user_id)
            self._change(c, user_id, row.version, role=role)
            self.audit.record(c, who, "user.role", f"user:{user_id}", before={"role": row.role}, after={"role": role})
            return True

        await self._then(run, user_id)

    async def disable(self, who: Principal, user_id: int, *, disabled: bool = True) -> None:
        """Shut a user out, or let them in again. Safe to repeat.

        Raises:
            Denied; NotFound; Conflict `user.last_owner`, `user.own_role`.
        """
        who.require("people.manage")
        self._again(who)

        def run(c: Connection) -> bool:
            row = self._other(c, who, user_id)
            if (row.disabled_at is not None) == disabled:
                return False
            if disabled and row.role == "owner":
                user_rows.keep_an_owner(c, user_id)
            self._change(c, user_id, row.version, disabled_at=self.clock.ms() if disabled else None)
            self.audit.record(c, who, "user.disable" if disabled else "user.enable", f"user:{user_id}")
            return True

        await self._then(run, user_id)

    async def reset_password(self, who: Principal, user_id: int, password: str) -> None:
        """Give a user a new password.

        Raises:
            Invalid: `password.*`. Denied; NotFound; Conflict `user.own_role` (change one's own in Account).
        """
        who.require("people.manage")
        self._again(who)
        row = await self.db.read(lambda c: user_rows.get(c, user_id))
        await self.passwords.check(password, name=row.name)
        hashed = await self.passwords.hash(password)

        def run(c: Connection) -> bool:
            fresh = self._other(c, who, user_id)
            self._change(c, user_id, fresh.version, password_hash=hashed, password_at=self.clock.ms())
            self.audit.record(c, who, "user.password", f"user:{user_id}")
            return True

        await self._then(run, user_id)

    async def reset_totp(self, who: Principal, user_id: int) -> None:
        """Take away a user's one-time codes, e.g. after a lost phone. Safe to repeat.

        Raises:
            Denied; NotFound; Conflict `user.own_role`.
        """
        who.require("people.manage")
        self._again(who)

        def run(c: Connection) -> bool:
            row = self._other(c, who, user_id)
            if not row.totp_secret:
                return False
            self.vault.remove(c, TENANT, f"user:{user_id}:totp")
            self._change(c, user_id, row.version, totp_secret="", recovery_hashes="[]")
            self.audit.record(c, who, "user.totp_off", f"user:{user_id}")
            return True

        await self._then(run, user_id)

    async def revoke_sessions(self, who: Principal, user_id: int) -> None:
        """End all sessions of a user; their open pages stop within a second. Safe to repeat."""
        who.require("people.manage")

        def run(c: Connection) -> bool:
            self._other(c, who, user_id)
            self.sessions.end_in(c, user_id=user_id)
            self.audit.record(c, who, "user.sessions", f"user:{user_id}")
            return True

        await self._then(run, user_id)

    def _again(self, who: Principal) -> None:
        if self.step_up is not None:
            self.step_up.require(who)

    def _other(self, c: Connection, who: Principal, user_id: int) -> Row[Any]:
        """The row of another user, whom the caller may change."""
        row = user_rows.get(c, user_id)
        if who.id == f"user:{user_id}":
            raise Conflict("user.own_role")
        if row.role == "owner":
            who.require("owner.manage")
        return row

    def _change(self, c: Connection, user_id: int, version: int, **values: object) -> None:
        c.execute(update(user_t).where(user_t.c.id == user_id).values(version=version + 1, **values))
        self.sessions.end_in(c, user_id=user_id)

    async def _then(self, run: Any, user_id: int) -> None:
        if await self.db.write(run):
            self.sessions.ended(user_id=user_id)


def _may_give(who: Principal, role: str) -> None:
    who.require("people.manage")
    if role not in GIVEN_ROLES:
        raise Invalid("role.unknown", "role")
    if not ROLES[role] <= who.rights:
        raise Denied("role.too_high", role=role)


def _all(c: Connection) -> list[Row[Any]]:
    return list(c.execute(select(user_t).where(user_t.c.tenant == TENANT).order_by(user_t.c.name_key).limit(2000)))


def _seen(c: Connection) -> dict[int, int]:
    rows = c.execute(select(session_t.c.user_id, session_t.c.seen_at).order_by(session_t.c.seen_at)).all()
    return {row.user_id: row.seen_at for row in rows if row.user_id is not None}
