"""The tools by which a person makes, sees and ends their own schedules in a chat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import Field
from sqlalchemy import Connection, select

from agent.schedules.actions import ScheduleActions
from agent.schedules.cron import ZONE, parse, zone_of
from agent.schedules.draft import ScheduleDraft, Task
from agent.schedules.plain import read_plain
from agent.schedules.say import said
from agent.schedules.views import ScheduleView
from agent.tools.base import Args, Tool, ToolContext, ToolResult
from storage.errors import AppError, Conflict, Invalid
from storage.ledger import conversation_t
from storage.principal import SYSTEM, Principal, principal
from storage.words import Words

SCHEDULE_TOOLS = ("schedule", "schedules")
MOST_NAME = 30


class ScheduleArgs(Args):
    when: str = Field(
        description="When, in the person's own words or as a cron expression: 每天早上9点, 每月最后一个工作日 18:00, "
        "tomorrow at 3pm, in 20 minutes",
        min_length=1,
        max_length=200,
    )
    what: str = Field(description="The reminder's text, or what is to be done then", min_length=1, max_length=2000)
    think: bool = Field(
        default=False, description="True if you must do it then (look something up, write); False to send the text"
    )


class SchedulesArgs(Args):
    remove: str = Field(default="", description="Name of the schedule to end; empty to list them", max_length=80)


@dataclass(frozen=True, slots=True)
class ScheduleTools:
    """Both tools over the same use cases. `actions` is asked for late: it is built after the tools."""

    actions: Callable[[], ScheduleActions]
    words: Words

    def tools(self) -> list[Tool]:
        """`schedule`, `schedules`."""
        return [
            Tool(
                name=SCHEDULE_TOOLS[0],
                description="Remind the person of something, or do something for them, once or again and again. "
                "The result is sent to this conversation.",
                args=ScheduleArgs,
                run=self._add,
                effect="write",
                repeatable=False,
            ),
            Tool(
                name=SCHEDULE_TOOLS[1],
                description="List the schedules that the person made here, or end one of them.",
                args=SchedulesArgs,
                run=self._list,
                effect="write",
            ),
        ]

    async def _add(self, ctx: ToolContext, args: ScheduleArgs) -> ToolResult:
        actions = self.actions()
        now = datetime.fromtimestamp(actions.clock.ms() / 1000, UTC).astimezone(zone_of(ZONE))
        try:
            expression = _expression(args.when, now)
            key, address = await _place(actions, ctx)
            draft = ScheduleDraft(
                name=await self._name(actions, args.what),
                kind="prompt" if args.think else "message",
                expression=expression,
                task=Task(text=args.what),
                bot=ctx.bot,
            )
            made = await actions.save_from_chat(_who(ctx), draft, address=address, conversation=key, origin=ctx.origin)
        except AppError as error:
            if error.code.startswith("db."):
                raise
            return ToolResult(text=self._wrong(ctx.lang, error), ok=False)
        return ToolResult(text=self._told(ctx.lang, made))

    async def _list(self, ctx: ToolContext, args: SchedulesArgs) -> ToolResult:
        actions, who = self.actions(), _who(ctx)
        mine = [row for row in await actions.views.list(SYSTEM) if row.owner == who.id and row.from_chat]
        if args.remove:
            wanted = args.remove.strip()
            found = [row for row in mine if row.name == wanted] or [row for row in mine if wanted in row.name]
            if len(found) != 1:
                return ToolResult(text=f"{len(found)} schedules match {wanted!r}", ok=False)
            await actions.remove_from_chat(who, found[0].name)
            return ToolResult(text=self.words.say(ctx.lang, "schedule.tool.removed", name=found[0].name))
        if not mine:
            return ToolResult(text=self.words.say(ctx.lang, "schedule.tool.none"))
        return ToolResult(text="\n".join(f"- {self._told(ctx.lang, row)}" for row in mine[:50]))

    async def _name(self, actions: ScheduleActions, what: str) -> str:
        base = "".join(ch if ch.isalnum() or ch in " -_" else " " for ch in what)
        base = " ".join(base.split())[:MOST_NAME].strip(" -_") or "reminder"
        taken = {row.name for row in await actions.views.list(SYSTEM)}
        return next(name for n in range(1, len(taken) + 2) if (name := base if n == 1 else f"{base} {n}") not in taken)

    def _told(self, lang: str, row: ScheduleView) -> str:
        when = said(self.words, lang, row.draft.expression) or row.draft.expression
        following = "–"
        if row.next_at is not None:
            local = datetime.fromtimestamp(row.next_at / 1000, UTC).astimezone(zone_of(row.draft.zone))
            following = f"{local:%Y-%m-%d %H:%M}"
        return self.words.say(lang, "schedule.tool.made", name=row.name, when=when, next=following)

    def _wrong(self, lang: str, error: AppError) -> str:
        key = f"error.{error.code}"
        if not self.words.has(lang, key):
            return str(error)
        remedy = self.words.say(lang, f"{key}.remedy", **error.params)
        return f"{self.words.say(lang, key, **error.params)} {remedy}"


def _expression(when: str, now: datetime) -> str:
    """Words, or an expression as it is."""
    try:
        return read_plain(when, now)
    except Invalid as error:
        try:
            return parse(when).text
        except Invalid:
            raise error from None


async def _place(actions: ScheduleActions, ctx: ToolContext) -> tuple[str, str]:
    """Key and address of the conversation."""

    def fn(c: Connection) -> tuple[str, str]:
        query = select(conversation_t.c.key, conversation_t.c.address)
        row = c.execute(query.where(conversation_t.c.id == ctx.conversation_id)).first()
        if row is None:
            raise Conflict("schedule.outside")
        return row.key, row.address

    return await actions.db.read(fn)


def _who(ctx: ToolContext) -> Principal:
    """Whoever asked, with what everybody may: what they make answers only where they asked."""
    return principal(id=ctx.person, name=ctx.person_name or ctx.person, role="member", tenant=ctx.tenant, lang=ctx.lang)
