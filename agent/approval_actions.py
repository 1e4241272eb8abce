"""What a person may do about acts that wait for a word. Page and API call the same functions."""

from __future__ import annotations

import builtins
from dataclasses import dataclass

from storage.approvals import RIGHT, Approvals, ApprovalView
from storage.principal import Principal

MOST_PAGE = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class ApprovalActions:
    """Sees and decides. Without the right approval.decide a person sees only what is theirs to decide."""

    approvals: Approvals

    async def list(self, who: Principal, *, conversation: int | None = None) -> builtins.list[ApprovalView]:
        """What waits now, oldest first. Right: chat.use."""
        who.require("chat.use")
        person = "" if who.may(RIGHT) else who.id
        return await self.approvals.open(who.tenant, person=person, conversation=conversation)

    async def decided(
        self, who: Principal, *, before: int | None = None, limit: int = 50
    ) -> builtins.list[ApprovalView]:
        """What was decided or ran out, newest first. Right: approval.decide."""
        who.require(RIGHT)
        return await self.approvals.decided(who.tenant, before=before, limit=min(limit, MOST_PAGE))

    async def decide(self, who: Principal, approval_id: int, approve: bool) -> ApprovalView:
        """Say yes or no. Safe to repeat; the first word counts.

        Right: approval.decide, or being the one who asked.

        Raises:
            NotFound: `approval.unknown`. Denied: `approval.not_yours`. Conflict: `approval.over`.
        """
        who.require("chat.use")
        return (await self.approvals.decide(who, approval_id, approve)).approval
