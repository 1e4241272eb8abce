"""Whether a tool may be called now: switched off, free, or only on a person's word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from agent.models.base import ToolDefinition
from agent.tools.base import Tool, ToolContext
from agent.tools.policy import ToolPolicies
from security.markdown import visible
from storage.approvals import Approvals, ApprovalView
from storage.envelope import Button, Outgoing
from storage.runner import Waits, Work
from storage.words import Words

MOST_SHOWN = 3_000
OWN = ("web", "api")
"""Channels whose people see the question in the panel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Permission:
    """Asks people about tool calls. `None` for a free call, else why it is not made."""

    approvals: Approvals
    policies: ToolPolicies
    words: Words

    def offered(self, tenant: str, definitions: Sequence[ToolDefinition]) -> tuple[ToolDefinition, ...]:
        """The tools that a model is told of."""
        return tuple(one for one in definitions if not self.policies.of(tenant, one.name).off)

    async def refusal(self, work: Work, ctx: ToolContext, tool: Tool, arguments: dict[str, object]) -> str | None:
        """Why a call is not made, in words for the model; None if it may be made.

        Raises:
            Waits: nobody has decided yet; the job waits.
        """
        policy = self.policies.of(ctx.tenant, tool.name)
        if policy.off:
            return "refused: an admin has switched this tool off"
        kind = work.coming[1]
        if kind != "approval" and (kind or not policy.needs_word(tool, ctx.origin)):
            return None  # free, or begun before a word was needed
        try:
            _ = tool.args.model_validate(arguments)
        except ValidationError:
            return None  # nothing will be done: nobody is asked
        request = json.dumps(arguments, ensure_ascii=False, sort_keys=True)

        async def find(n: int) -> tuple[str, int]:
            found = await self.approvals.find(work.job.id, n)
            if found is None:
                await self._ask(work, ctx, tool, n, request, policy.decides)
                raise Waits
            if found.status == "asked":
                raise Waits
            word = found.status if (found.tool, found.request) == (tool.name, request) else "changed"
            return json.dumps({"word": word, "by": found.decided_name, "tool": tool.name}), found.asked_at

        word = str(json.loads(await work.decision(find))["word"])
        return REFUSED.get(word)

    async def _ask(self, work: Work, ctx: ToolContext, tool: Tool, n: int, request: str, decides: str) -> None:
        def say(view: ApprovalView) -> Outgoing | None:
            return None if ctx.channel in OWN else self.message(view, ctx.lang)

        view = await self.approvals.ask(
            work.job, n, tool=tool.name, request=request, person=ctx.person, decides=decides, say=say
        )
        work.tell("ask", id=view.id, tool=tool.name, args=view.arguments(), code=view.code)

    def message(self, view: ApprovalView, lang: str) -> Outgoing:
        """The question as a message: the exact act, two buttons, and what to type where there are none."""
        yes, no = self.words.say(lang, "approval.yes"), self.words.say(lang, "approval.no")
        text = "\n\n".join(
            (
                self.words.say(lang, "approval.ask", tool=tool_name(self.words, lang, view.tool)),
                act_of(view),
                self.words.say(lang, f"approval.who.{view.decides}"),
                self.words.say(lang, "approval.type", yes=f"{yes} {view.code}", no=f"{no} {view.code}"),
            )
        )
        return Outgoing(
            kind="notice",
            title=self.words.say(lang, "approval.title"),
            text=text,
            buttons=(
                Button(label=yes, value=f"approval:{view.id}:yes", say=f"{yes} {view.code}", style="primary"),
                Button(label=no, value=f"approval:{view.id}:no", say=f"{no} {view.code}"),
            ),
        )


REFUSED = {
    "refused": "refused: the person said no; do not try again, ask them what they want instead",
    "expired": "refused: nobody decided in time; nothing was done",
    "changed": "refused: this is not what the person was asked about; nothing was done",
}


def tool_name(words: Words, lang: str, tool: str) -> str:
    """A tool's name for people."""
    key = f"chat.tool.{tool}"
    return words.say(lang, key) if words.has(lang, key) else tool


def act_of(view: ApprovalView) -> str:
    """The arguments as they are, in a block that they cannot leave."""
    lines = [
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in view.arguments().items()
    ]
    text = visible("\n".join(lines))
    shown = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}… (+{len(text) - MOST_SHOWN})"
    fence = "```"
    while fence in shown:
        fence += "`"
    return f"{fence}\n{shown}\n{fence}"
