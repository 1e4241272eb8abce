"""A person's word in the chat about an act that waits: a pressed button, or a typed answer with its code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from channels.base import BotConfig
from channels.hooks import Click
from storage.approvals import RIGHT, Approvals, ApprovalView
from storage.envelope import Inbound, Outgoing
from storage.errors import AppError, Conflict, Denied, NotFound
from storage.ledger import lane_of
from storage.outbox import Outbox
from storage.principal import Principal
from storage.words import Words

PRESSED = re.compile(r"approval:([0-9]{1,18}):(yes|no)")
YES = ("同意", "批准", "approve", "yes")
NO = ("拒绝", "不同意", "reject", "no")
TYPED = re.compile(
    rf"\s*({'|'.join((*YES, *NO))})\s*[:：#]?\s*([A-Za-z][2-9][A-Za-z][2-9])\s*[.。!！]?\s*", re.IGNORECASE
)


def _unknown(tenant: str, name: str) -> BotConfig | None:
    return None


@dataclass(slots=True)
class Decisions:
    """Hears what people say about waiting acts. `config` finds a bot: its list of approvers counts."""

    approvals: Approvals
    outbox: Outbox
    words: Words
    config: Callable[[str, str], BotConfig | None] = field(default=_unknown)

    async def clicked(self, click: Click) -> str:
        """A pressed button; what to show to whoever pressed it."""
        pressed = PRESSED.fullmatch(click.value)
        config = self.config(click.tenant, click.bot)
        if pressed is None or config is None:
            return ""
        who = _person(config, click.channel, click.person, "")
        return await self._decide(config, who, int(pressed[1]), pressed[2] == "yes")

    async def spoken(self, config: BotConfig, message: Inbound) -> bool:
        """A message that may be an answer. True if it was one: then it is no work for the agent.

        Safe to repeat: a second delivery changes nothing and says nothing twice.
        """
        typed = TYPED.fullmatch(message.text) if len(message.text) < 60 else None
        if typed is None:
            return False
        view = await self.approvals.by_code(config.tenant, config.name, typed[2])
        if view is None:
            return False
        who = _person(config, message.channel, message.sender, message.sender_name)
        said = await self._decide(config, who, view.id, typed[1].lower() in YES)
        await self.outbox.push(
            tenant=config.tenant,
            bot=config.name,
            channel=message.channel,
            lane=lane_of(config.tenant, config.name, message.conversation),
            key=f"approval:{view.id}:{message.keys[0]}",
            address=message.address,
            out=Outgoing(kind="notice", text=said),
        )
        return True

    async def _decide(self, config: BotConfig, who: Principal, approval: int, yes: bool) -> str:
        lang = config.get("push_lang", "zh_CN")
        try:
            view = await self._of(config, approval)
            decided = await self.approvals.decide(who, view.id, yes)
        except (Denied, NotFound, Conflict) as error:
            return self._error(lang, error)
        found = decided.approval
        if decided.fresh:
            return self.words.say(lang, f"approval.said.{found.status}")
        if found.status == "expired":
            return self.words.say(lang, "approval.said.expired")
        return self.words.say(lang, f"approval.before.{found.status}", who=found.decided_name or found.decided_by)

    async def _of(self, config: BotConfig, approval: int) -> ApprovalView:
        """The approval, if it was asked through this bot: another bot's people have no say."""
        view = await self.approvals.get(config.tenant, approval)
        if view.bot != config.name:
            raise NotFound("approval.unknown")
        return view

    def _error(self, lang: str, error: AppError) -> str:
        return self.words.say(lang, f"error.{error.code}", **error.params)


def _person(config: BotConfig, channel: str, person: str, name: str) -> Principal:
    """Somebody at a vendor, by their stable id: they have the right that the bot's list of approvers gives."""
    approvers = set(re.split(r"[\s,，;；]+", config.get("approvers"))) - {""}
    rights = frozenset({RIGHT}) if person in approvers else frozenset[str]()
    return Principal(id=f"{channel}:{person}", tenant=config.tenant, name=name or person, role="vendor", rights=rights)
