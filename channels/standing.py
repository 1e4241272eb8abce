"""Whether a person may still talk with a bot, asked for what was begun in a chat and goes on later."""

from __future__ import annotations

from dataclasses import dataclass

from channels.access import Verdict
from channels.registry import Bots
from storage.envelope import Inbound


@dataclass(frozen=True, kw_only=True, slots=True)
class MayTalk:
    """Asks the bot's list of people, without asking an admin for anybody."""

    bots: Bots

    async def __call__(self, tenant: str, bot: str, person: str, conversation: str) -> bool:
        """True if this person may talk there today. `person` may be scoped to the channel (`feishu:ou_x`)."""
        config = self.bots.config(tenant, bot)
        if config is None or config.paused:
            return False
        sender = person.partition(":")[2] if person.startswith(f"{config.type}:") else person
        kind = "direct" if conversation == sender else "group"
        asked = Inbound(
            tenant=tenant,
            bot=bot,
            channel=config.type,
            keys=(),
            vendor_id="",
            conversation=conversation,
            kind=kind,
            sender=sender,
        )
        return await self.bots.access.verdict(config, asked) is Verdict.ALLOWED
