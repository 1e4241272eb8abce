"""Trying a provider out: one short real answer, its list of models, an Ollama nearby."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agent.models.address import origin
from agent.models.base import ChatMessage, Completed, Model, ModelRequest
from agent.models.listing import list_url, listed
from agent.models.provider import ProviderDraft
from security.egress import Egress
from storage.errors import AppError

SECONDS = 30.0
TOKENS = 512
LOCAL_OLLAMA = ("http://127.0.0.1:11434", "http://host.docker.internal:11434")
OLLAMA_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TestResult:
    """What a test found.

    Attributes:
        code, params: of the error, if not `ok`: texts `error.<code>` and `error.<code>.remedy`.
    """

    __test__ = False  # not one of pytest's

    ok: bool
    model: str
    text: str = ""
    first_token_ms: int = 0
    total_ms: int = 0
    tokens_out: int = 0
    code: str = ""
    params: dict[str, object] = field(default_factory=dict)


async def trial(model: Model, prompt: str) -> TestResult:
    """Ask a model for one short answer, within 30 seconds."""
    request = ModelRequest(
        messages=(ChatMessage(role="user", text=prompt),),
        max_tokens=TOKENS,
        deadline=SECONDS,
        first_token=SECONDS,
        stall=SECONDS / 2,
    )
    done: Completed | None = None
    try:
        async for event in model.stream(request):
            if isinstance(event, Completed):
                done = event
    except AppError as error:
        return TestResult(ok=False, model=model.name, code=error.code, params=dict(error.params))
    if done is None:
        return TestResult(ok=False, model=model.name, code="model.broken")
    return TestResult(
        ok=True,
        model=done.model,
        text=done.text[:300],
        first_token_ms=done.first_token_ms,
        total_ms=done.total_ms,
        tokens_out=done.tokens_out,
    )


async def models_of(egress: Egress, draft: ProviderDraft) -> list[str]:
    """The service's own list of models. Raises as a model call."""
    if draft.type == "demo":
        return ["demo"]
    key = draft.keys[0] if draft.keys else ""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    if draft.type == "anthropic":
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return await listed(egress, list_url(draft), headers)


async def find_ollama(egress: Egress) -> tuple[str, list[str]] | None:
    """Address and models of an Ollama on this machine, or None."""

    async def probe(address: str) -> tuple[str, list[str]] | None:
        try:
            async with asyncio.timeout(OLLAMA_SECONDS):
                return address, await listed(egress, f"{origin(address)}/api/tags", {})
        except (AppError, TimeoutError):
            return None

    found = await asyncio.gather(*(probe(address) for address in LOCAL_OLLAMA))
    return next((item for item in found if item is not None), None)
