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
            count, now = 0, self.clock.ms()
            if resume:
                for table, ids in dict(state.get("paused", {})).items():
                    if table.isidentifier():
                        # times that passed since the backup are not made up for: what they should do may be done
                        skip = f", cursor = {now}, next_at = {now}" if table == "schedule" else ""
                        sql = f'UPDATE "{table}" SET paused_at = NULL{skip} WHERE id = :id AND paused_at = :at'  # noqa: S608 - an identifier and a number
                        of = [{"id": int(i), "at": int(state["at"])} for i in ids]
                        count += sum(c.execute(text(sql), one).rowcount for one in of)
            keep(c, None, now)
            self.audit.record(c, who, "backup.reviewed", str(state.get("name", "")), after={"resumed": count})
            return count

        count = await self.db.write(run)
        if count:
            await self.resumed()
        return count
