"""Tasks from other programs: entered once, watched, cancelled. The REST and the OpenAI-compatible API call these."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

from sqlalchemy import Connection, and_, insert, select
from sqlalchemy.exc import IntegrityError

from agent.actions import MOST_CHARS, MOST_PAGE, origin_of, stop_job
from agent.task_view import UNNAMED, TaskRow, TaskView, job_seen, rows_of, task_t, view_of_task
from agent.task_watch import Following, TaskEvent, read_mark
from security.target import read_url
from storage.clock import Clock
from storage.database import Database, new_id
from storage.envelope import Inbound, Origin, Part
from storage.errors import Conflict, Invalid, NotFound
from storage.ledger import OPEN, Ledger, conversation_t, job_t
from storage.live import Live
from storage.principal import Principal
from storage.runner import Runner
from storage.vault import Vault
from storage.words import Words

BOT = "api"
MOST_NAME = 80
MOST_KEY = 200
MOST_URL = 2_000
SHORTEST_SECRET, LONGEST_SECRET = 16, 200
POLL = 2.0
PING = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskDraft:
    """What a program asks for.

    Attributes:
        conversation: a name of the caller's own; tasks of one name go on talking. Empty: a talk of its own.
        bot, target: through which bot the answer is also sent, and to whom, as the vendor names them.
        callback_url, callback_secret: where to post the ended task, signed.
    """

    text: str
    conversation: str = ""
    model: str = ""
    bot: str = ""
    target: str = ""
    callback_url: str = ""
    callback_secret: str = field(default="", repr=False)


class Destination(Protocol):
    """A bot's address for an answer."""

    @property
    def bot(self) -> str: ...
    @property
    def channel(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def model(self) -> str: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Where an answer goes that is only kept, for the client to fetch."""

    bot: str = BOT
    channel: str = "api"
    address: str = "{}"
    model: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskMade:
    """`fresh` is False if the same request had come before: then this is its task."""

    task: TaskView
    fresh: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Talk:
    """A conversation's key, and a hash of all that was said in it by the client."""

    key: str
    print: str


Resolve = Callable[[Principal, str, str], Awaitable[Destination]]


class TaskActions:
    """Use cases of the API around tasks. A principal sees its own, with trace.view all of its tenant.

    Args:
        destination: finds a bot's address; raises where the principal may not write there.
        models: refs of the models that can be asked for, by tenant.
    """

    def __init__(
        self,
        *,
        db: Database,
        vault: Vault,
        clock: Clock,
        ledger: Ledger,
        runner: Runner,
        live: Live,
        words: Words,
        destination: Resolve,
        models: Callable[[str], Sequence[str]],
    ) -> None:
        self.db, self.vault, self.clock, self.ledger = db, vault, clock, ledger
        self.runner, self.live, self.words = runner, live, words
        self.destination, self.models = destination, models
        self.on_callback: Callable[[], None] = lambda: None

    async def create(self, who: Principal, draft: TaskDraft, *, key: str = "", talk: Talk | None = None) -> TaskMade:
        """Enter a task. Right: chat.use; message.send where a bot is to send the answer.

        Args:
            key: the client's idempotency key: asked again with it, the same task is given back.
            talk: the conversation, where another use case has made it.

        Raises:
            Invalid: `message.*`, `task.*`, `egress.url`, with the field. NotFound: the bot. Denied.
            Conflict: `task.key_reused`, the key was used for something else. Unavailable: nothing was entered.
        """
        who.require("chat.use")
        self._check(who, draft, key)
        to = await self.destination(who, draft.bot, draft.target) if draft.bot else Kept()
        shown = hashlib.sha256(json.dumps([asdict(draft), talk and talk.print], sort_keys=True).encode()).hexdigest()
        hashed = hashed_key(key)
        unique = f"{who.id}:{hashed}"
        message = Inbound(
            tenant=who.tenant,
            bot=to.bot,
            channel=to.channel,
            keys=(f"api:{unique}",),
            vendor_id="",
            conversation=talk.key if talk else f"{who.id}/{draft.conversation or UNNAMED + hashed}",
            kind="direct",
            sender=who.id,
            sender_name=who.name,
            parts=(Part(kind="text", text=draft.text.strip()),),
            sent_at=self.clock.ms(),
            address=to.address,
            origin=origin_of(who) if who.id.startswith("user:") else Origin.USER,
            title=draft.conversation,
            model=draft.model or to.model,
        )
        try:
            await self.db.write(lambda c: self._keep(c, who, draft, hashed, shown, message))
        except IntegrityError:  # the same request came to another process in this moment
            await self.db.write(lambda c: self._keep(c, who, draft, hashed, shown, message))
        accepted = await self.ledger.accept(message)
        if draft.callback_url:
            self.on_callback()
        return TaskMade(task=await self.get(who, accepted.job_id), fresh=accepted.fresh)

    def _check(self, who: Principal, draft: TaskDraft, key: str) -> None:
        text = draft.text.strip()
        if not text:
            raise Invalid("message.empty", field="text")
        if len(text) > MOST_CHARS:
            raise Invalid("message.too_long", field="text", limit=MOST_CHARS)
        name = draft.conversation
        if name and (len(name) > MOST_NAME or not name.isprintable() or name != name.strip() or name[0] == UNNAMED):
            raise Invalid("task.conversation", field="conversation", most=MOST_NAME)
        if draft.model and draft.model not in self.models(who.tenant):
            raise Invalid("task.model", field="model", model=draft.model[:80])
        if draft.target and not draft.bot:
            raise Invalid("task.no_bot", field="bot")
        if key and (len(key) > MOST_KEY or not key.isascii() or not key.isprintable()):
            raise Invalid("task.key", field="Idempotency-Key", most=MOST_KEY)
        if draft.callback_url:
            try:
                _ = read_url(draft.callback_url if len(draft.callback_url) <= MOST_URL else "")
            except Invalid as error:
                raise Invalid(error.code, field="callback.url") from error
            if not SHORTEST_SECRET <= len(draft.callback_secret) <= LONGEST_SECRET:
                raise Invalid("task.secret", field="callback.secret", least=SHORTEST_SECRET, most=LONGEST_SECRET)

    def _keep(self, c: Connection, who: Principal, draft: TaskDraft, key: str, shown: str, message: Inbound) -> None:
        """Remember the request before it is entered; what was cut off in between is finished by the repetition."""
        mine = and_(task_t.c.tenant == who.tenant, task_t.c.caller == who.id, task_t.c.key == key)
        old = c.execute(select(task_t.c.print).where(mine)).first()
        if old is not None:
            if old.print != shown:
                raise Conflict("task.key_reused")
            return
        made = new_id(
            c.execute(
                insert(task_t).values(
                    tenant=who.tenant,
                    caller=who.id,
                    key=key,
                    print=shown,
                    job_key=f"{who.tenant}:{message.channel}:{message.bot}:{message.keys[0]}",
                    url=draft.callback_url,
                    # whoever may point a bot at any address in the company may have it called as well
                    private=bool(draft.callback_url) and who.may("bot.manage"),
                    callback="pending" if draft.callback_url else "",
                    created_at=self.clock.ms(),
                )
            )
        )
        if draft.callback_url:
            self.vault.seal(c, who.tenant, f"apitask:{made}", draft.callback_secret)

    async def known(self, who: Principal, key: str) -> int | None:
        """The task that was entered with this key, if there is one."""
        mine = and_(task_t.c.tenant == who.tenant, task_t.c.caller == who.id, task_t.c.key == hashed_key(key))
        query = select(job_t.c.id).join(task_t, task_t.c.job_key == job_t.c.key).where(mine)
        return await self.db.read(lambda c: c.execute(query).scalar()) if key else None

    # ---- seen

    async def get(self, who: Principal, job_id: int) -> TaskView:
        """One task. Right: chat.use. Raises: NotFound, also for what this principal may not see."""
        who.require("chat.use")

        def fn(c: Connection) -> TaskView:
            job = job_seen(c, who, job_id)
            if job is None:
                raise NotFound("job.unknown")
            return view_of_task(c, job)

        return await self.db.read(fn)

    async def list(
        self, who: Principal, *, everyone: bool = False, status: str = "", before: int | None = None, limit: int = 50
    ) -> list[TaskRow]:
        """Tasks, newest first; `before` is the id of the last one seen. Right: chat.use; trace.view for everyone's.

        Args:
            status: one state, or `open` for those that have not ended.
        """
        who.require("chat.use")
        if everyone:
            who.require("trace.view")
        query = select(job_t).where(job_t.c.tenant == who.tenant).order_by(job_t.c.id.desc())
        if not everyone:
            query = query.where(job_t.c.owner == who.id)
        if status:
            query = query.where(job_t.c.status.in_(OPEN) if status == "open" else job_t.c.status == status)
        if before is not None:
            query = query.where(job_t.c.id < before)
        return await self.db.read(lambda c: rows_of(c.execute(query.limit(max(1, min(limit, MOST_PAGE)))).all()))

    async def told(self, tenant: str, job_id: int) -> TaskView | None:
        """A task for its callback, whoever made it."""

        def fn(c: Connection) -> TaskView | None:
            job = c.execute(select(job_t).where(and_(job_t.c.id == job_id, job_t.c.tenant == tenant))).first()
            return None if job is None else view_of_task(c, job)

        return await self.db.read(fn)

    # ---- stopped

    async def cancel(self, who: Principal, job_id: int) -> TaskView:
        """Stop a task; one that has ended stays as it is. Right: chat.use for one's own, task.manage for others'.

        Safe to repeat. Raises: NotFound; Denied.
        """
        who.require("chat.use")
        job = await self.db.read(lambda c: job_seen(c, who, job_id))
        if job is None:
            raise NotFound("job.unknown")
        if job.owner != who.id:
            who.require("task.manage")
        if await stop_job(self.ledger, self.runner, self.live, self.words, who, job_id, job.conversation_id):
            self.on_callback()
        return await self.get(who, job_id)

    # ---- watched

    async def events(self, who: Principal, job_id: int, *, after: str = "") -> AsyncIterator[TaskEvent]:
        """What happens with a task until it ends, from the beginning or after an event's mark. Right: chat.use.

        The rows decide, what is live only makes it quick: a task that runs in another process is seen as well. A
        `ping` comes now and then, for the caller to see whether anybody still reads.

        Raises: NotFound.
        """
        mark, view = read_mark(after), await self.get(who, job_id)
        where = await self.db.read(
            lambda c: c.execute(
                select(conversation_t.c.id)
                .join(job_t, job_t.c.conversation_id == conversation_t.c.id)
                .where(job_t.c.id == job_id)
            ).scalar()
        )
        following = Following(self.live, where, job_id)
        try:
            so_far, status, quiet = self.live.text_so_far(job_id), "", 0.0
            if not mark.fits(so_far):
                mark.reset()
                yield TaskEvent(kind="reset", mark=str(mark))
            reset, text, fresh = False, so_far[mark.chars :], True
            while True:
                if reset and mark.chars:
                    mark.reset()
                    yield TaskEvent(kind="reset", mark=str(mark))
                if text:
                    mark.said(text)
                    yield TaskEvent(kind="text", mark=str(mark), data={"delta": text})
                if fresh:
                    view = await self.get(who, job_id)
                    if view.status != status and view.open:
                        status = view.status
                        yield TaskEvent(kind="status", mark=str(mark), data={"status": status})
                    for step in view.steps:
                        if step.n > mark.steps and step.status == "done":
                            mark.steps = step.n
                            yield TaskEvent(kind="step", mark=str(mark), data=asdict(step))
                    if not view.open:
                        yield TaskEvent(kind="end", mark=str(mark), data=asdict(view))
                        return
                heard = await following.wait(POLL)
                reset, text, fresh = following.take()
                fresh = fresh or not heard
                quiet = 0.0 if heard else quiet + POLL
                if quiet >= PING:
                    quiet = 0.0
                    yield TaskEvent(kind="ping")
        finally:
            following.stop()


def hashed_key(key: str) -> str:
    """A client's key as it is kept; a new one where it gave none."""
    return hashlib.sha256(key.encode()).hexdigest()[:40] if key else f"once-{secrets.token_hex(16)}"
