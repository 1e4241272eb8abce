"""What a person may do with inbound hooks. Pages and REST routes call the same functions."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, select, update

from channels.targets import address_of
from channels.webhook.proof import SCHEMES
from channels.webhook.receiver import Call, HookReceiver, bot_t, hook_t, parse
from channels.webhook.template import check, fill, find, shown
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database, new_id
from storage.errors import Conflict, Invalid, NotFound
from storage.principal import Principal
from storage.vault import Vault

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
TURNS = ("task", "message")
SHORTEST_SECRET = 16
MOST_SAMPLE = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class HookDraft:
    """A hook as a person fills it in.

    Attributes:
        template: text with `{{path.to.value}}` from the call's JSON.
        secret: empty keeps the present one, or makes one for a new hook.
    """

    name: str
    scheme: str = "hmac"
    turns: str = "task"
    template: str = ""
    id_path: str = ""
    bot: str = ""
    target: str = ""
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class HookRow:
    """A hook in a list. `secret` holds the last characters of its secret; `last` its last call, if any."""

    id: int
    name: str
    path: str
    scheme: str
    turns: str
    template: str
    id_path: str
    bot: str
    target: str
    secret: str
    paused: bool
    created_at: int
    last: Call | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HookSaved:
    """A saved hook. `secret` is set only if it was made just now: it is shown this once."""

    row: HookRow
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class TryOut:
    """What a sample would become. `missing` names paths that the sample does not have; `event` is its id."""

    turns: str
    text: str
    missing: tuple[str, ...]
    event: str


class HookActions:
    """Lists, saves and tries out hooks."""

    def __init__(self, db: Database, vault: Vault, audit: Audit, clock: Clock, receiver: HookReceiver) -> None:
        self.db, self.vault, self.audit, self.clock, self.receiver = db, vault, audit, clock, receiver

    async def list(self, who: Principal) -> list[HookRow]:
        """All hooks, by name. Right: bot.view."""
        who.require("bot.view")

        def fn(c: Connection) -> list[HookRow]:
            rows = c.execute(select(hook_t).where(hook_t.c.tenant == who.tenant).order_by(hook_t.c.name))
            return [self._row(c, row) for row in rows]

        return [self._with_last(row) for row in await self.db.read(fn)]

    async def calls(self, who: Principal, name: str) -> Sequence[Call]:
        """The last calls, newest first, refused ones too. Right: bot.view. Raises `NotFound`."""
        who.require("bot.view")
        await self.db.read(lambda c: _find(c, who, name))
        return self.receiver.calls(name)

    async def save(self, who: Principal, draft: HookDraft) -> HookSaved:
        """Make a hook, or change the one of this name. Right: bot.manage.

        Raises:
            Invalid: a field is wrong. Conflict: managed by a file, or the name is taken.
        """
        who.require("bot.manage")
        draft = _checked(draft)
        now, made_secret = self.clock.ms(), ""

        def fn(c: Connection) -> tuple[HookRow, str]:
            nonlocal made_secret
            _check_target(c, who, draft)
            old = c.execute(select(hook_t).where(hook_t.c.name == draft.name)).first()
            if old is not None and old.tenant != who.tenant:
                raise Conflict("hook.name_taken", name=draft.name)
            if old is not None and old.managed_by:
                raise Conflict("hook.managed_by_file", file=old.managed_by)
            values = {
                "scheme": draft.scheme,
                "turns": draft.turns,
                "template": draft.template,
                "id_path": draft.id_path,
                "bot": draft.bot,
                "target": draft.target,
                "updated_at": now,
            }
            if old is None:
                made = c.execute(
                    insert(hook_t),
                    {**values, "tenant": who.tenant, "name": draft.name, "managed_by": "", "created_at": now},
                )
                hook_id = new_id(made)
            else:
                hook_id = old.id
                c.execute(update(hook_t).where(hook_t.c.id == hook_id).values(**values))
            place = f"hook:{hook_id}:secret"
            if draft.secret:
                self.vault.seal(c, who.tenant, place, draft.secret)
            elif self.vault.tail(c, who.tenant, place) is None:
                made_secret = secrets.token_urlsafe(32)
                self.vault.seal(c, who.tenant, place, made_secret)
            row = self._row(c, c.execute(select(hook_t).where(hook_t.c.id == hook_id)).one())
            before = None if old is None else {name: getattr(old, name) for name in values if name != "updated_at"}
            after = {
                **{k: v for k, v in values.items() if k != "updated_at"},
                "new_secret": bool(draft.secret or made_secret),
            }
            self.audit.record(c, who, "hook.save", draft.name, before, after)
            return row, made_secret

        row, secret = await self.db.write(fn)
        return HookSaved(row=self._with_last(row), secret=secret)

    async def rotate(self, who: Principal, name: str) -> str:
        """Make a new secret and return it, this once. Calls with the old one are refused from now on.

        Right: bot.manage. Raises `NotFound`, `Conflict`.
        """
        who.require("bot.manage")
        secret = secrets.token_urlsafe(32)

        def fn(c: Connection) -> None:
            row = _own(c, who, name)
            self.vault.seal(c, who.tenant, f"hook:{row.id}:secret", secret)
            self.audit.record(c, who, "hook.rotate", name)

        await self.db.write(fn)
        return secret

    async def pause(self, who: Principal, name: str, *, paused: bool = True) -> None:
        """Refuse calls, or take them again. Right: bot.manage. Safe to repeat. Raises `NotFound`, `Conflict`."""
        who.require("bot.manage")
        now = self.clock.ms()

        def fn(c: Connection) -> None:
            row = _own(c, who, name)
            if (row.paused_at is not None) == paused:
                return
            c.execute(update(hook_t).where(hook_t.c.id == row.id).values(paused_at=now if paused else None))
            self.audit.record(c, who, "hook.pause" if paused else "hook.resume", name)

        await self.db.write(fn)

    async def remove(self, who: Principal, name: str) -> None:
        """Remove a hook and its secret. Right: bot.manage. Raises `NotFound`, `Conflict`."""
        who.require("bot.manage")

        def fn(c: Connection) -> None:
            row = _own(c, who, name)
            c.execute(delete(hook_t).where(hook_t.c.id == row.id))
            self.vault.remove(c, who.tenant, f"hook:{row.id}:secret")
            self.audit.record(c, who, "hook.remove", name, {"scheme": row.scheme, "bot": row.bot})

        await self.db.write(fn)
        self.receiver.forget(name)

    async def try_out(self, who: Principal, draft: HookDraft, sample: str) -> TryOut:
        """What a sample body would become. Nothing is stored or sent. Right: bot.manage. Raises `Invalid`."""
        who.require("bot.manage")
        if len(sample) > MOST_SAMPLE:
            raise Invalid("hook.sample_long", field="sample", most=MOST_SAMPLE)
        check(draft.template)
        document = parse(sample.encode("utf-8", "replace"))
        filled = fill(draft.template, document)
        there, event = find(document, draft.id_path) if draft.id_path else (False, None)
        missing = filled.missing if there or not draft.id_path else (*filled.missing, draft.id_path)
        return TryOut(turns=draft.turns, text=filled.text, missing=missing, event=shown(event) if there else "")

    def _with_last(self, row: HookRow) -> HookRow:
        calls = self.receiver.calls(row.name)
        return replace(row, last=calls[0]) if calls else row

    def _row(self, c: Connection, row: Row[Any]) -> HookRow:
        names = ("id", "name", "scheme", "turns", "template", "id_path", "bot", "target", "created_at")
        values = {name: getattr(row, name) for name in names}
        tail = self.vault.tail(c, row.tenant, f"hook:{values['id']}:secret") or ""
        paused = row.paused_at is not None
        return HookRow(**values, path=f"/hooks/{values['name']}", secret=tail, paused=paused)


def _find(c: Connection, who: Principal, name: str) -> Row[Any]:
    row = c.execute(select(hook_t).where(and_(hook_t.c.name == name, hook_t.c.tenant == who.tenant))).first()
    if row is None:
        raise NotFound("hook.unknown")
    return row


def _own(c: Connection, who: Principal, name: str) -> Row[Any]:
    """The hook, if it may be changed here."""
    row = _find(c, who, name)
    if row.managed_by:
        raise Conflict("hook.managed_by_file", file=row.managed_by)
    return row


def _checked(draft: HookDraft) -> HookDraft:
    """The draft without spaces around its values. Raises `Invalid` with the field."""
    draft = replace(
        draft,
        name=draft.name.strip(),
        id_path=draft.id_path.strip(),
        bot=draft.bot.strip(),
        target=draft.target.strip(),
        secret=draft.secret.strip(),
    )
    if not NAME.fullmatch(draft.name):
        raise Invalid("hook.name", field="name")
    if draft.scheme not in SCHEMES:
        raise Invalid("hook.scheme", field="scheme")
    if draft.turns not in TURNS:
        raise Invalid("hook.turns", field="turns")
    if draft.secret and len(draft.secret) < SHORTEST_SECRET:
        raise Invalid("hook.secret_short", field="secret", least=SHORTEST_SECRET)
    if draft.turns == "message" and not draft.bot:
        raise Invalid("hook.no_bot", field="bot")
    if len(draft.id_path) > 200:
        raise Invalid("hook.id_path", field="id_path")
    check(draft.template)
    return draft


def _check_target(c: Connection, who: Principal, draft: HookDraft) -> None:
    if not draft.bot:
        return
    found = c.execute(select(bot_t.c.type).where(and_(bot_t.c.tenant == who.tenant, bot_t.c.name == draft.bot))).first()
    if found is None:
        raise Invalid("hook.bot_gone", field="bot", bot=draft.bot)
    _ = address_of(found.type, draft.target)
