"""Sends a message through one of the bots to somebody else."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from pydantic import Field

from agent.tools.base import Args, Tool, ToolContext, ToolResult

Send = Callable[[str, str, str, str, str], Awaitable[int | None]]
"""Tenant, bot, target, text, key: into the outbox. Its number there; None if this key was sent before."""


class MessageArgs(Args):
    bot: str = Field(default="", description="Name of the bot that says it; empty for the one of this chat")
    to: str = Field(description="Person or group in the bot's form, e.g. user:alice, group:cid…, oc_…", max_length=256)
    text: str = Field(description="The whole message, Markdown", min_length=1, max_length=8000)


def message_tool(send: Send) -> Tool:
    """`send_message`: say something to somebody else. The same words to the same place leave once for a task."""

    async def run(ctx: ToolContext, args: MessageArgs) -> ToolResult:
        bot, to = args.bot.strip()[:40] or ctx.bot, args.to.strip()
        digest = hashlib.sha256(f"{bot}\n{to}\n{args.text}".encode()).hexdigest()[:24]
        number = await send(ctx.tenant, bot, to, args.text, f"tool:{ctx.job_id}:{digest}")
        if number is None:
            return ToolResult(text="this very message was handed over before; it is not sent twice")
        return ToolResult(text=f"handed over for delivery, number {number}")

    return Tool(
        name="send_message",
        description="Send a message through a bot to a person or group other than the one you talk with. Use it only "
        "when the person asks for it and names the receiver; somebody is asked for permission first.",
        args=MessageArgs,
        run=run,
        effect="outside",
        approval=True,
    )
