"""Which models a service has: its own list, and the first one where an admin named none."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace

import orjson

from agent.models.address import messages_url, models_url
from agent.models.base import ModelEvent, ModelRequest, Retracted
from agent.models.call import HttpModel
from agent.models.provider import ProviderDraft
from agent.models.refusal import outside, refusal
from security.egress import ADMIN, Egress
from storage.clock import Clock
from storage.errors import AppError, Rejected

MOST = 500
NOT_FOR_CHAT = re.compile(r"embed|rerank|whisper|tts|asr|speech|image|vision-ocr|moderation|dall|sora|audio", re.I)
LIST_SECONDS = 8.0
AGAIN = 300.0


def list_url(draft: ProviderDraft) -> str:
    """Where a service lists its models."""
    if draft.type == "anthropic":
        return messages_url(draft.endpoint).removesuffix("/messages") + "/models"
    return models_url(draft.endpoint)


async def listed(egress: Egress, url: str, headers: Mapping[str, str]) -> list[str]:
    """Names of the models that a service offers for chats, in its order.

    Raises:
        AppError: as `base.Model`.
    """
    try:
        answer = await egress.request("GET", url, policy=replace(ADMIN, seconds=LIST_SECONDS), headers=headers)
    except AppError as error:
        raise outside(error) from error
    try:
        body = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        body = None
    if answer.status_code != 200:
        raise refusal(answer.status_code, body)
    if not isinstance(body, dict):
        raise Rejected("model.not_api", reason="")
    items = body.get("data") or body.get("models") or []
    if not isinstance(items, list):
        raise Rejected("model.not_api", reason="")
    names = [str(item.get("id") or item.get("name") or "") for item in items if isinstance(item, dict)]
    return [name for name in names if 0 < len(name) <= 200 and not NOT_FOR_CHAT.search(name)][:MOST]


class AutoModel:
    """A model that the service itself names, found at the first call.

    Args:
        make: builds the model for a name.
        otherwise: the name to use where the service lists none; many gateways go by any name.
    """

    def __init__(
        self, *, make: Callable[[str], HttpModel], url: str, otherwise: str, egress: Egress, clock: Clock
    ) -> None:
        self.name, self.context_tokens = "auto", 32_000
        self._make, self._url, self._otherwise = make, url, otherwise
        self._egress, self.clock = egress, clock
        self._found: HttpModel | None = None
        self._until = 0.0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent | Retracted, None]:
        """See `base.Model.stream`."""
        model = await self._model()
        async with aclosing(model.stream(request)) as events:
            async for event in events:
                yield event

    async def _model(self) -> HttpModel:
        now = self.clock.monotonic()
        if self._found is not None and now < self._until:
            return self._found
        probe = self._make(self._otherwise)
        try:
            names = await listed(self._egress, self._url, probe.wire.headers(probe.keys.pick()))
        except AppError:
            names = []
        self._found = self._make(names[0]) if names else probe
        self._until = now + (float("inf") if names else AGAIN)
        return self._found
