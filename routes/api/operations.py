"""Health and audit by API."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from pydantic import BaseModel, Field

from agent.trace import TraceActions
from routes.api.terms import Before, Caller, Items, Limit, Short, Time, page
from routes.hot import Readiness
from security.audit_view import AuditActions, AuditEntry
from security.checklist import ChecklistActions
from storage.settings import VERSION
from storage.words import Words


class Control(BaseModel):
    """One line of the security checklist, in the caller's language."""

    id: str
    layer: str
    critical: bool
    status: str = Field(description="pass, warn, fail or unknown")
    title: str
    evidence: str
    remedy: str
    at: int = Field(description="When the evidence was taken; 0: never.")


class Health(BaseModel):
    """Is the process able to work, and what does it have to do?"""

    ready: bool
    reasons: list[str]
    version: str
    waiting: int = Field(description="Tasks that were entered and do not run yet.")
    running: int
    checks: list[Control] = Field(description="The security checklist; empty without the right security.view.")


class Hour(BaseModel):
    """What ended in one of the last 24 hours, the oldest first: 0 to 23."""

    hour: int
    ended: int
    failed: int


class Overview(BaseModel):
    """The last 24 hours in figures; null where nothing was measured."""

    total: int
    done: int
    failed: int
    success: float | None
    own_ms: float | None = Field(description="Mean time that we ourselves took, without model and tools.")
    backlog: int
    cost_today: float
    dead_letters: int
    unknown: int
    by_hour: list[Hour]


class Chain(BaseModel):
    """Is the audit log whole?"""

    whole: bool
    rows: int
    broken_at: int | None


def operations_router(
    readiness: Readiness,
    checks: ChecklistActions[object],
    audit: AuditActions,
    trace: TraceActions,
    words: Words,
    load: Callable[[], tuple[int, int]],
) -> APIRouter:
    """Routes `/api/v1/health`, `/api/v1/overview`, `/api/v1/audit`.

    Args:
        load: how many tasks wait and run now.
    """
    router = APIRouter(prefix="/api/v1")

    @router.get("/health", tags=["health"])
    async def health(who: Caller) -> Health:
        """Readiness, load and the security checklist. Right: health.view; security.view for the checklist."""
        who.require("health.view")
        reasons = await readiness.reasons()
        controls = []
        for row in await checks.list(who) if who.may("security.view") else ():
            controls.append(
                Control(
                    id=row.id,
                    layer=row.layer,
                    critical=row.critical,
                    status=row.status,
                    title=words.say(who.lang, row.title),
                    evidence=words.say(who.lang, row.evidence, **row.params),
                    remedy=words.say(who.lang, row.remedy, **row.params) if row.remedy else "",
                    at=row.at,
                )
            )
        waiting, running = load()
        return Health(
            ready=not reasons, reasons=reasons, version=VERSION, waiting=waiting, running=running, checks=controls
        )

    @router.get("/overview", tags=["health"])
    async def overview(who: Caller) -> Overview:
        """Figures of the last 24 hours. Right: overview.view."""
        seen = await trace.overview(who)
        hours = [Hour(hour=hour, ended=ended, failed=failed) for hour, ended, failed in seen.by_hour]
        names = [name for name in Overview.model_fields if name != "by_hour"]
        return Overview(**{name: getattr(seen, name) for name in names}, by_hour=hours)

    @router.get("/audit", tags=["audit"])
    async def acts(
        who: Caller,
        action: Short = "",
        by: Short = "",
        since: Time = None,
        until: Time = None,
        before: Before = None,
        limit: Limit = 50,
    ) -> Items[AuditEntry]:
        """Who did what, newest first; `action` may end with a dot for all of a noun. Right: audit.view."""
        found = await audit.list(who, action=action, by=by, since=since, until=until, before=before, limit=limit)
        return page(found, limit)

    @router.post("/audit/verify", tags=["audit"])
    async def verify(who: Caller) -> Chain:
        """Walk the whole chain of the audit log. Right: audit.view."""
        found = await audit.verify(who)
        return Chain(whole=found.broken_at is None, rows=found.rows, broken_at=found.broken_at)

    return router
