"""The security room built whole, as app.py does, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pyotp

from security.account import AccountActions
from security.addresses import Addresses
from security.guessing import Guessing
from security.passwords import Passwords
from security.people import PeopleActions
from security.sessions import Live, Sessions
from security.setup import Setup
from security.sign_in import SignIn
from storage.audit import Audit
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.principal import TENANT, Principal
from storage.vault import Vault

GOOD = "kY7#mvQ2pLx9-tree"
OTHER = "Wq4!zzRt88-lamp"


@dataclass
class House:
    """All parts of the security room on one database and one clock."""

    db: SqliteDatabase
    clock: ManualClock
    fixed_code: str = ""

    def __post_init__(self) -> None:
        self.vault, self.audit = Vault(b"k" * 32, self.clock), Audit(self.clock, b"a" * 32)
        self.passwords, self.guessing = Passwords(), Guessing(self.clock)
        self.sessions = Sessions(self.db, self.clock)
        self.sign_in = SignIn(self.db, self.clock, self.vault, self.audit, self.passwords, self.guessing, self.sessions)
        self.addresses = Addresses(self.db, self.clock, self.audit)

    @cached_property
    def setup(self) -> Setup:
        return Setup(
            self.db,
            self.clock,
            self.audit,
            self.passwords,
            self.guessing,
            self.sessions,
            fixed_code=self.fixed_code,
        )

    @cached_property
    def account(self) -> AccountActions:
        return AccountActions(
            db=self.db,
            vault=self.vault,
            audit=self.audit,
            clock=self.clock,
            passwords=self.passwords,
            guessing=self.guessing,
            sessions=self.sessions,
            sign_in=self.sign_in,
        )

    @cached_property
    def people(self) -> PeopleActions:
        return PeopleActions(
            db=self.db,
            vault=self.vault,
            audit=self.audit,
            clock=self.clock,
            passwords=self.passwords,
            sessions=self.sessions,
        )

    async def owner(self, name: str = "anna", password: str = GOOD) -> tuple[str, Principal]:
        """The first admin: cookie value and who they are."""
        code = await self.setup.start()
        value, _ = await self.setup.enter(code, ip="127.0.0.1", agent="test")
        who = await self.who(value)
        value, _ = await self.setup.create_admin(
            who, name=name, password=password, again=password, ip="127.0.0.1", agent="test"
        )
        return value, await self.who(value)

    async def user(
        self, owner: Principal, name: str, role: str = "member", password: str = GOOD
    ) -> tuple[str, Principal]:
        """Another user, signed in."""
        await self.people.create(owner, name=name, role=role, password=GOOD)
        step = await self.sign_in.password(name, GOOD, ip="127.0.0.1", agent="test")
        return step.value, await self.who(step.value)

    async def live(self, value: str) -> Live | None:
        return await self.sessions.find(value)

    async def who(self, value: str) -> Principal:
        live = await self.sessions.find(value)
        assert live is not None
        return live.principal("127.0.0.1")

    async def enrol(self, who: Principal) -> tuple[pyotp.TOTP, list[str]]:
        """Switch one-time codes on; the authenticator and the recovery codes."""
        enrolment = await self.account.totp_begin(who, GOOD)
        app = pyotp.TOTP(enrolment.grouped.replace(" ", ""))
        return app, await self.account.totp_confirm(who, self.code(app))

    def code(self, app: pyotp.TOTP) -> str:
        return app.at(self.clock.ms() // 1000)

    async def secret(self, user_id: int) -> str | None:
        return await self.db.read(lambda c: self.vault.open(c, TENANT, f"user:{user_id}:totp"))
