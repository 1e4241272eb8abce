"""One browser tab on the chat page: which conversation it shows, and what it has been told about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from agent.actions import ChatActions, MessageRow
from agent.approval_actions import ApprovalActions
from agent.trace import TraceActions
from pages.chat_answer import RunningAnswer
from pages.chat_ask import ask_view
from pages.chat_models import Choices, is_demo, short
from pages.chat_reader import ChatReader
from pages.chat_rows import OPEN
from pages.chat_steps import plan_items, plan_of, recalled_items, recalled_of
from pages.visitor import Visitor
from storage.errors import AppError
from storage.live import LiveEvent

log = logging.getLogger(__name__)

PACE = 0.1
SLOWEST = 2.0
MOST_NEWS = 20_000

Take = Callable[..., None]


class ChatView:
    """Reads for one visitor and tells their browser through `take`; news of the open conversation come in order.

    Attributes:
        turn: counts the conversations opened; an act that began in an earlier turn is about another one.
        quiet: held while something must reach the browser before the news about it.
    """

    def __init__(
        self,
        v: Visitor,
        chat: ChatActions,
        trace: TraceActions,
        choices: Choices,
        approvals: ApprovalActions | None = None,
    ) -> None:
        self.v, self.who, self.chat, self.approvals = v, v.who, chat, approvals
        self.reader = ChatReader(v, chat, trace, choices)
        self.take: Take = lambda kind, **data: None
        self.conversation: int | None = None
        self.search = ""
        self.turn = 0
        self._unwatch: Callable[[], None] | None = None
        self.quiet = asyncio.Lock()
        self._joining = asyncio.Lock()
        self._count = 0
        self._news: list[tuple[int, LiveEvent]] = []
        self._lost = False
        self._woken = asyncio.Event()
        self._answers: dict[int, RunningAnswer] = {}
        self._known: dict[int, tuple[str, str]] = {}

    # ---- what is open

    async def first(self, conversation: int | None) -> dict[str, Any]:
        """What the page is made with: painted before the browser's first word. Raises: NotFound."""
        self.conversation = conversation
        return {**await self._read(conversation), "list": await self.reader.conversations("")}

    async def open(self, conversation: int | None) -> None:
        """Show another conversation, and follow it."""
        self.turn += 1
        turn = self.turn
        self.leave()
        self.conversation = conversation
        try:
            data = await self._read(conversation)
            if turn == self.turn:
                self.take("open", **data)
                await self.join()
        except AppError as error:
            what, remedy = self.v.explain(error)
            self.take("failed", id=conversation, what=what, remedy=remedy)

    async def _read(self, conversation: int | None) -> dict[str, Any]:
        if conversation is None:
            return await self.reader.nothing()
        data, rows = await self.reader.conversation(conversation)
        for row in rows:
            self.sent(row)
        return data

    async def needed(self) -> int:
        """The open conversation; a new one where none is open yet."""
        if self.conversation is None:
            turn, made = self.turn, await self.chat.create(self.who)
            if self.conversation is None and turn == self.turn:
                self.conversation = made
                self.take("made", id=made)
                await self.join()
            return made
        return self.conversation

    async def older(self, before: int) -> None:
        """Send the messages before one."""
        if self.conversation is not None:
            self.take("older", **await self.reader.older(self.conversation, before))

    async def send_list(self, before: int | None = None) -> None:
        """Send a page of the sidebar."""
        self.take("list", **await self.reader.conversations(self.search, before))

    # ---- following it

    async def join(self) -> None:
        """Follow the open conversation; again after a cut. Sends what the browser does not know yet."""
        conversation = self.conversation
        if conversation is None:
            return
        async with self._joining:  # two listeners would be one, and end together
            if self._unwatch is None:
                stop = await self.chat.watch(self.who, conversation, self._heard)
                if self.conversation != conversation:
                    return stop()
                self._unwatch = stop
            await self.sync()

    def leave(self) -> None:
        """Follow nothing."""
        if self._unwatch is not None:
            self._unwatch()
        self._unwatch = None
        self._news, self._answers, self._known, self._lost = [], {}, {}, False

    async def sync(self) -> None:
        """Send what the browser does not know yet of the open conversation, and the running answer whole."""
        if self.conversation is not None:
            ended = await self._changed(self.conversation)
            await self._running(self.conversation, ended)

    def sent(self, row: MessageRow) -> None:
        """The browser has been given this message in its present state."""
        self._known[row.id] = (row.status, row.reason)

    async def _changed(self, conversation: int) -> int | None:
        """Send messages that are new, or whose task's state changed since they were sent. The last task answered."""
        rows = await self.reader.newest(conversation)
        if conversation != self.conversation:
            return None
        fresh = [row for row in rows if self._known.get(row.id) != (row.status, row.reason)]
        for row in fresh:
            self.sent(row)
        if fresh:
            self.take("merge", id=conversation, items=await self.reader.messages(fresh))
        return next((row.job_id for row in reversed(fresh) if row.direction == "out"), None)

    async def _running(self, conversation: int, ended: int | None) -> None:
        view = await self.chat.running(self.who, conversation)
        if conversation != self.conversation:
            return
        if view is None:
            self._answers = {}
            pane = await self.reader.pane(ended) if ended is not None else {}
            return self.take("idle", id=conversation, pane=pane)
        # Nothing was awaited since the text was read: it holds all that was heard up to here.
        answer = RunningAnswer(self.v, view.job_id, view.text, view.steps, since=self._count)
        self._answers[view.job_id] = answer
        shown: dict[str, Any] = {
            "at": view.started_at,
            "plan": plan_of(view.steps) or plan_items(view.plan),
            "recalled": recalled_of(self.v, view.steps),
            "note": self.v.t("chat.message_queued") if view.status == "todo" else "",
            "ask": await self._asked(conversation, view.job_id) if view.status == "waiting" else None,
        }
        await self.reader.place(shown["recalled"])
        await self._show(conversation, answer, shown)

    async def _show(self, conversation: int, answer: RunningAnswer, shown: dict[str, Any]) -> None:
        patch = await answer.whole()
        if self._answers.get(answer.job) is not answer:
            return  # another one took its place meanwhile
        item = {"key": answer.key, "job": answer.job, "running": True, "steps": answer.lines, **shown}
        pane = {"job": answer.job, "plan": shown["plan"], "used": None}
        self.take("run", id=conversation, item=item, patch=patch, pane=pane)

    def _heard(self, event: LiveEvent) -> None:
        self._count += 1
        if len(self._news) < MOST_NEWS:
            self._news.append((self._count, event))
        else:
            self._lost = True
        self._woken.set()

    async def follow(self) -> None:
        """Send news as they come, at most every tenth of a second, slower where an answer is costly to render."""
        loop = asyncio.get_running_loop()
        while True:
            await self._woken.wait()
            self._woken.clear()
            began = loop.time()
            try:
                async with self.quiet:
                    await self._send_news()
            except AppError as error:
                log.warning("a viewer of conversation %s missed news: %s", self.conversation, error)
            await asyncio.sleep(min(SLOWEST, max(PACE, 8 * (loop.time() - began))))

    async def _send_news(self) -> None:
        news, self._news = self._news, []
        conversation = self.conversation
        if conversation is None:
            return
        if self._lost:
            self._lost = False
            return await self.sync()
        for n, event in news:
            if event.conversation == conversation == self.conversation:
                await self._tell(conversation, n, event)
        for answer in list(self._answers.values()):
            patch = await answer.patch()
            if patch is not None and self._answers.get(answer.job) is answer:
                self.take("grow", id=conversation, key=answer.key, patches=[patch])

    async def _tell(self, conversation: int, n: int, event: LiveEvent) -> None:
        if event.kind in ("job.queued", "message"):
            await self._changed(conversation)
            return
        if event.job is None:
            return
        if event.kind == "job.started":
            return await self._started(conversation, n, event.job)
        if event.kind == "job.ended":
            return await self._ended(conversation, event)
        answer = self._answers.get(event.job)
        if answer is None or (n <= answer.since and event.kind not in ("plan", "recall")):
            return
        if event.kind == "text":
            answer.hear(str(event.data.get("delta", "")))
        elif event.kind == "text.reset":
            answer.void()
            self.take("void", id=conversation, key=answer.key)
        elif event.kind == "ask":
            ask = await self._asked(conversation, event.job)
            self.take("part", id=conversation, key=answer.key, ask=ask, note="")
        elif (part := self._part(answer, event)) is not None:
            await self.reader.place(part.get("recalled", []))
            self.take("part", id=conversation, key=answer.key, **part)

    async def _started(self, conversation: int, n: int, job: int) -> None:
        known = self._answers.get(job)
        if known is not None and n <= known.since:
            return
        answer = self._answers[job] = RunningAnswer(self.v, job, "", (), since=n)
        await self._changed(conversation)
        await self._show(conversation, answer, {"at": 0, "plan": [], "recalled": [], "note": "", "ask": None})

    async def _asked(self, conversation: int, job: int) -> dict[str, Any] | None:
        """The act of a task that waits for a word, if there is one."""
        if self.approvals is None:
            return None
        found = await self.approvals.list(self.who, conversation=conversation)
        return next((ask_view(self.v, view) for view in found if view.job_id == job), None)

    def _part(self, answer: RunningAnswer, event: LiveEvent) -> dict[str, Any] | None:
        data = event.data
        if event.kind == "recall":
            return {"recalled": recalled_items(self.v, data.get("items"))}
        if event.kind == "plan":
            return {"plan": plan_items(data.get("items"))}
        if event.kind in ("tool.started", "tool.ended"):
            if data.get("name") == "plan":
                return None
            started = event.kind == "tool.started"
            return {"steps": [answer.tool_started(data) if started else answer.tool_ended(data)]}
        if event.kind == "thinking":
            return {"note": self.v.t("chat.thinking")}
        if event.kind == "switched" and data.get("code"):
            ref = str(data.get("ref", ""))
            return {"note": self.v.t("chat.switched", model=short(ref)), "demo": is_demo(ref, self.reader.models)}
        return None

    async def _ended(self, conversation: int, event: LiveEvent) -> None:
        job = event.job or 0
        self._answers.pop(job, None)
        rows = await self.reader.newest(conversation)
        for row in rows:
            self.sent(row)
        items = await self.reader.messages([row for row in rows if row.job_id == job])
        pane = await self.reader.pane(job)
        if conversation != self.conversation:
            return
        busy = any(row.status in OPEN for row in rows)
        status = str(event.data.get("status", ""))
        self.take("ended", id=conversation, job=job, items=items, pane=pane, running=busy, status=status)
        await self.send_list()
