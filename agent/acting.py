"""What the agent may do: its tools, their policies, and the words of people that some acts wait for."""

from __future__ import annotations

import asyncio
import logging

from agent.approval_actions import ApprovalActions
from agent.permission import Permission
from agent.tool_actions import ToolActions
from agent.tools.base import Tool, Toolbox
from agent.tools.policy import ToolPolicies
from storage.approvals import Approvals
from storage.background import Background
from storage.errors import AppError
from storage.words import Words

log = logging.getLogger(__name__)
EXPIRE_SECONDS = 30.0


class Acting:
    """`toolbox`, `policies`, `permission` and the use cases of their pages."""

    def __init__(self, *, approvals: Approvals, words: Words, tools: list[Tool]) -> None:
        db, clock = approvals.db, approvals.clock
        self.approvals = approvals
        self.toolbox, self.policies = Toolbox(tools), ToolPolicies(db, clock)
        self.permission = Permission(approvals=approvals, policies=self.policies, words=words)
        self.tools = ToolActions(
            db=db, audit=approvals.audit, clock=clock, toolbox=self.toolbox, policies=self.policies
        )
        self.decisions = ApprovalActions(approvals=approvals)

    async def start(self, background: Background) -> None:
        """Read the policies, and let run out what nobody decides."""
        await self.policies.load()
        _ = background.spawn("approvals", self._expire())

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            try:
                await self.approvals.expire()
            except AppError as error:
                log.warning("approvals do not run out now: %s", error)
