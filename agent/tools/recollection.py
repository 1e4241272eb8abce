"""The tools that remember and recall."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import Field

from agent.memory.base import Memory, MemoryScope
from agent.memory.newrow import FIRST_HAND
from agent.memory.tokens import words
from agent.recollection import scope
from agent.tools.base import Args, Tool, ToolContext, ToolResult
from storage.clock import Clock
from storage.envelope import Origin

ZONE = ZoneInfo("Asia/Shanghai")
OWN_WORDS = 0.8  # share of a fact's words that the person must have said where text from outside lies beside them


class RememberArgs(Args):
    text: str = Field(
        description="One fact, complete in itself, in the person's own words", min_length=1, max_length=2000
    )


class RecallArgs(Args):
    query: str = Field(description="What to look for", min_length=1, max_length=500)


def scope_of(ctx: ToolContext) -> MemoryScope:
    """A group's memory in a group, the person's own otherwise: never one in the other."""
    return scope(ctx.tenant, ctx.bot, ctx.person, ctx.group)


def stands_in(fact: str, said: str) -> bool:
    """True if nearly all words of a fact were said by the person."""
    claimed, own = set(words(fact)), set(words(said))
    return bool(claimed) and len(claimed & own) >= OWN_WORDS * len(claimed)


def day(ms: int) -> str:
    """The date of a time in ms, for a model to read."""
    return datetime.fromtimestamp(ms / 1000, ZONE).strftime("%Y-%m-%d")


def remember_tool(memory: Memory, clock: Clock) -> Tool:
    """`remember`: keep a fact about the person or the group."""

    async def run(ctx: ToolContext, args: RememberArgs) -> ToolResult:
        label = ctx.origin
        if label not in FIRST_HAND:
            if not stands_in(args.text, ctx.said):
                return ToolResult(text="refused: text from outside is not kept as a fact about a person", ok=False)
            label = str(Origin.GROUP if ctx.group else Origin.USER)  # the person's own words, whatever lies beside them
        await memory.remember(
            scope_of(ctx),
            args.text,
            at=clock.ms(),
            source=f"message:{ctx.message_id}",
            label=label,
            speaker=ctx.person_name,
            speaker_id=ctx.person,
        )
        return ToolResult(text=f"kept: {args.text}")

    return Tool(
        name="remember",
        description="Keep a fact, preference, decision or promise for later conversations, when the person asks for it "
        "or clearly wants it kept.",
        args=RememberArgs,
        run=run,
        effect="write",
    )


def recall_tool(memory: Memory, clock: Clock) -> Tool:
    """`recall`: search what was said and kept."""

    async def run(ctx: ToolContext, args: RecallArgs) -> ToolResult:
        found = await memory.recall(scope_of(ctx), args.query, limit=8, now=clock.ms())
        if not found:
            return ToolResult(text="nothing found")
        return ToolResult(text="\n".join(f"- [{day(item.at)}] {item.text}" for item in found))

    return Tool(
        name="recall", description="Search what was said or kept in earlier conversations.", args=RecallArgs, run=run
    )
