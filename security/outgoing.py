"""Private address ranges that an admin opened for everyone, e.g. for pages of the intranet."""

from __future__ import annotations

import json

from sqlalchemy import Connection, delete, insert, select

from security.egress_client import EgressClient
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.errors import Invalid
from storage.principal import TENANT, Principal
from storage.tables.system import Setting

setting_t = Setting.__table__  # type: ignore[attr-defined]
STORE = "egress.ranges"
MOST = 50


class Outgoing:
    """Keeps the list and tells the egress client. Right to change it: setting.manage."""

    def __init__(self, db: Database, clock: Clock, audit: Audit, egress: EgressClient) -> None:
        self.db, self.clock, self.audit, self.egress = db, clock, audit, egress
        self.ranges: tuple[str, ...] = ()

    async def load(self) -> None:
        """Read what was set; what cannot be read opens nothing."""
        text = await self.db.read(_stored)
        try:
            ranges = tuple(str(item) for item in json.loads(text or "[]"))
            self.egress.open_ranges(ranges)
        except (ValueError, TypeError, Invalid):
            ranges = ()
            self.egress.open_ranges(ranges)
        self.ranges = ranges

    async def save(self, who: Principal, ranges: tuple[str, ...]) -> None:
        """Open these ranges, and no others.

        Raises:
            Invalid: `egress.range` with the entry that is none, `addresses.many`.
        """
        who.require("setting.manage")
        if len(ranges) > MOST:
            raise Invalid("addresses.many", "ranges", most=MOST)
        before = self.ranges
        try:
            self.egress.open_ranges(ranges)
        except Invalid as error:
            raise Invalid(error.code, "ranges", **error.params) from error

        def run(c: Connection) -> None:
            c.execute(delete(setting_t).where(setting_t.c.tenant == TENANT, setting_t.c.key == STORE))
            values = {"tenant": TENANT, "key": STORE, "value": json.dumps(ranges), "updated_at": self.clock.ms()}
            c.execute(insert(setting_t).values(**values))
            self.audit.record(c, who, "setting.outgoing", "egress", before=list(before), after=list(ranges))

        try:
            await self.db.write(run)
        except BaseException:
            self.egress.open_ranges(before)
            raise
        self.ranges = ranges


def _stored(c: Connection) -> str | None:
    query = select(setting_t.c.value).where(setting_t.c.tenant == TENANT, setting_t.c.key == STORE)
    return c.execute(query).scalar()
