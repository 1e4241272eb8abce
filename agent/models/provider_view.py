"""Providers as a page shows them: settings, the key's tail, how they have done lately."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, func, select

from agent.models.breaker import Breaker
from agent.models.provider import AUTO, ModelSpec, ProviderDraft
from agent.models.provider_rows import ProviderRows
from storage.tables.models import Usage

usage_t = Usage.__table__  # type: ignore[attr-defined]
DAY = 86_400_000
NEITHER = ("reserved", "cached")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderRow:
    """A provider for a page. The key itself is never part of it.

    Attributes:
        key_tail: last characters of the key (empty for a short one); None if none is kept.
        resting: seconds that the circuit breaker still leaves it alone, and `resting_code` why.
        first_token_ms, calls, failed: of the last 24 hours; None where nothing was measured.
        cost: CNY of the last 30 days.
    """

    draft: ProviderDraft
    refs: tuple[str, ...]
    key_tail: str | None
    managed_by: str
    place: int
    resting: float
    resting_code: str
    first_token_ms: int | None
    calls: int
    failed: int
    cost: float

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.draft.name

    @property
    def type(self) -> str:
        """Its protocol."""
        return self.draft.type


def ref_of(provider: str, kind: str, model: str) -> str:
    """A model's name for people: `provider/model`; the demo model is just its provider's name."""
    return provider if kind == "demo" else f"{provider}/{model}"


def provider_view(c: Connection, tenant: str, rows: ProviderRows, breaker: Breaker, now: int) -> list[ProviderRow]:
    """All providers in order, with their figures."""
    answered = and_(usage_t.c.at > now - DAY, usage_t.c.outcome == "ok")
    failed = and_(usage_t.c.at > now - DAY, usage_t.c.outcome.not_in(("ok", *NEITHER)))
    query = (
        select(
            usage_t.c.provider,
            func.sum(usage_t.c.cost).label("cost"),
            func.sum(case((answered, 1), else_=0)).label("answered"),
            func.sum(case((failed, 1), else_=0)).label("failed"),
            func.avg(case((answered, usage_t.c.first_token_ms))).label("first"),
        )
        .where(and_(usage_t.c.tenant == tenant, usage_t.c.at > now - 30 * DAY))
        .group_by(usage_t.c.provider)
    )
    figures = {row.provider: row for row in c.execute(query)}
    out: list[ProviderRow] = []
    for kept in rows.all(c, tenant):
        draft = kept.draft
        row = figures.get(draft.name)
        resting, code = breaker.resting(draft.name)
        models = draft.models or (ModelSpec(name=AUTO),)
        out.append(
            ProviderRow(
                draft=draft,
                refs=tuple(dict.fromkeys(ref_of(draft.name, draft.type, model.name) for model in models)),
                key_tail=rows.tail(c, tenant, kept),
                managed_by=kept.managed_by,
                place=kept.place,
                resting=resting,
                resting_code=code,
                first_token_ms=round(row.first) if row is not None and row.first is not None else None,
                calls=int(row.answered + row.failed) if row is not None else 0,
                failed=int(row.failed) if row is not None else 0,
                cost=float(row.cost or 0.0) if row is not None else 0.0,
            )
        )
    return out
