"""Which bots can be told what a schedule has made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from channels.actions import BotActions
from pages.visitor import Visitor


def bot_choices(bots: BotActions) -> Callable[[Visitor], Awaitable[Sequence[tuple[str, str]]]]:
    """Names and types of all bots, for those who may see them."""

    async def choices(v: Visitor) -> Sequence[tuple[str, str]]:
        if not v.who.may("bot.view"):
            return ()
        return [(row.name, row.type) for row in await bots.list(v.who)]

    return choices
