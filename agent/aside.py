"""Asks a model for the house's own work beside the answers: facts of a conversation, its summary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from agent.models.base import ChatMessage, Completed, ModelChoice, ModelEvent, ModelRequest, Router, Spender
from agent.models.chain import Switched
from storage.errors import Unavailable

Answer = Callable[[Sequence[ModelChoice], ModelRequest], AsyncIterator[ModelEvent | Switched]]
OWN = "memory"  # the person whom usage names for it; a monthly limit can be set for it
MOST_TOKENS = 1500


class Aside:
    """One question, one text. Tenants' default models answer; the demo is never asked."""

    def __init__(self, router: Router, answer: Answer) -> None:
        self.router, self.answer = router, answer

    async def __call__(self, tenant: str, prompt: str) -> str:
        """The model's text.

        Raises:
            Unavailable: `model.none`, there is no model but the demo; and whatever the chain raises.
        """
        chain = [choice for choice in self.router.chain(tenant) if not choice.demo]
        if not chain:
            raise Unavailable("model.none")
        request = ModelRequest(
            messages=(ChatMessage(role="user", text=prompt),),
            temperature=0.0,
            max_tokens=MOST_TOKENS,
            spender=Spender(tenant=tenant, person=OWN),
        )
        text = ""
        async for event in self.answer(chain, request):
            if isinstance(event, Completed):
                text = event.text
        return text
