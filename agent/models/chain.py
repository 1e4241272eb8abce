"""An answer from the first model of a chain that can give one, inside the tool loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from agent.models.base import Completed, ModelChoice, ModelEvent, ModelRequest
from agent.models.breaker import Breaker
from storage.clock import Clock
from storage.errors import AppError, Unavailable

PATIENCE = 8.0
RETRY_WITHIN = 4.0
LEAST = 1.0
AGAIN = frozenset({"model.broken", "model.empty"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Switched:
    """Another model takes over (or the same one begins anew): text streamed so far is void.

    Attributes:
        ref: who answers now.
        error_code: why the one before failed.
    """

    ref: str
    error_code: str


async def answer(
    chain: Sequence[ModelChoice], request: ModelRequest, *, clock: Clock, breaker: Breaker
) -> AsyncGenerator[ModelEvent | Switched, None]:
    """Stream an answer; the last event is `Completed`, with `model` set to the ref of who answered.

    While another model could take over, a model has `PATIENCE` seconds (or the choice's own `patience`) to say
    something and to go on; so the next one is reached within ten seconds. The last one has the request's own limits.
    A single model whose answer broke off is asked once more.

    Raises:
        AppError: of the last model that was tried; Unavailable `model.none` for an empty chain, `model.resting` if
            all have failed too often just now.
    """
    if not chain:
        raise Unavailable("model.none")
    loop = asyncio.get_running_loop()
    deadline = loop.time() + request.deadline
    waiting = [*chain, chain[0]] if len(chain) == 1 else list(chain)
    error: AppError | None = None
    while waiting:
        choice = waiting.pop(0)
        left = deadline - loop.time()
        if error is not None and (left < LEAST or not _helps(choice, chain, error)):
            continue
        if not breaker.admit(choice.provider):
            continue
        if error is not None:
            yield Switched(ref=choice.ref, error_code=error.code)
        verdict = False
        try:
            async with aclosing(choice.model.stream(_limited(request, choice, left, bool(waiting)))) as events:
                async for event in events:
                    yield replace(event, model=choice.ref) if type(event) is Completed else event
            verdict = True
            breaker.succeeded(choice.provider)
            return
        except AppError as failed:
            verdict = True
            breaker.failed(choice.provider, failed)
            error = failed
        finally:
            if not verdict:
                breaker.released(choice.provider)
    if error is not None:
        raise error
    seconds, code = min(breaker.resting(choice.provider) for choice in chain)
    raise Unavailable("model.resting", seconds=round(seconds) + 1, why=code)


def _limited(request: ModelRequest, choice: ModelChoice, left: float, more: bool) -> ModelRequest:
    """The request with the limits for this choice. `more`: another one could still take over."""
    if not more:
        return replace(request, deadline=left)
    patience = float(choice.extra.get("patience") or PATIENCE)
    return replace(
        request,
        deadline=left,
        first_token=min(request.first_token, patience),
        stall=min(request.stall, patience),
        retry_within=min(request.retry_within, RETRY_WITHIN),
    )


def _helps(choice: ModelChoice, chain: Sequence[ModelChoice], error: AppError) -> bool:
    """False where trying this one can only end in the same error."""
    if len(chain) == 1:
        return error.code in AGAIN
    if error.code == "model.context":
        smallest = min(item.model.context_tokens for item in chain)
        return choice.model.context_tokens > smallest
    return True
