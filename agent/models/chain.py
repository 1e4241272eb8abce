"""An answer from the first model of a chain that can give one, inside the tool loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from agent.models.base import Completed, ModelChoice, ModelEvent, ModelRequest, Retracted, TextDelta, Thinking
from agent.models.breaker import Breaker
from agent.models.cache import AnswerCache
from agent.models.usage import Spending
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
        error_code: why the one before failed; empty where the same model goes on and what it said was a thought.
    """

    ref: str
    error_code: str


async def answer(
    chain: Sequence[ModelChoice],
    request: ModelRequest,
    *,
    clock: Clock,
    breaker: Breaker,
    spending: Spending | None = None,
    cache: AnswerCache | None = None,
) -> AsyncGenerator[ModelEvent | Switched, None]:
    """Stream an answer; the last event is `Completed`, with `model` set to the ref of who answered.

    While another model could take over, a model has `PATIENCE` seconds (or the choice's own `patience`) to say
    something and to go on; so the next one is reached within ten seconds. The last one has the request's own limits.
    A single model whose answer broke off is asked once more.

    Raises:
        AppError: of the last model that was tried; Unavailable `model.none` for an empty chain, `model.resting` if
            all have failed too often just now; Conflict `budget.bot`, `budget.person`.
    """
    if not chain:
        raise Unavailable("model.none")
    key = cache.key(chain, request) if cache is not None else None
    if cache is not None and (kept := cache.find(key)) is not None:
        if spending is not None and request.spender is not None:
            spending.cached(request.spender, chain[0])
        yield TextDelta(text=kept.text)
        yield kept
        return
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
        try:
            others = any(other is not choice for other in waiting)
            events = _attempt(choice, _limited(request, choice, left, others), breaker, spending)
            async with aclosing(events):
                async for event in events:
                    if cache is not None and type(event) is Completed:
                        cache.keep(key, event)
                    yield event
            return
        except AppError as failed:
            error = failed
    if error is not None:
        raise error
    seconds, code = min(breaker.resting(choice.provider) for choice in chain)
    raise Unavailable("model.resting", seconds=round(seconds) + 1, why=code)


async def _attempt(
    choice: ModelChoice, request: ModelRequest, breaker: Breaker, spending: Spending | None
) -> AsyncGenerator[ModelEvent | Switched, None]:
    """One model's answer; breaker and usage hear of it exactly once, however it ends."""
    ticket, chars, thoughts, outcome = None, 0, 0, "cancelled"
    settled = verdict = False
    try:
        if spending is not None:
            ticket = await spending.begin(choice, request)
            request = ticket.request if ticket is not None else request
        async with aclosing(choice.model.stream(request)) as events:
            async for event in events:
                if type(event) is Completed:
                    breaker.succeeded(choice.provider)
                    verdict = settled = True
                    if spending is not None:
                        spending.settle(ticket, event)
                    yield replace(event, model=choice.ref)
                    return
                if isinstance(event, Retracted):
                    yield Switched(ref=choice.ref, error_code="")
                    continue
                if type(event) is TextDelta:
                    chars += len(event.text)
                elif type(event) is Thinking:
                    thoughts = event.chars
                yield event
        raise Unavailable("model.broken", why="no end")
    except AppError as failed:
        outcome = failed.code
        if not verdict:
            breaker.failed(choice.provider, failed)
            verdict = True
        raise
    finally:
        if not verdict:
            breaker.released(choice.provider)
        if spending is not None and not settled:
            spending.failed(ticket, outcome, chars=chars + thoughts)


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
