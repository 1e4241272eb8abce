"""Models by API: who answers, test, switch while running, what it has cost."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from agent.models.actions import ModelActions, ModelRef
from agent.models.limits import Limits
from agent.models.provider import ModelSpec, ProviderDraft
from agent.models.provider_view import ProviderRow
from agent.models.usage_actions import UsageActions, UsageSum
from routes.api.problems import Problems
from routes.api.terms import Body, Caller, Items, Name, Text
from storage.errors import AppError

Money = dict[Annotated[Text, Field(max_length=200)], Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class Provider(BaseModel):
    """A provider with its figures; of its key only the tail."""

    name: str
    type: str
    endpoint: str
    models: list[str]
    enabled: bool
    fallback: bool
    key_tail: str | None
    managed_by: str = Field(description="Name of the file that provides it; empty for the panel.")
    resting: float = Field(description="Seconds that the circuit breaker leaves it alone.")
    resting_code: str
    first_token_ms: int | None
    calls: int = Field(description="Of the last 24 hours.")
    failed: int = Field(description="Of the last 24 hours.")
    cost: float = Field(description="CNY of the last 30 days.")


class ProviderValues(Body):
    """A provider's settings. Keys that are left out stay as they are; none is ever given back."""

    type: Literal["openai", "anthropic", "ollama", "demo"] = "openai"
    preset: Text = Field(default="", max_length=60)
    endpoint: Text = Field(default="", max_length=2000)
    keys: list[Annotated[Text, Field(min_length=1, max_length=1000)]] | None = Field(default=None, max_length=20)
    models: list[Annotated[Text, Field(min_length=1, max_length=200)]] = Field(default_factory=list, max_length=100)
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    timeout: float = Field(default=0, ge=0, le=3600)
    fallback: bool = True
    enabled: bool = True


class ModelTest(Body):
    """Which of the provider's models to ask; empty: its first."""

    model: Text = Field(default="", max_length=200)


class ModelTested(BaseModel):
    """What a test found."""

    ok: bool
    model: str
    text: str
    first_token_ms: int
    total_ms: int
    code: str
    message: str
    remedy: str


class DefaultModel(Body):
    """The model that answers where none is asked for; empty: the first one."""

    ref: Text = Field(max_length=300)


class MonthlyLimits(Body):
    """CNY a month by bot and by person; the empty name is for all that are not named."""

    bots: Money = Field(default_factory=dict, max_length=1000)
    people: Money = Field(default_factory=dict, max_length=1000)


def models_router(models: ModelActions, usage: UsageActions, problems: Problems) -> APIRouter:
    """Routes below `/api/v1/models` and `/api/v1/usage`."""
    router = APIRouter(prefix="/api/v1")

    @router.get("/models", tags=["models"])
    async def providers(who: Caller) -> Items[Provider]:
        """Providers in order of fallback. Right: model.view."""
        return Items(items=[_shown(row) for row in await models.list(who)])

    @router.get("/models/choices", tags=["models"])
    async def choices(who: Caller) -> Items[ModelRef]:
        """Models that a task can ask for. Right: chat.use."""
        return Items(items=await models.choices(who))

    @router.put("/models/default", tags=["models"], status_code=204)
    async def default(who: Caller, body: DefaultModel) -> Response:
        """Choose the model that answers from now on; running tasks end as they began. Right: model.manage."""
        await models.default(who, body.ref)
        return Response(status_code=204)

    @router.put("/models/{name}", tags=["models"])
    async def save(who: Caller, name: Name, body: ProviderValues) -> Provider:
        """Make or change a provider; calls from now on use it. Right: model.manage."""
        values = body.model_dump(exclude={"keys", "models"})
        keys = None if body.keys is None else tuple(body.keys)
        kept = {spec.name: spec for row in await models.list(who) if row.name == name for spec in row.draft.models}
        specs = tuple(kept.get(one) or ModelSpec(name=one) for one in body.models)
        return _shown(await models.save(who, ProviderDraft(name=name, keys=keys, models=specs, **values)))

    @router.delete("/models/{name}", tags=["models"], status_code=204)
    async def remove(who: Caller, name: Name) -> Response:
        """Remove a provider and its keys. Right: model.manage."""
        await models.remove(who, name)
        return Response(status_code=204)

    @router.post("/models/{name}/test", tags=["models"])
    async def test(who: Caller, name: Name, body: ModelTest | None = None) -> ModelTested:
        """Really ask for one short answer; costs a few tokens. Right: model.manage."""
        found = await models.test(who, name, model=body.model if body else "")
        what, remedy = "", ""
        if found.code:
            what, remedy = problems.explain(who.lang, AppError(found.code, **found.params))
        return ModelTested(
            ok=found.ok,
            model=found.model,
            text=found.text,
            first_token_ms=found.first_token_ms,
            total_ms=found.total_ms,
            code=found.code,
            message=what,
            remedy=remedy,
        )

    @router.get("/usage", tags=["usage"])
    async def sums(
        who: Caller,
        by: Literal["model", "provider", "bot", "person", "job"] = "model",
        days: Annotated[int, Query(ge=1, le=400)] = 30,
    ) -> Items[UsageSum]:
        """Calls, tokens and cost, the most expensive first. Right: model.view."""
        return Items(items=list(await usage.usage(who, by, days=days)))

    @router.get("/usage/limits", tags=["usage"])
    async def limits(who: Caller) -> MonthlyLimits:
        """The monthly limits. Right: model.view."""
        found = await usage.limits(who)
        return MonthlyLimits(bots=dict(found.bots), people=dict(found.people))

    @router.put("/usage/limits", tags=["usage"])
    async def set_limits(who: Caller, body: MonthlyLimits) -> MonthlyLimits:
        """Set the monthly limits; the next call keeps to them. Right: model.manage."""
        await usage.set_limits(who, Limits(bots=body.bots, people=body.people))
        return body

    return router


def _shown(row: ProviderRow) -> Provider:
    return Provider(
        name=row.name,
        type=row.type,
        endpoint=row.draft.endpoint,
        models=list(row.refs),
        enabled=row.draft.enabled,
        fallback=row.draft.fallback,
        key_tail=row.key_tail,
        managed_by=row.managed_by,
        resting=row.resting,
        resting_code=row.resting_code,
        first_token_ms=row.first_token_ms,
        calls=row.calls,
        failed=row.failed,
        cost=row.cost,
    )
