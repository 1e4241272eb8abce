"""The plan: a visible list of steps whose state changes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.tools.base import Args, Tool, ToolContext, ToolResult


class PlanItem(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = Field(min_length=1, max_length=200)
    state: Literal["todo", "doing", "done", "failed"] = "todo"


class PlanArgs(Args):
    items: list[PlanItem] = Field(min_length=1, max_length=20)


def plan_tool() -> Tool:
    """`plan`: show or update the list of steps."""

    async def run(ctx: ToolContext, args: PlanArgs) -> ToolResult:
        items = [item.model_dump() for item in args.items]
        ctx.tell("plan", items=items)
        done = sum(item.state == "done" for item in args.items)
        return ToolResult(text=f"plan shown: {done} of {len(items)} done")

    return Tool(
        name="plan",
        description="Show the person a plan for a task of several steps, then call again with the whole list whenever "
        "a step's state changes.",
        args=PlanArgs,
        run=run,
        effect="write",
    )
