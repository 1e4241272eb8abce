"""Schedules by API: list, make, change, run, look at what became of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from agent.schedules.actions import ScheduleActions
from agent.schedules.draft import ScheduleDraft, Task
from agent.schedules.trying import DryRun
from agent.schedules.views import Coming, RunView, ScheduleView
from routes.api.problems import Problems
from routes.api.terms import MOST_ID, Before, Body, Caller, Items, Limit, Name, Number, Text, page
from storage.principal import Principal

Values = dict[Annotated[Text, Field(max_length=60)], Annotated[Text, Field(max_length=8000)]]
State = Literal["", "bad", "queued", "running", "waiting", "ok", "failed", "cancelled", "missed", "skipped"]
ZONE = "Asia/Shanghai"


class Work(Body):
    """What is done. Only the fields of its kind are filled."""

    command: Text = Field(default="", max_length=8000)
    text: Text = Field(default="", max_length=8000)
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: Text = Field(default="", max_length=2000)
    headers: Values = Field(default_factory=dict, max_length=50)
    body: Text = Field(default="", max_length=50_000)
    scenario: Text = Field(default="", max_length=60)
    steps: Text = Field(default="", max_length=50_000)
    values: Values = Field(default_factory=dict, max_length=100)


class ScheduleValues(Body):
    """A schedule's settings. A secret that is left out stays as it is; none is ever given back."""

    kind: Literal["message", "prompt", "command", "http", "workflow"]
    expression: Text = Field(min_length=1, max_length=2000, examples=["0 9 * * 1-5"])
    zone: Text = Field(default=ZONE, max_length=60)
    task: Work = Field(default_factory=Work)
    secrets: Values = Field(default_factory=dict, max_length=50)
    bot: Text = Field(default="", max_length=60)
    target: Text = Field(default="", max_length=200)
    missed: Literal["skip", "once", "all"] = "once"
    missed_within: int = Field(default=0, ge=0, le=31 * 86_400)
    overlap: Literal["skip", "queue", "parallel"] = "skip"
    retries: int = Field(default=0, ge=0, le=10)
    backoff: int = Field(default=60, ge=1, le=86_400)
    timeout: int = Field(default=300, ge=1, le=3600)
    alert_after: int = Field(default=3, ge=0, le=100)
    pause_after: int = Field(default=0, ge=0, le=1000)
    expires_at: int | None = Field(default=None, ge=1, le=MOST_ID)


class NewSchedule(ScheduleValues):
    """A schedule with its name."""

    name: Text = Field(min_length=1, max_length=63)


class Kept(BaseModel):
    """What a schedule does, as it is kept. Of its secrets nothing."""

    kind: str
    expression: str
    zone: str
    task: Work
    bot: str
    target: str
    missed: str
    missed_within: int
    overlap: str
    retries: int
    backoff: int
    timeout: int
    alert_after: int
    pause_after: int
    expires_at: int | None


class Schedule(Kept):
    """A schedule with how it does."""

    id: int
    name: str
    state: str = Field(description="on, paused, waits (for an admin to allow its command), over")
    paused_why: str
    next_at: int | None
    last: RunView | None
    running: int
    success: float | None = Field(description="Share of the ended runs of 30 days that went well.")
    runs: int
    failures: int = Field(description="In a row.")
    owner: str
    owner_name: str
    managed_by: str
    from_chat: bool
    secrets: dict[str, str] = Field(description="Last characters of each secret that is set.")


class Step(BaseModel):
    """One thing that would be done."""

    name: str
    kind: str
    what: str


class Tried(BaseModel):
    """What a schedule would do. `code` and the rest say where it would end."""

    steps: list[Step]
    boxed: bool | None
    tells: str
    code: str = ""
    message: str = ""
    remedy: str = ""


class Stopped(BaseModel):
    """`stopped` is False where the run was over."""

    stopped: bool


def schedules_router(schedules: ScheduleActions, problems: Problems) -> APIRouter:
    """Routes below `/api/v1/schedules` and `/api/v1/runs`."""
    router = APIRouter(prefix="/api/v1")
    _looking(router, schedules)
    _acting(router, schedules, problems)
    return router


def _looking(router: APIRouter, schedules: ScheduleActions) -> None:
    views = schedules.views

    @router.get("/schedules", tags=["schedules"])
    async def list_(who: Caller) -> Items[Schedule]:
        """All schedules, by name. Right: schedule.view."""
        return Items(items=[_shown(view) for view in await views.list(who)])

    @router.get("/schedules/{name}", tags=["schedules"])
    async def get(who: Caller, name: Name) -> Schedule:
        """One schedule. Right: schedule.view."""
        return _shown(await views.get(who, name))

    @router.get("/schedules/{name}/runs", tags=["schedules"])
    async def runs_of(
        who: Caller, name: Name, state: State = "", before: Before = None, limit: Limit = 50
    ) -> Items[RunView]:
        """Runs of a schedule, latest first; `bad`: failed and missed ones. Right: schedule.view."""
        return page(await views.runs(who, name, before=before, limit=limit, state=state), limit)

    @router.get("/runs", tags=["runs"])
    async def runs(who: Caller, state: State = "", before: Before = None, limit: Limit = 50) -> Items[RunView]:
        """Runs of all schedules, latest first. Right: schedule.view."""
        return page(await views.runs(who, before=before, limit=limit, state=state), limit)

    @router.get("/runs/upcoming", tags=["runs"])
    async def upcoming(who: Caller, limit: Annotated[int, Query(ge=1, le=100)] = 10) -> Items[Coming]:
        """The next runs of all schedules. Right: schedule.view."""
        return Items(items=await views.upcoming(who, limit))

    @router.get("/runs/preview", tags=["runs"])
    async def preview(
        who: Caller,
        expression: Annotated[Text, Query(min_length=1, max_length=2000)],
        zone: Annotated[Text, Query(max_length=60)] = ZONE,
        count: Annotated[int, Query(ge=1, le=100)] = 10,
    ) -> Items[int]:
        """The next times of an expression, in ms. Right: schedule.view."""
        return Items(items=await views.preview(who, expression, zone, count=count))

    @router.get("/runs/{id:int}", tags=["runs"])
    async def run(who: Caller, id: Number) -> RunView:
        """One run with its whole output. Right: schedule.view."""
        return await views.run(who, id)


def _acting(router: APIRouter, schedules: ScheduleActions, problems: Problems) -> None:
    @router.post("/schedules", tags=["schedules"], status_code=201)
    async def create(who: Caller, body: NewSchedule) -> Schedule:
        """Make a schedule; it runs with your rights of the moment. Right: schedule.manage."""
        return _shown(await schedules.save(who, _draft(body.name, body), create=True))

    @router.put("/schedules/{name}", tags=["schedules"])
    async def change(who: Caller, name: Name, body: ScheduleValues) -> Schedule:
        """Change a schedule, or make it. Right: schedule.manage."""
        return _shown(await schedules.save(who, _draft(name, body)))

    @router.delete("/schedules/{name}", tags=["schedules"], status_code=204)
    async def remove(who: Caller, name: Name) -> Response:
        """Remove a schedule with its history. Right: schedule.manage."""
        await schedules.remove(who, name)
        return Response(status_code=204)

    @router.post("/schedules/{name}/pause", tags=["schedules"])
    async def pause(who: Caller, name: Name) -> Schedule:
        """Plan nothing more. Right: schedule.manage."""
        return _shown(await schedules.pause(who, name))

    @router.post("/schedules/{name}/resume", tags=["schedules"])
    async def resume(who: Caller, name: Name) -> Schedule:
        """Plan again. Right: schedule.manage."""
        return _shown(await schedules.pause(who, name, paused=False))

    @router.post("/schedules/{name}/allow", tags=["schedules"])
    async def allow(who: Caller, name: Name) -> Schedule:
        """Allow a command, to the letter, to run on this machine. Right: schedule.manage."""
        return _shown(await schedules.allow(who, name))

    @router.post("/schedules/{name}/run", tags=["schedules"], status_code=202)
    async def run_now(who: Caller, name: Name) -> RunView:
        """Run a schedule once, now. Right: schedule.run."""
        return await schedules.run_now(who, name)

    @router.post("/schedules/{name}/try", tags=["schedules"])
    async def dry_run(who: Caller, name: Name, body: ScheduleValues) -> Tried:
        """What these settings would do: nothing is changed, nobody is told. Right: schedule.manage."""
        return _tried(problems, who, await schedules.dry_run(who, _draft(name, body), name=name))

    @router.post("/runs/{id:int}/cancel", tags=["runs"])
    async def cancel(who: Caller, id: Number) -> Stopped:
        """End a run that is not over. Right: schedule.run."""
        return Stopped(stopped=await schedules.cancel(who, id))


def _draft(name: str, body: ScheduleValues) -> ScheduleDraft:
    values: dict[str, Any] = body.model_dump(exclude={"name", "task"})
    return ScheduleDraft(name=name, task=Task(**body.task.model_dump()), **values)


def _shown(view: ScheduleView) -> Schedule:
    draft = view.draft
    mine = {name: getattr(view, name) for name in Schedule.model_fields if hasattr(view, name)}
    kept = {name: getattr(draft, name) for name in Kept.model_fields if name != "task"}
    task = Work.model_construct(**asdict(draft.task))
    return Schedule(**{**kept, **mine, "task": task, "secrets": dict(view.secrets)})


def _tried(problems: Problems, who: Principal, found: DryRun) -> Tried:
    steps = [Step(name=name, kind=kind, what=what) for name, kind, what in found.steps]
    if found.error is None:
        return Tried(steps=steps, boxed=found.boxed, tells=found.tells)
    what, remedy = problems.explain(who.lang, found.error)
    return Tried(steps=steps, boxed=found.boxed, tells=found.tells, code=found.error.code, message=what, remedy=remedy)
