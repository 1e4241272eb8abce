"""What a restore has paused, and how it may act again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import Connection, text

from security.step_up import StepUp
from storage.audit import Audit
from storage.backup.review import keep, state_of
from storage.clock import Clock
from storage.database import Database
from storage.principal import Principal


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoredActions:
    """Right: backup.manage, freshly proved.

    Attributes:
        resumed: called after what was paused may act again.
    """

    db: Database
    audit: Audit
    clock: Clock
    step_up: StepUp
    resumed: Callable[[], Awaitable[None]]

    async def reviewed(self, who: Principal, *, resume: bool) -> int:
        """Everything that a restore paused was looked at; `resume` lets it act again. Right: backup.manage.

        Returns:
            How many may act again.
        """
        who.require("backup.manage")
        self.step_up.require(who)

        def run(c: Connection) -> int:
            state = state_of(c)
            if state is None:
                return 0
            count = 0
            if resume:
                for table, ids in dict(state.get("paused", {})).items():
                    if table.isidentifier():
                        sql = text(f'UPDATE "{table}" SET paused_at = NULL WHERE id = :id AND paused_at = :at')  # noqa: S608 - an identifier
                        count += sum(c.execute(sql, {"id": int(i), "at": int(state["at"])}).rowcount for i in ids)
            keep(c, None, self.clock.ms())
            self.audit.record(c, who, "backup.reviewed", str(state.get("name", "")), after={"resumed": count})
            return count

        count = await self.db.write(run)
        if count:
            await self.resumed()
        return count
