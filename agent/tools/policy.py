"""What an admin allows each tool: whether it is offered, whether it needs a person's word, and whose."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from agent.tools.base import Tool
from storage.approvals import APPROVER, ASKER
from storage.clock import Clock
from storage.database import Database
from storage.envelope import Origin
from storage.tables.approvals import ToolPolicy

policy_t = ToolPolicy.__table__  # type: ignore[attr-defined]

ALWAYS, NEVER = "always", "never"
APPROVALS = ("", ALWAYS, NEVER)
DECIDERS = (ASKER, APPROVER)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """A tool's policy as it is in force. `own`: an admin chose it."""

    off: bool = False
    approval: str = ""
    decides: str = ASKER
    own: bool = False

    def needs_word(self, tool: Tool, origin: str) -> bool:
        """True if a person has to allow the call.

        What was perhaps asked for by a page or a file always needs one, where the tool does so by itself.
        """
        if self.approval == ALWAYS:
            return True
        if tool.approval and origin == Origin.OUTSIDE:
            return True
        return self.approval != NEVER and tool.approval


class ToolPolicies:
    """The policies of all tenants, in memory; read at start and after each change."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self.db, self.clock = db, clock
        self._all: dict[tuple[str, str], Policy] = {}

    async def load(self) -> None:
        """Read all of them."""
        rows = await self.db.read(lambda c: c.execute(select(policy_t)).all())
        self._all = {
            (row.tenant, row.tool): Policy(
                off=bool(row.off), approval=row.approval, decides=row.decides or ASKER, own=True
            )
            for row in rows
        }

    def of(self, tenant: str, tool: str) -> Policy:
        """The policy of a tool."""
        return self._all.get((tenant, tool), Policy())
