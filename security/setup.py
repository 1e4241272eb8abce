"""The first run: a one-time code on the console, the first admin, and how far the wizard has come."""

from __future__ import annotations

import hmac
import json
import re
import secrets
import unicodedata
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from security import user_rows
from security.guessing import SETUP, SETUP_ALL, Guessing, Key, by_address
from security.passwords import Passwords
from security.sessions import Sessions
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.errors import Conflict, Denied, Invalid
from storage.principal import TENANT, Principal, principal
from storage.tables.system import Setting

setting_t = Setting.__table__  # type: ignore[attr-defined]
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # none that look alike
PROGRESS = "setup.progress"
STEPS = ("model", "bot", "finish")
STATES = ("done", "skipped")
RECHECK = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far the wizard has come: `done`, `skipped` or empty for each step."""

    model: str = ""
    bot: str = ""
    finish: str = ""

    @property
    def finished(self) -> bool:
        return self.finish == "done"


class Setup:
    """Lets in whoever holds the one-time code, until an admin exists.

    Args:
        fixed_code: the code from the settings; empty makes a random one at each start.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        audit: Audit,
        passwords: Passwords,
        guessing: Guessing,
        sessions: Sessions,
        *,
        fixed_code: str = "",
    ) -> None:
        self.db, self.clock, self.audit = db, clock, audit
        self.passwords, self.guessing, self.sessions = passwords, guessing, sessions
        self._fixed = fixed_code.strip()
        self._code = ""
        self._needed = True
        self._checked = -RECHECK

    async def start(self) -> str:
        """The one-time code to print on the console, or empty if an admin exists."""
        if not await self.needed():
            return ""
        self._code = self._fixed or _new_code()
        return self._code

    async def needed(self) -> bool:
        """True until an admin exists. Once false it stays so, and costs nothing."""
        now = self.clock.monotonic()
        if self._needed and now - self._checked >= RECHECK:
            self._checked = now
            self._needed = await self.db.read(user_rows.admins) == 0  # may be made by `create-admin` beside us
        return self._needed

    async def enter(self, code: str, *, ip: str, agent: str) -> tuple[str, str]:
        """Trade the one-time code for a short session of the role `setup`: its cookie value and id.

        Raises:
            Invalid: `setup.code.empty`, `setup.code.wrong`. Throttled: `login.locked`. Conflict: `setup.over`.
        """
        if not await self.needed() or not self._code:
            raise Conflict("setup.over")
        if not code.strip():
            raise Invalid("setup.code.empty", "code")
        keys = (by_address(ip, SETUP), Key(rule=SETUP_ALL, value=""))
        await self.db.write(lambda c: self.guessing.attempt(c, *keys))
        if not hmac.compare_digest(_plain(code).encode(), _plain(self._code).encode()):
            raise Invalid("setup.code.wrong", "code")

        def run(c: Connection) -> tuple[str, str]:
            self.guessing.succeeded(c, *keys)
            made = self.sessions.start(c, role="setup", user_id=None, ip=ip, agent=agent)
            self.audit.record(c, _stranger(ip), "setup.code", "setup")
            return made

        value, sid = await self.db.write(run)
        await self.sessions.admit(sid)
        return value, sid

    async def create_admin(
        self, who: Principal, *, name: str, password: str, again: str, ip: str, agent: str, lang: str = ""
    ) -> tuple[str, str]:
        """Create the first person, an owner, and sign them in: the cookie value and id of their session.

        Right: setup.run. The setup session ends.
        Raises: Denied; Invalid for `name`, `password` or `again`; Conflict `setup.over`.
        """
        who.require("setup.run")
        shown, _ = user_rows.read_name(name)
        await self.passwords.check(password, name=shown)
        if password != again:
            raise Invalid("password.differs", "again")
        hashed = await self.passwords.hash(password)

        def run(c: Connection) -> tuple[str, str]:
            if user_rows.admins(c):
                raise Conflict("setup.over")
            now = self.clock.ms()
            user_id = user_rows.add(c, name=name, role="owner", password_hash=hashed, now=now, lang=lang)
            owner = principal(id=f"user:{user_id}", name=shown, role="owner", ip=ip)
            self.audit.record(c, owner, "user.create", f"user:{user_id}", after={"name": shown, "role": "owner"})
            return self.sessions.start(c, role="owner", user_id=user_id, ip=ip, agent=agent)

        value, sid = await self.db.write(run)
        self._needed, self._code = False, ""
        await self.sessions.admit(sid)
        if who.session is not None:
            await self.sessions.revoke(who.session)
        return value, sid

    async def progress(self, who: Principal) -> Progress:
        """How far the wizard has come. Right: setting.manage."""
        who.require("setting.manage")
        text = await self.db.read(_stored)
        raw = json.loads(text) if text else {}
        return Progress(**{step: str(raw.get(step, "")) for step in STEPS})

    async def mark(self, who: Principal, step: str, state: str = "done") -> None:
        """Note that a step of the wizard is `done` or `skipped`. Right: setting.manage. Safe to repeat."""
        who.require("setting.manage")
        if step not in STEPS or state not in STATES:
            raise Denied("setup.step")

        def run(c: Connection) -> None:
            text = _stored(c)
            raw = {**(json.loads(text) if text else {}), step: state}
            c.execute(delete(setting_t).where(setting_t.c.tenant == TENANT, setting_t.c.key == PROGRESS))
            row = {"tenant": TENANT, "key": PROGRESS, "value": json.dumps(raw), "updated_at": self.clock.ms()}
            c.execute(insert(setting_t).values(**row))

        await self.db.write(run)


def _stored(c: Connection) -> str:
    query = select(setting_t.c.value).where(setting_t.c.tenant == TENANT, setting_t.c.key == PROGRESS)
    return str(c.execute(query).scalar() or "")


def _new_code() -> str:
    text = "".join(secrets.choice(LETTERS) for _ in range(12))  # 60 bits
    return "-".join(text[i : i + 4] for i in range(0, 12, 4))


def _plain(code: str) -> str:
    """What counts of a code: letters and digits, in any case, width and grouping."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", code[:200])).upper()


def _stranger(ip: str) -> Principal:
    return principal(id="setup", name="", role="setup", ip=ip)
