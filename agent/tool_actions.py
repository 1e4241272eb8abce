"""What a person may see and choose about tools."""

from __future__ import annotations

import builtins
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, insert

from agent.tools.base import Toolbox
from agent.tools.policy import APPROVALS, DECIDERS, Policy, ToolPolicies, policy_t
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.envelope import Origin
from storage.errors import Invalid, NotFound
from storage.principal import Principal


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolRow:
    """A tool with what it may do.

    Attributes:
        effect: `read`, `write` (own data) or `outside` (leaves the house).
        asks: a person's word is needed, by the policy in force.
        approval: as chosen: `always`, `never`, or empty for the tool's own default.
    """

    name: str
    description: str
    effect: str
    repeatable: bool
    timeout: float
    off: bool
    asks: bool
    approval: str
    decides: str
    own: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolActions:
    """Use cases of the page of tools."""

    db: Database
    audit: Audit
    clock: Clock
    toolbox: Toolbox
    policies: ToolPolicies

    async def list(self, who: Principal) -> builtins.list[ToolRow]:
        """Every tool with its policy. Right: skill.view."""
        who.require("skill.view")
        return [self._row(who.tenant, name) for name in (tool.name for tool in self.toolbox.all())]

    async def choose(self, who: Principal, name: str, *, off: bool, approval: str, decides: str) -> ToolRow:
        """Choose a tool's policy. Right: skill.manage. Safe to repeat: the same again changes and audits nothing.

        Raises:
            NotFound: `tool.unknown`. Invalid: `tool.approval`, `tool.decides`.
        """
        who.require("skill.manage")
        if self.toolbox.get(name) is None:
            raise NotFound("tool.unknown", name=name[:60])
        if approval not in APPROVALS:
            raise Invalid("tool.approval", field="approval")
        if decides not in DECIDERS:
            raise Invalid("tool.decides", field="decides")
        old, now = self.policies.of(who.tenant, name), self.clock.ms()
        new = Policy(off=off, approval=approval, decides=decides, own=True)
        if (old.off, old.approval, old.decides) == (off, approval, decides):
            return self._row(who.tenant, name)

        def fn(c: Connection) -> None:
            c.execute(delete(policy_t).where(and_(policy_t.c.tenant == who.tenant, policy_t.c.tool == name)))
            values = {"off": off, "approval": approval, "decides": decides, "updated_at": now, "updated_by": who.id}
            c.execute(insert(policy_t).values(tenant=who.tenant, tool=name, **values))
            self.audit.record(c, who, "tool.policy", name, before=_told(old), after=_told(new))

        await self.db.write(fn)
        await self.policies.load()
        return self._row(who.tenant, name)

    def _row(self, tenant: str, name: str) -> ToolRow:
        tool, policy = self.toolbox.get(name), self.policies.of(tenant, name)
        if tool is None:
            raise NotFound("tool.unknown", name=name[:60])
        return ToolRow(
            name=name,
            description=tool.description,
            effect=tool.effect,
            repeatable=tool.repeatable,
            timeout=tool.timeout,
            off=policy.off,
            asks=policy.needs_word(tool, str(Origin.USER)),
            approval=policy.approval,
            decides=policy.decides,
            own=policy.own,
        )


def _told(policy: Policy) -> dict[str, object]:
    return {"off": policy.off, "approval": policy.approval, "decides": policy.decides}
