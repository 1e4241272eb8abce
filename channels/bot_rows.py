"""Bots in the database, their secrets in the vault. Each function runs inside the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, select, update

from channels.access import access_t
from channels.bot_draft import BotDraft, fields_of, moved, need
from channels.history import forget
from channels.manifests import MANIFESTS
from channels.registry import bot_t, state_t
from storage.audit import Audit
from storage.clock import Clock
from storage.database import new_id
from storage.errors import Conflict, Invalid, NotFound
from storage.principal import Principal
from storage.vault import Vault

APPS = {("feishu", "websocket"): "app_id", ("dingtalk", "stream"): "client_id", ("wecom", "bot"): "bot_id"}
"""What names the app in modes with a long connection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A bot as it is kept, without its secrets."""

    id: int
    name: str
    type: str
    mode: str
    settings: dict[str, str]
    events: tuple[str, ...]
    model: str
    managed_by: str
    paused_at: int | None
    created_at: int

    def told(self) -> dict[str, object]:
        """For the audit log."""
        whole = {"type": self.type, "mode": self.mode, **self.settings, "events": list(self.events)}
        return {key: value for key, value in {**whole, "model": self.model}.items() if value}


@dataclass(frozen=True, kw_only=True, slots=True)
class BotRows:
    """Reads and changes the rows of bots."""

    vault: Vault
    audit: Audit
    clock: Clock

    def all(self, c: Connection, tenant: str) -> list[Kept]:
        """Every bot of a tenant, by name."""
        return [_kept(row) for row in c.execute(select(bot_t).where(bot_t.c.tenant == tenant).order_by(bot_t.c.name))]

    def find(self, c: Connection, tenant: str, name: str) -> Kept | None:
        """A bot, or None."""
        row = c.execute(select(bot_t).where(and_(bot_t.c.tenant == tenant, bot_t.c.name == name))).first()
        return None if row is None else _kept(row)

    def get(self, c: Connection, tenant: str, name: str) -> Kept:
        """A bot. Raises `NotFound`."""
        kept = self.find(c, tenant, name)
        if kept is None:
            raise NotFound("bot.unknown", name=name[:60])
        return kept

    def editable(self, c: Connection, tenant: str, name: str) -> Kept:
        """A bot that may be changed here. Raises `NotFound`; `Conflict` if a file manages it."""
        kept = self.get(c, tenant, name)
        if kept.managed_by:
            raise Conflict("bot.managed_by_file", file=kept.managed_by)
        return kept

    def tails(self, c: Connection, tenant: str, kept: Kept) -> dict[str, str]:
        """Names of the secrets that are kept, with their last characters."""
        found: dict[str, str] = {}
        for name in secret_fields(kept.type):
            tail = self.vault.tail(c, tenant, secret_name(kept.id, name))
            if tail is not None:
                found[name] = tail
        return found

    def secrets(self, c: Connection, tenant: str, kept: Kept) -> dict[str, str]:
        """The kept secrets, opened."""
        found: dict[str, str] = {}
        for name in secret_fields(kept.type):
            value = self.vault.open(c, tenant, secret_name(kept.id, name))
            if value is not None:
                found[name] = value
        return found

    def staying(self, c: Connection, tenant: str, kept: Kept, draft: BotDraft) -> frozenset[str]:
        """Names of the secrets that a draft leaves as they are.

        Raises:
            Invalid: `bot.secret_again`: an address moved to another host, and a secret that the mode needs was
                entered for the old one. Secrets that are not needed are forgotten then.
        """
        names = frozenset(self.tails(c, tenant, kept)) - frozenset(draft.secrets)
        if not names or not moved(kept.type, kept.settings, draft.settings):
            return names
        for spec in fields_of(draft.type, draft.mode):
            if spec.required and spec.name in names:
                raise Invalid("bot.secret_again", field=spec.name)
        return frozenset()

    def save(self, c: Connection, who: Principal, draft: BotDraft, *, create: bool) -> Kept:
        """Make or change a bot that the panel manages."""
        old = self.find(c, who.tenant, draft.name)
        self._alone(c, who.tenant, draft)
        if old is None:
            need(draft, frozenset())
            self._insert(c, who, draft, "")
            return self.get(c, who.tenant, draft.name)
        if create or old.type != draft.type:
            raise Conflict("bot.name_taken", name=draft.name)
        if old.managed_by:
            raise Conflict("bot.managed_by_file", file=old.managed_by)
        staying = self.staying(c, who.tenant, old, draft)
        need(draft, staying)
        self._update(c, who, old, draft, staying)
        return self.get(c, who.tenant, draft.name)

    def provide(self, c: Connection, who: Principal, draft: BotDraft, file: str) -> bool:
        """Bring a bot in line with its entry in a file. Returns True if anything changed."""
        old = self.find(c, who.tenant, draft.name)
        if old is not None and old.managed_by != file:
            raise Conflict("bot.name_taken", name=draft.name)
        if old is not None and old.type != draft.type:
            self.drop(c, who, old)
            old = None
        self._alone(c, who.tenant, draft)
        if old is None:
            self._insert(c, who, draft, file)
            return True
        return self._update(c, who, old, draft, frozenset())

    def drop(self, c: Connection, who: Principal, kept: Kept) -> None:
        """Remove a bot with its secrets, its state and its list of people. What was said stays."""
        for name in secret_fields(kept.type):
            self.vault.remove(c, who.tenant, secret_name(kept.id, name))
        c.execute(delete(access_t).where(access_t.c.bot_id == kept.id))
        c.execute(delete(state_t).where(state_t.c.bot_id == kept.id))
        forget(c, kept.id)
        c.execute(delete(bot_t).where(bot_t.c.id == kept.id))
        self.audit.record(c, who, "bot.remove", kept.name, before=kept.told())

    def pause(self, c: Connection, who: Principal, kept: Kept, *, paused: bool) -> bool:
        """Pause or resume. Returns False, and audits nothing, if that is so already."""
        if (kept.paused_at is not None) == paused:
            return False
        now = self.clock.ms()
        values = {"paused_at": now if paused else None, "updated_at": now}
        c.execute(update(bot_t).where(bot_t.c.id == kept.id).values(**values))
        self.audit.record(c, who, "bot.pause" if paused else "bot.resume", kept.name)
        return True

    # ---- inside

    def _alone(self, c: Connection, tenant: str, draft: BotDraft) -> None:
        """Refuse a second long connection of one app: the vendor would give each message to either of them.

        Raises:
            Invalid: `bot.same_app` with the other bot's name.
        """
        name = APPS.get((draft.type, draft.mode))
        if name is None or not draft.settings.get(name):
            return
        for other in self.all(c, tenant):
            same = (other.type, other.mode, other.settings.get(name)) == (draft.type, draft.mode, draft.settings[name])
            if same and other.name != draft.name:
                raise Invalid("bot.same_app", field=name, name=other.name)

    def _insert(self, c: Connection, who: Principal, draft: BotDraft, file: str) -> None:
        now = self.clock.ms()
        made = c.execute(
            insert(bot_t).values(
                tenant=who.tenant,
                name=draft.name,
                type=draft.type,
                mode=draft.mode,
                settings=_packed(draft.settings, draft.events or ()),
                managed_by=file,
                model=draft.model or "",
                created_at=now,
                updated_at=now,
            )
        )
        for name, value in draft.secrets.items():
            self.vault.seal(c, who.tenant, secret_name(new_id(made), name), value)
        after = self.get(c, who.tenant, draft.name).told() | {"secrets": sorted(draft.secrets)}
        self.audit.record(c, who, "bot.create", draft.name, after=after)

    def _update(self, c: Connection, who: Principal, old: Kept, draft: BotDraft, staying: frozenset[str]) -> bool:
        present = self.secrets(c, who.tenant, old)
        new = {name: value for name, value in draft.secrets.items() if present.get(name) != value}
        gone = sorted(set(present) - set(draft.secrets) - staying)
        events = old.events if draft.events is None else draft.events
        model = old.model if draft.model is None else draft.model
        same = (old.mode, old.settings, old.events, old.model) == (draft.mode, draft.settings, events, model)
        if same and not new and not gone:
            return False
        for name, value in new.items():
            self.vault.seal(c, who.tenant, secret_name(old.id, name), value)
        for name in gone:
            self.vault.remove(c, who.tenant, secret_name(old.id, name))
        changed: dict[str, object] = {
            "mode": draft.mode,
            "settings": _packed(draft.settings, events),
            "model": model,
            "updated_at": self.clock.ms(),
        }
        c.execute(update(bot_t).where(bot_t.c.id == old.id).values(**changed))
        after = self.get(c, who.tenant, draft.name).told()
        if new or gone:
            after |= {"secrets_replaced": sorted(new), "secrets_removed": gone}
        self.audit.record(c, who, "bot.update", draft.name, before=old.told(), after=after)
        return True


def secret_fields(type: str) -> list[str]:
    """Names of a type's secrets; none for a type that this version no longer knows."""
    manifest = MANIFESTS.get(type)
    return [spec.name for spec in manifest.fields if spec.kind == "secret"] if manifest is not None else []


def secret_name(bot: int, field: str) -> str:
    """Where the vault keeps a bot's secret."""
    return f"bot:{bot}:{field}"


def _packed(settings: Mapping[str, str], events: tuple[str, ...]) -> str:
    raw: dict[str, object] = dict(sorted(settings.items()))
    if events:
        raw["events"] = list(events)
    return json.dumps(raw, ensure_ascii=False)


def _kept(row: Row[Any]) -> Kept:
    raw: dict[str, Any] = json.loads(row.settings or "{}")
    events = raw.pop("events", [])
    return Kept(
        id=row.id,
        name=row.name,
        type=row.type,
        mode=row.mode,
        settings={key: str(value) for key, value in raw.items()},
        events=tuple(str(event) for event in events) if isinstance(events, list) else (),
        model=row.model,
        managed_by=row.managed_by,
        paused_at=row.paused_at,
        created_at=row.created_at,
    )
