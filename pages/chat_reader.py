"""What the chat page reads, in the form that its browser shows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from agent.actions import ChatActions, MessageRow, StepRow
from agent.models.actions import ModelRef
from agent.sources import conversations_of
from agent.trace import TraceActions
from pages.chat_models import Choices, model_views
from pages.chat_rows import conversation_view, message_views, pane_view
from pages.chat_steps import add_sources, source_ids
from pages.visitor import Visitor
from storage.errors import AppError, NotFound

log = logging.getLogger(__name__)

PAGE = 40
ROWS = 50


class ChatReader:
    """Reads for one visitor. `models` are those that could be chosen when a conversation was read last."""

    def __init__(self, v: Visitor, chat: ChatActions, trace: TraceActions, choices: Choices) -> None:
        self.v, self.who, self.chat, self.trace, self.choices = v, v.who, chat, trace, choices
        self.models: Sequence[ModelRef] = ()

    async def conversations(self, search: str, before: int | None = None) -> dict[str, Any]:
        """A page of the sidebar. One in which nothing was said yet has no place there."""
        rows = await self.chat.conversations(self.who, before=before, limit=ROWS, search=search)
        return {
            "rows": [conversation_view(row) for row in rows if row.title or row.running],
            "more": len(rows) == ROWS,
            "search": search,
            "append": before is not None,
        }

    async def nothing(self) -> dict[str, Any]:
        """The page before anything was said."""
        self.models = await self.choices(self.who)
        current = {"id": None, "title": "", "model": ""}
        models = model_views(self.v, self.models)
        return {"current": current, "models": models, "items": [], "more": False, "phase": "empty", "pane": {}}

    async def conversation(self, conversation: int) -> tuple[dict[str, Any], list[MessageRow]]:
        """A conversation with its newest messages. Raises: NotFound."""
        self.models = await self.choices(self.who)
        row = await self.chat.conversation(self.who, conversation)
        rows = await self.newest(conversation)
        last = next((row.job_id for row in reversed(rows) if row.job_id is not None), None)
        return {
            "current": {"id": row.id, "title": row.title, "model": row.model},
            "models": model_views(self.v, self.models, row.model),
            "items": await self.messages(rows),
            "more": len(rows) == PAGE,
            "phase": "shown" if rows else "empty",
            "pane": await self.pane(last) if last is not None else {},
        }, rows

    async def newest(self, conversation: int) -> list[MessageRow]:
        """The newest page of messages."""
        return await self.chat.messages(self.who, conversation, limit=PAGE)

    async def older(self, conversation: int, before: int) -> dict[str, Any]:
        """The page of messages before one."""
        rows = await self.chat.messages(self.who, conversation, before=before, limit=PAGE)
        return {"id": conversation, "items": await self.messages(rows), "more": len(rows) == PAGE}

    async def messages(self, rows: list[MessageRow]) -> list[dict[str, Any]]:
        """Messages with what was done for the answers among them."""
        jobs = sorted({row.job_id for row in rows if row.direction == "out" and row.job_id is not None})
        found = await asyncio.gather(*(self._steps(job) for job in jobs))
        views = await message_views(self.v, rows, dict(zip(jobs, found, strict=True)), self.models)
        await self.place([item for view in views for item in view.get("recalled", [])])
        return views

    async def place(self, recalled: Sequence[dict[str, Any]]) -> None:
        """Say where recalled memories were said."""
        if ids := source_ids(recalled):
            add_sources(recalled, await conversations_of(self.chat.db, self.who, ids))

    async def pane(self, job: int) -> dict[str, Any]:
        """Plan and usage of a task; nothing where they cannot be read."""
        try:
            return pane_view(self.v, await self.trace.trace(self.who, job))
        except AppError as error:
            log.info("no figures for task %s: %s", job, error)
            return {}

    async def conversation_of(self, job: int) -> int | None:
        """The conversation of one of the visitor's tasks."""
        return (await self.trace.trace(self.who, job)).conversation_id

    async def _steps(self, job: int) -> list[StepRow]:
        try:
            return await self.chat.steps(self.who, job)
        except NotFound:
            return []
