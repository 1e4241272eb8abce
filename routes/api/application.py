"""The API put together: every route, one form of error, one contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp

from agent.memory.actions import MemoryActions
from agent.models.actions import ModelActions
from agent.models.usage_actions import UsageActions
from agent.schedules.actions import ScheduleActions
from agent.talks import TalkActions
from agent.tasks import TaskActions
from agent.trace import TraceActions
from channels.actions import BotActions
from channels.messages import MessageActions
from routes.api.channels import channels_router
from routes.api.completions import completions_router
from routes.api.contract import contract, contract_router, methods_at
from routes.api.entrance import Entrance
from routes.api.keys import keys_router
from routes.api.memory import memory_router
from routes.api.messages import messages_router
from routes.api.models import models_router
from routes.api.operations import operations_router
from routes.api.problems import Problems
from routes.api.schedules import schedules_router
from routes.api.tasks import tasks_router
from routes.hot import Readiness
from security.audit_view import AuditActions
from security.bearer import Bearer
from security.checklist import ChecklistActions
from security.keys import KeyActions
from security.throttle import Rate
from security.tokens import Tokens
from storage.background import Background
from storage.clock import Clock
from storage.errors import AppError
from storage.principal import Principal
from storage.words import Words


@dataclass(frozen=True, kw_only=True, slots=True)
class Uses:
    """The use cases behind the routes. `load` says how many tasks wait and run now."""

    tasks: TaskActions
    talks: TalkActions
    messages: MessageActions
    schedules: ScheduleActions
    bots: BotActions
    models: ModelActions
    usage: UsageActions
    memory: MemoryActions | None
    trace: TraceActions
    checks: ChecklistActions[Any]
    audit: AuditActions
    keys: KeyActions
    tokens: Tokens
    readiness: Readiness
    load: Callable[[], tuple[int, int]]


def api_app(
    uses: Uses,
    *,
    bearer: Bearer,
    words: Words,
    clock: Clock,
    background: Background,
    rates: dict[str, Rate] | None = None,
) -> ASGIApp:
    """The whole API with its door."""
    problems = Problems(words)
    app = FastAPI(
        title="Zhixing API",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation,
        exception_handlers={
            AppError: problems.expected,
            HTTPException: problems.routing,
            RequestValidationError: problems.validation,
            Exception: problems.defect,
        },
    )

    async def alive(request: Request, who: Principal) -> bool:
        """Whether a caller who holds a stream open may still act."""
        try:
            now = await bearer.principal(request.headers.get("authorization", ""))
        except AppError:
            return False
        return now.id == who.id and now.may("chat.use")

    app.include_router(keys_router(uses.keys, uses.tokens))
    app.include_router(tasks_router(uses.tasks, alive))
    app.include_router(messages_router(uses.messages, uses.trace))
    app.include_router(schedules_router(uses.schedules, problems))
    app.include_router(channels_router(uses.bots, problems))
    app.include_router(models_router(uses.models, uses.usage, problems))
    if uses.memory is not None:
        app.include_router(memory_router(uses.memory))
    app.include_router(operations_router(uses.readiness, uses.checks, uses.audit, uses.trace, words, uses.load))
    app.include_router(completions_router(uses.tasks, uses.talks, uses.models, background))
    app.include_router(contract_router(app, words))
    app.openapi = lambda: contract(app)  # type: ignore[method-assign]
    problems.methods = lambda path: methods_at(app, path)
    return Entrance(app, bearer, problems, clock, rates=rates)


def _operation(route: APIRoute) -> str:
    tag = str(route.tags[0]) if route.tags else "api"
    return f"{tag}_{route.name.strip('_')}"
