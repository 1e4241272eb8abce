"""The agent loop: recall, then model and tools in turn, each a recorded step, until there is an answer.

The one place that executes tools.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from agent.aside import Answer
from agent.context import Asked, compacted, fitted, read_asked, said, tokens
from agent.memory.base import Recalled
from agent.memory.citing import with_sources
from agent.memory.newrow import FIRST_HAND
from agent.models.base import (
    BadToolCall,
    ChatMessage,
    Completed,
    ModelChoice,
    ModelRequest,
    Router,
    Spender,
    TextDelta,
    Thinking,
    ToolCall,
    ToolDefinition,
)
from agent.models.chain import Switched
from agent.permission import Permission
from agent.prompts import OUTSIDE, language_of, system_prompt
from agent.recollection import Recollection, scope_of, worst
from agent.summaries import Summaries
from agent.tools.base import Toolbox, ToolContext, ToolResult
from storage.envelope import Origin, Outgoing
from storage.errors import AppError, Conflict, Rejected, Unavailable
from storage.ledger import Ending, JobView
from storage.runner import Interrupted, Work
from storage.words import Words

log = logging.getLogger(__name__)

ANSWER_TOKENS = 4096  # of a model's window, kept free for what it says
SYSTEM_TOKENS = 3000  # what the system text with memories and a summary takes at most


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of one task. Reaching one ends the task with a reason that the sender is told."""

    model_calls: int = 12
    seconds: float = 300.0
    tokens: int = 200_000
    same_call: int = 3
    result_chars: int = 20_000


@dataclass(slots=True)
class Spent:
    """What a task has used so far."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    model: str = ""


class AgentLoop:
    """Answers one message. A `Handler` for jobs of kind `message`."""

    def __init__(
        self,
        *,
        router: Router,
        answer: Answer,
        toolbox: Toolbox,
        words: Words,
        files_dir: Path,
        recollection: Recollection | None = None,
        summaries: Summaries | None = None,
        limits: Limits | None = None,
        permission: Permission | None = None,
    ) -> None:
        self.router, self.answer, self.toolbox, self.words = router, answer, toolbox, words
        self.files_dir, self.recollection, self.summaries = files_dir, recollection, summaries
        self.limits, self.permission = limits or Limits(), permission

    # ---- the handler

    async def run(self, work: Work) -> Ending:
        job = work.job
        if job.message_id is None:
            raise Conflict("job.no_message")
        message_id = job.message_id
        asked = await work.ledger.db.read(lambda c: read_asked(c, message_id))
        before = asked.history
        lang = language_of(asked.text)
        scope = scope_of(job, asked)
        chain = self.router.chain(job.tenant, job.model)
        if not chain:
            raise Conflict("model.none")
        try:
            async with asyncio.timeout(self.limits.seconds):
                room = chain[0].model.context_tokens - ANSWER_TOKENS
                asked = fitted(asked, max(0, (room - SYSTEM_TOKENS - tokens(asked.text)) // 2))
                recalled: list[Recalled] = []
                memory = self.recollection
                if memory is not None:
                    confirmed = await memory.spoken_to(work, scope, asked, lang)
                    if confirmed is not None:
                        return confirmed
                    recalled = await memory.recall(work, scope, asked)
                    await memory.keep(job, scope, asked)
                ending, label = await self._turns(work, asked, lang, chain, recalled)
                if memory is not None and ending.say:
                    await memory.keep_answer(job, scope, asked, ending.say[0].text, label)
                if self.summaries is not None:
                    chars = len(asked.text) + sum(len(line.text) for say in (before, ending.say) for line in say)
                    self.summaries.notice(job, room, messages=len(before) + asked.unseen + 2, chars=chars)
                return ending
        except TimeoutError:
            raise Unavailable("task.time", seconds=int(self.limits.seconds)) from None
        except Interrupted as cut:
            text = self.words.say(lang, "answer.interrupted", tool=cut.name)
            return Ending(status="done", say=(Outgoing(kind="notice", text=text),), reason=cut.code)

    def excuse(self, job: JobView, error: AppError) -> Ending:
        lang = language_of(job.title)
        what = self.words.say(lang, f"error.{error.code}", **error.params)
        if what == f"error.{error.code}":
            what = self.words.say(lang, "error.unnamed", code=error.code)
        remedy = self.words.say(lang, f"error.{error.code}.remedy", **error.params)
        text = what if remedy.startswith("error.") else f"{what}\n{remedy}"
        refused = isinstance(error, Conflict) and error.code.startswith(("access.", "budget."))
        return Ending(
            status="refused" if refused else "failed",
            reason=error.code,
            detail=str(error),
            say=(Outgoing(kind="notice", text=self.words.say(lang, "answer.failed", reason=text)),),
        )

    # ---- its steps

    async def _turns(
        self, work: Work, asked: Asked, lang: str, chain: Sequence[ModelChoice], recalled: list[Recalled]
    ) -> tuple[Ending, str]:
        """The ending, and the worst label of what it was made from."""
        limits, spent = self.limits, Spent()
        now = datetime.fromtimestamp(asked.created_at / 1000, UTC).astimezone(ZoneInfo("Asia/Shanghai"))
        system = system_prompt(
            self.words,
            lang,
            now=f"{now:%Y-%m-%d %H:%M} Asia/Shanghai",
            person=asked.sender_name,
            recalled=recalled,
            summary=asked.summary,
            unseen=asked.unseen,
        )
        messages = [
            ChatMessage(role="system", text=system),
            *(ChatMessage(role=earlier.role, text=earlier.text) for earlier in asked.history),
            ChatMessage(role="user", text=said(asked, lang)),
        ]
        room = chain[0].model.context_tokens - ANSWER_TOKENS
        ctx = self._tool_context(work, asked, lang, recalled)
        repeats: Counter[str] = Counter()
        for turn in range(limits.model_calls):
            messages = compacted(messages, room)
            done = await self._ask(
                work, chain, messages, turn, spent, person=asked.person, last=turn == limits.model_calls - 1
            )
            if spent.tokens_in + spent.tokens_out > limits.tokens:
                raise Rejected("task.tokens", limit=limits.tokens)
            if not done.calls and not done.bad_calls:
                return self._ended(work, done, spent, lang, recalled), ctx.origin
            work.tell("text.reset")
            messages.append(ChatMessage(role="assistant", text=done.text, calls=done.calls))
            for bad in done.bad_calls:
                messages.append(ChatMessage(role="user", text=f"[tool call {bad.name!r} was not run: {bad.problem}]"))
            for call in done.calls:
                repeats[f"{call.name} {json.dumps(call.arguments, sort_keys=True)}"] += 1
                if max(repeats.values()) > limits.same_call:
                    raise Rejected("task.loop", tool=call.name)
                result = await self._call(work, ctx, call)
                if result.origin == Origin.OUTSIDE:
                    ctx = _tainted(ctx)
                messages.append(ChatMessage(role="tool", text=_told(result, lang), call_id=call.id, name=call.name))
        raise Rejected("task.steps", limit=limits.model_calls)

    async def _ask(
        self,
        work: Work,
        chain: Sequence[ModelChoice],
        messages: list[ChatMessage],
        turn: int,
        spent: Spent,
        *,
        person: str,
        last: bool,
    ) -> Completed:
        job = work.job
        request = ModelRequest(
            messages=tuple(messages),
            tools=() if last else self._tools(job.tenant),
            user=job.lane,
            spender=Spender(tenant=job.tenant, bot=job.bot, person=person, job_id=job.id),
        )
        prices = {choice.ref: choice for choice in chain}

        async def call() -> str:
            ref, done = chain[0].ref, None
            async for event in self.answer(chain, request):
                if isinstance(event, TextDelta):
                    work.ledger.crash.reached("model.streaming")
                    work.tell("text", delta=event.text)
                elif isinstance(event, Switched):
                    ref = event.ref
                    work.tell("text.reset")
                    if event.error_code:  # empty: the same model goes on, what it said so far was a thought
                        work.tell("switched", ref=event.ref, code=event.error_code)
                elif isinstance(event, Thinking):
                    work.tell("thinking", chars=event.chars)
                else:
                    done = event
            if done is None:
                raise Unavailable("model.broken")
            return json.dumps({**asdict(done), "ref": ref}, ensure_ascii=False)

        raw = json.loads(await work.step(f"model {turn + 1}", "model", call, request=chain[0].ref))
        choice = prices.get(raw.pop("ref"), chain[0])
        raw["calls"] = tuple(ToolCall(**item) for item in raw["calls"])
        raw["bad_calls"] = tuple(BadToolCall(**item) for item in raw["bad_calls"])
        done = Completed(**raw)
        spent.model = choice.ref
        spent.tokens_in += done.tokens_in
        spent.tokens_out += done.tokens_out
        spent.cost += (done.tokens_in * choice.price_in + done.tokens_out * choice.price_out) / 1_000_000
        return done

    def _tools(self, tenant: str) -> tuple[ToolDefinition, ...]:
        """The tools that the model is told of."""
        every = self.toolbox.definitions
        return every if self.permission is None else self.permission.offered(tenant, every)

    async def _call(self, work: Work, ctx: ToolContext, call: ToolCall) -> ToolResult:
        tool = self.toolbox.get(call.name)
        request = json.dumps(call.arguments, ensure_ascii=False)
        refusal: str | None = None
        if self.permission is not None and tool is not None:
            refusal = await self.permission.refusal(work, ctx, tool, call.arguments)
        work.tell("tool.started", id=call.id, name=call.name, args=call.arguments)
        started = work.ledger.clock.monotonic()

        async def act() -> str:
            if tool is None:
                names = ", ".join(t.name for t in self.toolbox.all())
                return _result(ToolResult(text=f"there is no tool {call.name!r}; there are: {names}", ok=False))
            if refusal is not None:
                return _result(ToolResult(text=refusal, ok=False))
            try:
                args = tool.args.model_validate(call.arguments)
            except ValidationError as error:
                problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
                return _result(ToolResult(text=f"wrong arguments, nothing was done: {problems}", ok=False))
            try:
                async with asyncio.timeout(tool.timeout):
                    return _result(await tool.run(ctx, args))
            except TimeoutError:
                return _result(ToolResult(text=f"gave up after {tool.timeout:.0f} s", ok=False))
            except AppError as error:
                if error.code.startswith("db."):
                    raise
                return _result(ToolResult(text=f"failed: {error}", ok=False))

        repeatable = tool.repeatable if tool is not None else True
        raw = json.loads(await work.step(call.name, "tool", act, request=request, repeatable=repeatable))
        result = ToolResult(**raw)
        took = int((work.ledger.clock.monotonic() - started) * 1000)
        work.tell("tool.ended", id=call.id, name=call.name, ok=result.ok, result=result.text[:2000], ms=took)
        return result

    # ---- the end

    def _ended(self, work: Work, done: Completed, spent: Spent, lang: str, recalled: list[Recalled]) -> Ending:
        text = done.text.strip()
        if done.stop == "filtered" and not text:
            raise Rejected("model.filtered")
        if not text:
            text = self.words.say(lang, "answer.empty")
        text = with_sources(self.words, lang, text, recalled)
        if done.stop == "length":
            text += "\n\n" + self.words.say(lang, "answer.cut")
        return Ending(
            say=(Outgoing(kind="answer", text=text),),
            model=spent.model,
            tokens_in=spent.tokens_in,
            tokens_out=spent.tokens_out,
            cost=spent.cost,
        )

    def _tool_context(self, work: Work, asked: Asked, lang: str, recalled: list[Recalled]) -> ToolContext:
        job = work.job
        return ToolContext(
            tenant=job.tenant,
            bot=job.bot,
            channel=job.channel,
            person=asked.person,
            person_name=asked.sender_name,
            group=asked.key if asked.kind == "group" else "",
            conversation_id=job.conversation_id or 0,
            message_id=job.message_id or 0,
            job_id=job.id,
            lang=lang,
            origin=worst([asked.origin, *(p.origin for p in asked.parts), *(item.label for item in recalled)]),
            said=asked.text if asked.origin in FIRST_HAND else "",
            workspace=self.files_dir / job.tenant / f"c{job.conversation_id}",
            tell=work.tell,
        )


def _tainted(ctx: ToolContext) -> ToolContext:
    return replace(ctx, origin=str(Origin.OUTSIDE))


def _result(result: ToolResult) -> str:
    return json.dumps({"text": result.text[:20_000], "ok": result.ok, "origin": result.origin}, ensure_ascii=False)


def _told(result: ToolResult, lang: str) -> str:
    if result.origin != Origin.OUTSIDE:
        return result.text if result.ok else f"[failed] {result.text}"
    return f"[{OUTSIDE[lang]}]\n{result.text}\n[/{OUTSIDE[lang]}]"
