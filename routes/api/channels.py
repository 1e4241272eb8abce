"""Bots by API: list, make, change, pause, probe."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from channels.actions import BotActions
from channels.base import ProbeResult
from channels.bot_draft import BotDraft
from channels.bot_view import BotRow
from routes.api.problems import Problems
from routes.api.terms import Body, Caller, Items, Name, Text
from storage.errors import AppError, NotFound

Values = dict[Annotated[Text, Field(max_length=60)], Annotated[Text, Field(max_length=4000)]]


class BotValues(Body):
    """A bot's settings. A secret that is left out stays as it is; none is ever given back."""

    type: Text = Field(max_length=20, examples=["feishu"])
    mode: Text = Field(max_length=20, examples=["websocket"])
    settings: Values = Field(default_factory=dict, max_length=60)
    secrets: Values = Field(default_factory=dict, max_length=20)
    model: Text | None = Field(default=None, max_length=200)
    events: list[Annotated[Text, Field(max_length=40)]] | None = Field(default=None, max_length=20)


class NewBot(BotValues):
    """A bot with its name."""

    name: Text = Field(min_length=1, max_length=60)


class Probe(BaseModel):
    """One step of a test at the vendor, in the caller's language."""

    name: str
    status: str = Field(description="pass, warn, fail or unknown")
    code: str
    message: str
    remedy: str
    ms: int


def channels_router(bots: BotActions, problems: Problems) -> APIRouter:
    """Routes below `/api/v1/channels`."""
    router = APIRouter(prefix="/api/v1/channels", tags=["channels"])

    @router.get("")
    async def list_(who: Caller) -> Items[BotRow]:
        """All bots with their proof of life. Right: bot.view."""
        return Items(items=await bots.list(who))

    @router.post("", status_code=201)
    async def create(who: Caller, body: NewBot) -> BotRow:
        """Make a bot and start it. Right: bot.manage."""
        return await bots.save(who, _draft(body.name, body), create=True)

    @router.get("/{name}")
    async def get(who: Caller, name: Name) -> BotRow:
        """One bot. Right: bot.view."""
        found = next((row for row in await bots.list(who) if row.name == name), None)
        if found is None:
            raise NotFound("bot.unknown", name=name[:60])
        return found

    @router.put("/{name}")
    async def change(who: Caller, name: Name, body: BotValues) -> BotRow:
        """Change a bot, or make it, and start it again. Right: bot.manage."""
        return await bots.save(who, _draft(name, body))

    @router.delete("/{name}", status_code=204)
    async def remove(who: Caller, name: Name) -> Response:
        """Stop and remove a bot with its secrets. Right: bot.manage."""
        await bots.remove(who, name)
        return Response(status_code=204)

    @router.post("/{name}/pause")
    async def pause(who: Caller, name: Name) -> BotRow:
        """Take no more messages; what was taken is still answered. Right: bot.manage."""
        return await bots.pause(who, name)

    @router.post("/{name}/resume")
    async def resume(who: Caller, name: Name) -> BotRow:
        """Take messages again. Right: bot.manage."""
        return await bots.resume(who, name)

    @router.post("/{name}/probe")
    async def probe(who: Caller, name: Name) -> Items[Probe]:
        """Test credentials and permissions at the vendor; nothing is said to anybody. Right: bot.manage."""
        return Items(items=[_probe(problems, who.lang, item) for item in await bots.probe(who, name)])

    return router


def _draft(name: str, body: BotValues) -> BotDraft:
    return BotDraft(
        name=name,
        type=body.type,
        mode=body.mode,
        settings=body.settings,
        secrets=body.secrets,
        model=body.model,
        events=None if body.events is None else tuple(body.events),
    )


def _probe(problems: Problems, lang: str, item: ProbeResult) -> Probe:
    what = remedy = ""
    if item.code:
        what, remedy = problems.explain(lang, AppError(item.code, **item.params))
    return Probe(name=item.name, status=item.status, code=item.code, message=what, remedy=remedy, ms=item.ms)
