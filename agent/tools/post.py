"""Sends JSON to a web address: an act that cannot be taken back, and that nobody knows to have happened twice."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field

from agent.tools.base import Args, Tool, ToolContext, ToolResult
from security.egress import Egress, Policy
from storage.errors import AppError, OutcomeUnknown

ONCE = Policy()  # no redirects: the address that was allowed is the one that is called
MOST_BODY = 50_000
MOST_CHARS = 4_000


class PostArgs(Args):
    url: str = Field(description="https address", min_length=8, max_length=2000, pattern=r"^https?://")
    body: dict[str, Any] = Field(description="JSON object to send")


def post_tool(egress: Egress) -> Tool:
    """`post`: call another system once."""

    async def run(ctx: ToolContext, args: PostArgs) -> ToolResult:
        body = json.dumps(args.body, ensure_ascii=False).encode()
        if len(body) > MOST_BODY:
            return ToolResult(text=f"not sent: more than {MOST_BODY} bytes", ok=False)
        try:
            answer = await egress.request(
                "POST", args.url, policy=ONCE, headers={"content-type": "application/json"}, content=body
            )
        except OutcomeUnknown:
            return ToolResult(text="it left, but no answer came: it may or may not have happened", ok=False)
        except AppError as error:
            return ToolResult(text=f"not sent: {error}", ok=False)
        said = answer.text[:MOST_CHARS]
        return ToolResult(text=f"answered {answer.status_code}\n{said}", ok=answer.status_code < 400, origin="t5")

    return Tool(
        name="post",
        description="Send a JSON object to a web address of another system, once. Use it only when the person asks "
        "for exactly that; somebody is asked for permission first.",
        args=PostArgs,
        run=run,
        effect="outside",
        repeatable=False,
        approval=True,
    )
