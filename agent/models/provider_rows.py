"""Providers in the database: found, saved, removed, each act with its audit record in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from urllib.parse import urlsplit

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from agent.models import preferences
from agent.models.address import origin
from agent.models.presets import preset as preset_of
from agent.models.provider import ProviderDraft, packed, split_keys, unpacked
from storage.audit import Audit
from storage.clock import Clock
from storage.database import new_id
from storage.errors import Conflict, Invalid, NotFound
from storage.principal import Principal
from storage.tables.models import Provider
from storage.vault import Vault

provider_t = Provider.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A provider as it is kept."""

    id: int
    draft: ProviderDraft
    managed_by: str
    place: int
    disabled_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderRows:
    """All calls run inside a write or read of the database; nothing here checks rights."""

    vault: Vault
    audit: Audit
    clock: Clock

    def all(self, c: Connection, tenant: str) -> list[Kept]:
        """Providers in order of fallback, disabled ones too."""
        query = select(provider_t).where(provider_t.c.tenant == tenant)
        return [_kept(row) for row in c.execute(query.order_by(provider_t.c.place, provider_t.c.id))]

    def find(self, c: Connection, tenant: str, name: str) -> Kept | None:
        """The provider of that name."""
        row = c.execute(
            select(provider_t).where(and_(provider_t.c.tenant == tenant, provider_t.c.name == name))
        ).first()
        return None if row is None else _kept(row)

    def editable(self, c: Connection, tenant: str, name: str) -> Kept:
        """The provider, if it may be changed in the panel.

        Raises:
            NotFound; Conflict: it is managed by a file.
        """
        kept = self.find(c, tenant, name)
        if kept is None:
            raise NotFound("model.absent", name=name[:60])
        if kept.managed_by:
            raise Conflict("model.managed_by_file", file=kept.managed_by)
        return kept

    def keys(self, c: Connection, tenant: str, kept: Kept) -> tuple[str, ...]:
        """Its keys, opened."""
        return split_keys(self.vault.open(c, tenant, _secret(kept.id)) or "")

    def tail(self, c: Connection, tenant: str, kept: Kept) -> str | None:
        """The last characters of its key; None if it has none."""
        return self.vault.tail(c, tenant, _secret(kept.id))

    def save(
        self, c: Connection, who: Principal, draft: ProviderDraft, *, create: bool = False, file: str = ""
    ) -> bool:
        """Insert or update. True if anything changed.

        Raises:
            Invalid: `model.key_needed`. Conflict: name taken, or managed by another file or by the panel.
        """
        kept = self.find(c, who.tenant, draft.name)
        if kept is None:
            self._insert(c, who, draft, file)
            return True
        if create:
            raise Conflict("model.name_taken", name=draft.name)
        if kept.managed_by != file:
            raise Conflict("model.managed_by_file", file=kept.managed_by)
        return self._update(c, who, kept, draft)

    def drop(self, c: Connection, who: Principal, kept: Kept) -> None:
        """Remove it with its keys; a default that pointed to it falls back to the first provider."""
        c.execute(delete(provider_t).where(provider_t.c.id == kept.id))
        self.vault.remove(c, who.tenant, _secret(kept.id))
        default = preferences.read(c, who.tenant, preferences.DEFAULT)
        if isinstance(default, str) and default.partition("/")[0] == kept.draft.name:
            preferences.write(c, who.tenant, preferences.DEFAULT, None, self.clock.ms())
        self.audit.record(c, who, "model.remove", kept.draft.name, before=_told(kept.draft))

    def order(self, c: Connection, who: Principal, names: Sequence[str]) -> None:
        """Set the places. Raises Invalid `model.order` unless all are named once."""
        known = [kept.draft.name for kept in self.all(c, who.tenant)]
        if sorted(known) != sorted(names):
            raise Invalid("model.order", field="names")
        if known == list(names):
            return
        now = self.clock.ms()
        for place, name in enumerate(names):
            row = and_(provider_t.c.tenant == who.tenant, provider_t.c.name == name)
            c.execute(update(provider_t).where(row).values(place=place, updated_at=now))
        self.audit.record(c, who, "model.order", "providers", before=known, after=list(names))

    def _insert(self, c: Connection, who: Principal, draft: ProviderDraft, file: str) -> None:
        need_key(draft, kept=False)
        now = self.clock.ms()
        last = c.execute(select(func.max(provider_t.c.place)).where(provider_t.c.tenant == who.tenant)).scalar()
        made = c.execute(
            insert(provider_t).values(
                tenant=who.tenant,
                name=draft.name,
                **packed(draft),
                place=(last if last is not None else -1) + 1,
                managed_by=file,
                disabled_at=None if draft.enabled else now,
                created_at=now,
                updated_at=now,
            )
        )
        if draft.keys:
            self.vault.seal(c, who.tenant, _secret(new_id(made)), "\n".join(draft.keys))
        self.audit.record(c, who, "model.create", draft.name, after=_told(draft))

    def _update(self, c: Connection, who: Principal, kept: Kept, draft: ProviderDraft) -> bool:
        now, old, secret = self.clock.ms(), kept.draft, _secret(kept.id)
        has_key = self.vault.tail(c, who.tenant, secret) is not None
        if draft.keys is None and has_key and host_of(draft) != host_of(old):
            raise Invalid("model.key_needed", field="keys")
        need_key(draft, kept=has_key)
        new_keys = draft.keys is not None and draft.keys != self.keys(c, who.tenant, kept)
        if not new_keys and replace(old, keys=draft.keys) == draft:
            return False
        disabled = None if draft.enabled else (kept.disabled_at or now)
        changed = {**packed(draft), "disabled_at": disabled, "updated_at": now}
        c.execute(update(provider_t).where(provider_t.c.id == kept.id).values(changed))
        if new_keys and draft.keys:
            self.vault.seal(c, who.tenant, secret, "\n".join(draft.keys))
        elif new_keys:
            self.vault.remove(c, who.tenant, secret)
        after = _told(draft) | ({"keys": "replaced"} if new_keys else {})
        self.audit.record(c, who, "model.update", draft.name, before=_told(old), after=after)
        return True


def _kept(row: object) -> Kept:
    return Kept(
        id=row.id,  # type: ignore[attr-defined]
        draft=unpacked(row),
        managed_by=row.managed_by,  # type: ignore[attr-defined]
        place=row.place,  # type: ignore[attr-defined]
        disabled_at=row.disabled_at,  # type: ignore[attr-defined]
    )


def _secret(provider: int) -> str:
    return f"provider:{provider}:key"


def host_of(draft: ProviderDraft) -> str:
    """Host and port that a draft's keys are sent to."""
    return urlsplit(origin(draft.endpoint)).netloc if draft.type != "demo" else ""


def need_key(draft: ProviderDraft, *, kept: bool) -> None:
    """Refuse a service that is known to need a key and has none.

    Args:
        kept: there is one already that the draft leaves as it is.
    """
    known = preset_of(draft.preset)
    if known is not None and known.key == "needed" and not draft.keys and not (kept and draft.keys is None):
        raise Invalid("model.key_needed", field="keys")


def _told(draft: ProviderDraft) -> dict[str, object]:
    """A draft for the audit log: everything but keys."""
    return {k: v for k, v in asdict(replace(draft, keys=None)).items() if v not in (None, "", (), 0.0)}
