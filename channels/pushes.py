"""Messages that are not answers, to a place that is named as an admin would write it."""

from __future__ import annotations

from dataclasses import dataclass

from channels.registry import Bots
from channels.targets import address_of
from storage.envelope import Outgoing
from storage.errors import Invalid, NotFound
from storage.ledger import lane_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushes:
    """Puts messages into the outbox of a bot."""

    bots: Bots

    async def send(self, tenant: str, bot: str, to: str, text: str, key: str) -> int | None:
        """The delivery's number; None if this key was pushed before.

        Raises:
            NotFound: `bot.unknown`. Invalid: `<type>.target_form`, or `bot.push_to` where nobody is named.
        """
        config = self.bots.config(tenant, bot)
        if config is None:
            raise NotFound("bot.unknown", name=bot[:60])
        to = to or config.get("push_to")
        if not to and config.type != "webhook":
            raise Invalid("bot.push_to", field="push_to")
        return await self.bots.outbox.push(
            tenant=tenant,
            bot=bot,
            channel=config.type,
            lane=lane_of(tenant, bot, f"push:{to}"),
            key=key,
            address=address_of(config.type, to),
            out=Outgoing(kind="push", text=text),
        )
