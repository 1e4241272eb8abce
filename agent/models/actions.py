"""What a person or an API key may do with model providers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from agent.models import preferences
from agent.models.breaker import Breaker
from agent.models.keys import Keys
from agent.models.presets import PRESETS, Preset
from agent.models.provider import AUTO, ModelSpec, ProviderDraft, checked, write_entry
from agent.models.provider_rows import ProviderRows, host_of, need_key
from agent.models.provider_view import ProviderRow, provider_view
from agent.models.router import ModelRouter
from agent.models.trial import TestResult, find_ollama, models_of, trial
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.errors import Conflict, Invalid, NotFound
from storage.principal import SYSTEM, Principal
from storage.vault import Vault
from storage.words import Words


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRef:
    """A model that can be chosen. `demo` is to be labelled wherever it is shown."""

    ref: str
    provider: str
    model: str
    demo: bool
    default: bool


class ModelActions:
    """Use cases of the Models page, the set-up, the API and `llm.yaml`."""

    def __init__(
        self,
        *,
        db: Database,
        vault: Vault,
        audit: Audit,
        clock: Clock,
        router: ModelRouter,
        breaker: Breaker,
        words: Words,
    ) -> None:
        self.db, self.clock, self.audit = db, clock, audit
        self.router, self.breaker, self.words = router, breaker, words
        self.rows = ProviderRows(vault=vault, audit=audit, clock=clock)

    # --- seen

    async def choices(self, who: Principal) -> list[ModelRef]:
        """Models that can be chosen for a conversation, in order. Right: chat.use."""
        who.require("chat.use")
        default = self.router.default(who.tenant)
        return [
            ModelRef(
                ref=item.ref,
                provider=item.provider,
                model=item.model.name,
                demo=item.demo,
                default=item.ref == default,
            )
            for item in self.router.choices(who.tenant)
        ]

    def presets(self) -> Sequence[Preset]:
        """Known services, domestic ones first."""
        return PRESETS

    async def list(self, who: Principal) -> Sequence[ProviderRow]:
        """Providers in order of fallback. Right: model.view."""
        who.require("model.view")
        now = self.clock.ms()
        return await self.db.read(lambda c: provider_view(c, who.tenant, self.rows, self.breaker, now))

    async def export(self, who: Principal) -> Sequence[dict[str, object]]:
        """Items for `providers:` of `llm.yaml`; keys stand as names of environment variables. Right: model.view."""
        return [write_entry(row.draft) for row in await self.list(who)]

    # --- changed

    async def save(self, who: Principal, draft: ProviderDraft, *, create: bool = False) -> ProviderRow:
        """Make or change a provider; calls from now on use it. Right: model.manage.

        Args:
            create: refuse if one of that name exists.

        Raises:
            Invalid: with the field; also `model.key_needed` where the address moved to another host, so that a kept
                key is never sent to a place that it was not entered for. Conflict: name taken, managed by a file.
        """
        who.require("model.manage")
        draft = checked(draft)
        await self.db.write(lambda c: self.rows.save(c, who, draft, create=create))
        await self.router.reload()
        now = self.clock.ms()
        view = await self.db.read(lambda c: provider_view(c, who.tenant, self.rows, self.breaker, now))
        row = next((row for row in view if row.name == draft.name), None)
        if row is None:  # removed by somebody else in between
            raise NotFound("model.absent", name=draft.name)
        return row

    async def remove(self, who: Principal, name: str) -> None:
        """Remove a provider and its keys. Right: model.manage. Running calls end as they are."""
        who.require("model.manage")
        await self.db.write(lambda c: self.rows.drop(c, who, self.rows.editable(c, who.tenant, name)))
        await self.router.reload()

    async def order(self, who: Principal, names: Sequence[str]) -> None:
        """Set the order of fallback. Right: model.manage. `names` are all providers, each once."""
        who.require("model.manage")
        await self.db.write(lambda c: self.rows.order(c, who, names))
        await self.router.reload()

    async def default(self, who: Principal, ref: str) -> None:
        """Choose the model that answers when none is asked for; empty: the first one. Right: model.manage."""
        who.require("model.manage")
        if ref and ref not in {choice.ref for choice in self.router.choices(who.tenant)}:
            raise NotFound("model.ref", ref=ref[:200])

        def act(c: Connection) -> None:
            before = preferences.read(c, who.tenant, preferences.DEFAULT)
            if before != (ref or None):
                preferences.write(c, who.tenant, preferences.DEFAULT, ref or None, self.clock.ms())
                self.audit.record(c, who, "model.default", ref or "first", before=before, after=ref or None)

        await self.db.write(act)
        await self.router.reload()

    async def price(self, who: Principal, ref: str, price_in: float, price_out: float) -> None:
        """Set what a model costs, in CNY for a million tokens. Right: model.manage."""
        who.require("model.manage")
        provider, _, model = ref.partition("/")

        def act(c: Connection) -> None:
            draft = self.rows.editable(c, who.tenant, provider).draft
            models = draft.models or (ModelSpec(name=AUTO),)
            if model not in {spec.name for spec in models}:
                raise NotFound("model.ref", ref=ref[:200])
            changed = tuple(
                replace(spec, price_in=price_in, price_out=price_out) if spec.name == model else spec for spec in models
            )
            self.rows.save(c, who, checked(replace(draft, models=changed)))

        await self.db.write(act)
        await self.router.reload()

    # --- tried out

    async def test(self, who: Principal, what: ProviderDraft | str, *, model: str = "") -> TestResult:
        """Really ask for one short answer. Right: model.manage. Repeating is safe and costs a few tokens.

        Args:
            what: a draft (without keys: the kept ones), or the name of a saved provider.
            model: which of its models; the first by default.
        """
        who.require("model.manage")
        draft = await self._complete(who, what)
        known = {spec.name: spec for spec in draft.models}
        first = draft.models[0] if draft.models else ModelSpec(name=AUTO)
        spec = known.get(model) or (ModelSpec(name=model) if model else first)
        keys = Keys(draft.keys or (), self.clock)
        prompt = self.words.say(who.lang, "model.test.prompt")
        return await trial(self.router.model(draft, spec, keys, retries=0), prompt)

    async def models(self, who: Principal, what: ProviderDraft | str) -> Sequence[str]:
        """The service's own list of models, for the form. Right: model.manage. Raises as a model call."""
        who.require("model.manage")
        return await models_of(self.router.egress, await self._complete(who, what))

    async def find_ollama(self, who: Principal) -> tuple[str, Sequence[str]] | None:
        """Address and models of an Ollama on this machine, or None. Right: model.manage. Two seconds at most."""
        who.require("model.manage")
        return await find_ollama(self.router.egress)

    async def _complete(self, who: Principal, what: ProviderDraft | str) -> ProviderDraft:
        """The draft with keys, ready for a call."""
        name = what if isinstance(what, str) else what.name.strip()

        def read(c: Connection) -> tuple[ProviderDraft, tuple[str, ...]] | None:
            kept = self.rows.find(c, who.tenant, name)
            return None if kept is None else (kept.draft, self.rows.keys(c, who.tenant, kept))

        kept = await self.db.read(read)
        if isinstance(what, str):
            if kept is None:
                raise NotFound("model.absent", name=name[:60])
            return replace(kept[0], keys=kept[1])
        draft = checked(what)
        if draft.keys is None and kept is not None:
            if kept[1] and host_of(draft) != host_of(kept[0]):
                raise Invalid("model.key_needed", field="keys")
            draft = replace(draft, keys=kept[1])
        need_key(draft, kept=False)
        return draft

    # --- provided by a file

    async def provision(self, source_file: str, entries: Sequence[ProviderDraft]) -> None:
        """Bring the providers of one file in line with it, whole or not at all. Safe to repeat.

        Entries that left the file are removed; those made in the panel stay as they are.

        Raises:
            Conflict: `model.name_taken`, a name is used twice, by the panel or by another file.
        """
        drafts = [checked(entry) for entry in entries]
        names = [draft.name for draft in drafts]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise Conflict("model.name_taken", name=twice)

        def act(c: Connection) -> bool:
            changed = False
            for kept in self.rows.all(c, SYSTEM.tenant):
                if kept.managed_by == source_file and kept.draft.name not in names:
                    self.rows.drop(c, SYSTEM, kept)
                    changed = True
                elif kept.draft.name in names and kept.managed_by != source_file:
                    raise Conflict("model.name_taken", name=kept.draft.name)
            for draft in drafts:
                changed = self.rows.save(c, SYSTEM, draft, file=source_file) or changed
            return changed

        if await self.db.write(act):
            await self.router.reload()
