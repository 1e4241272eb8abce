"""Decides which model answers: a snapshot in memory, read anew whenever providers change. Nothing restarts.

A call that runs keeps the model that it began with; the next one sees the new snapshot.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, func, select

from agent.models import preferences
from agent.models.address import chat_url, messages_url
from agent.models.anthropic import AnthropicWire
from agent.models.base import Model, ModelChoice
from agent.models.call import CallSettings, HttpModel, Wire
from agent.models.demo import DemoModel
from agent.models.keys import Keys
from agent.models.limits import Limits, read_limits
from agent.models.listing import AutoModel, list_url
from agent.models.openai import OpenAIWire
from agent.models.provider import AUTO, ModelSpec, ProviderDraft, split_keys, unpacked
from agent.models.provider_rows import provider_t
from agent.models.provider_view import ref_of
from security.egress import Egress
from storage.clock import Clock
from storage.database import Database
from storage.errors import AppError
from storage.tables.system import Setting
from storage.vault import Vault
from storage.words import Words

log = logging.getLogger(__name__)
setting_t = Setting.__table__  # type: ignore[attr-defined]
CONTEXT = 32_000
CHOSEN = (preferences.DEFAULT, preferences.LIMITS, preferences.CACHE)
_Chosen = dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A provider as read: what its choices were built from."""

    id: int
    draft: ProviderDraft
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Tenant:
    """One tenant's choices, in order of fallback."""

    by_ref: dict[str, ModelChoice] = field(default_factory=dict)
    first: tuple[ModelChoice, ...] = ()
    default: str = ""
    limits: Limits = field(default_factory=Limits)
    cache: bool = False


def _best(first: tuple[ModelChoice, ...]) -> ModelChoice | None:
    """The first real model, else the demo, else none."""
    return next((choice for choice in first if not choice.demo), first[0] if first else None)


class ModelRouter:
    """Implements `base.Router`. `reload` after each change; `refresh` now and then where processes share a database."""

    def __init__(
        self, *, db: Database, vault: Vault, egress: Egress, clock: Clock, words: Words, pace: float = 0.012
    ) -> None:
        self.db, self.vault, self.egress, self.clock = db, vault, egress, clock
        self.demo = DemoModel(words, pace=pace)
        self._tenants: dict[str, _Tenant] = {}
        self._built: dict[tuple[str, str], tuple[_Kept, list[ModelChoice]]] = {}
        self._seen: object = None

    def chain(self, tenant: str, wanted: str = "") -> list[ModelChoice]:
        """See `base.Router`. A wanted model that is gone counts as not wanted."""
        known = self._tenants.get(tenant) or _Tenant()
        start = known.by_ref.get(wanted) or known.by_ref.get(known.default) or _best(known.first)
        if start is None or start.demo:
            return [] if start is None else [start]
        out = [start]
        if (default := known.by_ref.get(known.default)) is not None and default not in out:
            out.append(default)
        # a demo never stands in for a real model
        out += [c for c in known.first if c.extra.get("fallback") and not c.demo and c not in out]
        return [c for c in out if not c.demo]

    def choices(self, tenant: str) -> list[ModelChoice]:
        """All models that can be chosen, in order."""
        return list((self._tenants.get(tenant) or _Tenant()).by_ref.values())

    def default(self, tenant: str) -> str:
        """The ref of the model that answers when none is wanted; empty if there is none."""
        chain = self.chain(tenant)
        return chain[0].ref if chain else ""

    def limits(self, tenant: str) -> Limits:
        """The tenant's monthly limits."""
        return (self._tenants.get(tenant) or _Tenant()).limits

    def caches(self, tenant: str) -> bool:
        """Whether the tenant wants answers to identical requests kept."""
        return (self._tenants.get(tenant) or _Tenant()).cache

    async def reload(self) -> None:
        """Read all providers. Models whose rows did not change are kept, with what they have learned."""
        seen, rows, chosen = await self.db.read(self._read)
        tenants: dict[str, list[tuple[_Kept, list[ModelChoice]]]] = {}
        built: dict[tuple[str, str], tuple[_Kept, list[ModelChoice]]] = {}
        for tenant, kept in rows:
            slot = (tenant, kept.draft.name)
            old = self._built.get(slot)
            try:
                built[slot] = old if old is not None and old[0] == kept else (kept, self._choices(kept))
            except AppError as error:  # one bad row must not take the others away
                log.error("provider %s cannot be used: %s", kept.draft.name, error)  # noqa: TRY400 - expected
                continue
            tenants.setdefault(tenant, []).append(built[slot])
        self._built, self._seen = built, seen
        self._tenants = {
            tenant: _Tenant(
                by_ref={choice.ref: choice for _, made in entries for choice in made},
                first=tuple(made[0] for _, made in entries if made),
                default=str(chosen[tenant][preferences.DEFAULT] or ""),
                limits=read_limits(chosen[tenant][preferences.LIMITS]),
                cache=chosen[tenant][preferences.CACHE] is True,
            )
            for tenant, entries in tenants.items()
        }

    async def refresh(self) -> bool:
        """Reload if another process changed something. True if it did."""
        if await self.db.read(self._mark) == self._seen:
            return False
        await self.reload()
        return True

    # --- reading

    def _mark(self, c: Connection) -> object:
        rows = tuple(
            c.execute(select(func.count(), func.max(provider_t.c.updated_at), func.max(provider_t.c.id))).one()
        )
        chosen = c.execute(
            select(setting_t.c.tenant, setting_t.c.key, setting_t.c.value)
            .where(setting_t.c.key.in_(CHOSEN))
            .order_by(setting_t.c.tenant, setting_t.c.key)
        )
        return rows, tuple(tuple(row) for row in chosen)

    def _read(self, c: Connection) -> tuple[object, list[tuple[str, _Kept]], _Chosen]:
        out: list[tuple[str, _Kept]] = []
        query = select(provider_t).where(provider_t.c.disabled_at.is_(None))
        for row in c.execute(query.order_by(provider_t.c.tenant, provider_t.c.place, provider_t.c.id)):
            try:
                keys = split_keys(self.vault.open(c, row.tenant, f"provider:{row.id}:key") or "")
            except AppError as error:
                log.error("key of provider %s cannot be read: %s", row.name, error)  # noqa: TRY400 - expected
                keys = ()
            out.append((row.tenant, _Kept(row.id, unpacked(row), keys)))
        tenants = {tenant for tenant, _ in out}
        chosen = {tenant: {key: preferences.read(c, tenant, key) for key in CHOSEN} for tenant in tenants}
        return self._mark(c), out, chosen

    # --- building

    def _choices(self, kept: _Kept) -> list[ModelChoice]:
        draft = kept.draft
        keys = Keys(kept.keys, self.clock)
        specs = draft.models or (ModelSpec(name=AUTO),)
        extra = {"fallback": "1"} if draft.fallback else {}
        if draft.patience:
            extra["patience"] = str(draft.patience)
        if draft.max_tokens:
            extra["max_tokens"] = str(draft.max_tokens)
        return [
            ModelChoice(
                ref=ref_of(draft.name, draft.type, spec.name),
                provider=draft.name,
                model=self.model(draft, spec, keys),
                demo=draft.type == "demo",
                price_in=spec.price_in,
                price_out=spec.price_out,
                extra=extra,
            )
            for spec in (specs[:1] if draft.type == "demo" else specs)
        ]

    def model(self, draft: ProviderDraft, spec: ModelSpec, keys: Keys, *, retries: int | None = None) -> Model:
        """A callable model. `retries` None: the usual number.

        Raises:
            Invalid: the address cannot be used.
        """
        if draft.type == "demo":
            return self.demo
        settings = CallSettings(temperature=draft.temperature, max_tokens=draft.max_tokens, timeout=draft.timeout)
        if retries is not None:
            settings = replace(settings, retries=retries)
        url = messages_url(draft.endpoint) if draft.type == "anthropic" else chat_url(draft.endpoint)

        def make(name: str) -> HttpModel:
            kind = AnthropicWire if draft.type == "anthropic" else OpenAIWire
            wire: Wire = kind(url=url, model=name)
            return HttpModel(
                name=name,
                wire=wire,
                keys=keys,
                egress=self.egress,
                clock=self.clock,
                context_tokens=spec.context or CONTEXT,
                settings=settings,
            )

        if spec.name != AUTO:
            return make(spec.name)
        return AutoModel(make=make, url=list_url(draft), otherwise=draft.name, egress=self.egress, clock=self.clock)
