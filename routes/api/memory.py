"""Memory by API: search as the agent would, remember, forget."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from agent.memory.actions import MINE, MemoryActions
from agent.memory.forget import Preview, Wish
from agent.memory.shown import FoundItem, Item, Place
from routes.api.terms import MOST_ID, Before, Body, Caller, Items, Limit, Number, Text, page
from storage.errors import NotFound

InPlace = Annotated[int, Query(ge=0, le=MOST_ID, description="A memory from /memory/places; 0: the caller's own.")]
Id = Annotated[int, Field(ge=1, le=MOST_ID)]


class Search(Body):
    """What to look for."""

    query: Text = Field(min_length=1, max_length=500)
    place: int = Field(default=MINE, ge=0, le=MOST_ID)
    limit: int = Field(default=20, ge=1, le=100)


class NewMemory(Body):
    """A fact to keep."""

    text: Text = Field(min_length=1, max_length=2000)
    place: int = Field(default=MINE, ge=0, le=MOST_ID)


class Made(BaseModel):
    """Number of a new row."""

    id: int


class Forgetting(Body):
    """What should go: rows that meet all that is given. Nothing given means nothing."""

    place: int = Field(default=MINE, ge=0, le=MOST_ID)
    ids: list[Id] = Field(default_factory=list, max_length=1000)
    person: Text = Field(default="", max_length=200)
    source: Text = Field(default="", max_length=200)
    since: int = Field(default=0, ge=0, le=MOST_ID)
    until: int = Field(default=0, ge=0, le=MOST_ID)
    query: Text = Field(default="", max_length=500)
    everything: bool = False
    dry_run: bool = Field(default=True, description="Only say what would go.")


class Forgotten(BaseModel):
    """What would go, or went."""

    dry_run: bool
    total: int
    counts: dict[str, int]
    messages: int


def memory_router(memory: MemoryActions) -> APIRouter:
    """Routes below `/api/v1/memory`."""
    router = APIRouter(prefix="/api/v1/memory", tags=["memory"])

    @router.get("/places")
    async def places(who: Caller) -> Items[Place]:
        """Memories that the caller may see. Right: memory.own; memory.manage for all."""
        return Items(items=await memory.places(who))

    @router.get("")
    async def rows(
        who: Caller,
        place: InPlace = MINE,
        kind: Annotated[Text, Query(max_length=20)] = "",
        history: bool = False,
        before: Before = None,
        limit: Limit = 50,
    ) -> Items[Item]:
        """Rows of a memory, newest first. Right: memory.own."""
        found = await memory.items(who, place, kind=kind, before=before, history=history, limit=limit)
        return page(found, limit)

    @router.post("/search")
    async def search(who: Caller, body: Search) -> Items[FoundItem]:
        """What the agent would find, with each part of the score. Right: memory.own."""
        return Items(items=await memory.search(who, body.place, body.query, limit=body.limit))

    @router.post("", status_code=201)
    async def remember(who: Caller, body: NewMemory) -> Made:
        """Keep a fact. Right: memory.own."""
        return Made(id=await memory.add(who, body.place, body.text))

    @router.delete("/{id:int}")
    async def drop(who: Caller, id: Number, place: InPlace = MINE) -> Forgotten:
        """Forget one row for good, with its echoes. Right: memory.own."""
        gone = await memory.forget(who, place, Wish(ids=(id,)))
        if not gone.total:
            raise NotFound("memory.no_row")
        return _said(gone, dry=False)

    @router.post("/forget")
    async def forget(who: Caller, body: Forgetting) -> Forgotten:
        """Forget for good what fits; first without doing it, unless told otherwise. Right: memory.own."""
        wish = Wish(
            ids=tuple(body.ids),
            person=body.person,
            source=body.source,
            since=body.since,
            until=body.until,
            query=body.query,
            everything=body.everything,
        )
        if body.dry_run:
            return _said(await memory.preview(who, body.place, wish), dry=True)
        return _said(await memory.forget(who, body.place, wish), dry=False)

    return router


def _said(found: Preview, *, dry: bool) -> Forgotten:
    return Forgotten(dry_run=dry, total=found.total, counts=found.counts, messages=found.messages)
