"""What a person may do in the playground. The page and the API call the same functions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from storage.clock import Clock
from storage.database import Database, new_id
from storage.envelope import Inbound, Origin, Outgoing, Part, parts_from_json
from storage.errors import Invalid, NotFound
from storage.ledger import LASTING, Accepted, Ledger, conversation_t, job_t, message_t, step_t
from storage.live import Listener, Live, LiveEvent
from storage.principal import Principal
from storage.runner import Runner
from storage.words import Words

BOT = "web"
MOST_CHARS = 20_000
MOST_PAGE = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationRow:
    """A conversation in a list."""

    id: int
    title: str
    updated_at: int
    model: str
    running: bool
    channel: str
    bot: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageRow:
    """A message with the state of its job."""

    id: int
    direction: str
    text: str
    parts: tuple[Part, ...]
    created_at: int
    job_id: int | None
    status: str
    reason: str
    model: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRow:
    """A recorded step. `request` and `result` are the recorded texts (JSON for most kinds)."""

    n: int
    name: str
    kind: str
    status: str
    request: str
    result: str
    started_at: int
    ended_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningView:
    """What a running job has shown so far; for a page that comes late or comes back."""

    job_id: int
    text: str
    status: str
    started_at: int
    steps: tuple[StepRow, ...]
    plan: tuple[dict[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatActions:
    """Conversations of the playground. A person sees only their own."""

    db: Database
    ledger: Ledger
    live: Live
    runner: Runner
    clock: Clock
    words: Words

    async def conversations(
        self, who: Principal, *, before: int | None = None, limit: int = 50, search: str = ""
    ) -> list[ConversationRow]:
        """The person's conversations, latest first. `before` is the `updated_at` of the last one seen.

        Right: chat.use.
        """
        who.require("chat.use")
        busy = select(job_t.c.id).where(
            and_(job_t.c.conversation_id == conversation_t.c.id, job_t.c.status.in_(LASTING))
        )
        query = (
            select(conversation_t, busy.exists().label("running"))
            .where(and_(_mine(who), conversation_t.c.hidden_at.is_(None)))
            .order_by(conversation_t.c.updated_at.desc(), conversation_t.c.id.desc())
            .limit(min(limit, MOST_PAGE))
        )
        if before is not None:
            query = query.where(conversation_t.c.updated_at < before)
        if search.strip():
            needle = f"%{_escaped(search.strip()[:100])}%"
            said = select(message_t.c.id).where(
                and_(message_t.c.conversation_id == conversation_t.c.id, message_t.c.text.like(needle, escape="\\"))
            )
            query = query.where(or_(conversation_t.c.title.like(needle, escape="\\"), said.exists()))
        rows = await self.db.read(lambda c: c.execute(query).all())
        return [
            ConversationRow(
                id=r.id,
                title=r.title,
                updated_at=r.updated_at,
                model=r.model,
                running=bool(r.running),
                channel=r.channel,
                bot=r.bot,
            )
            for r in rows
        ]

    async def create(self, who: Principal) -> int:
        """Make an empty conversation. An unused one is taken again instead of making another.

        Right: chat.use.
        """
        who.require("chat.use")
        now = self.clock.ms()

        def fn(c: Connection) -> int:
            used = select(message_t.c.id).where(message_t.c.conversation_id == conversation_t.c.id)
            empty = c.execute(
                select(conversation_t.c.id)
                .where(and_(_mine(who), conversation_t.c.hidden_at.is_(None), ~used.exists()))
                .limit(1)
            ).first()
            if empty is not None:
                c.execute(
                    update(conversation_t).where(conversation_t.c.id == empty.id).values(updated_at=now, model="")
                )
                return int(empty.id)
            count = c.execute(select(func.count()).select_from(conversation_t).where(_mine(who))).scalar_one()
            return new_id(
                c.execute(
                    insert(conversation_t).values(
                        tenant=who.tenant,
                        bot=BOT,
                        channel="web",
                        key=f"{who.id}/{count + 1}-{now}",
                        kind="direct",
                        person=who.id,
                        title="",
                        address="{}",
                        model="",
                        summary="",
                        state="open",
                        created_at=now,
                        updated_at=now,
                    )
                )
            )

        return await self.db.write(fn)

    async def messages(
        self, who: Principal, conversation_id: int, *, before: int | None = None, limit: int = 40
    ) -> list[MessageRow]:
        """Messages of a conversation, oldest first; the newest page unless `before` (a message id) is given.

        Right: chat.use. Raises: NotFound.
        """
        who.require("chat.use")

        def fn(c: Connection) -> list[MessageRow]:
            _own(c, who, conversation_id)
            query = (
                select(message_t, job_t.c.status, job_t.c.reason, job_t.c.model)
                .outerjoin(job_t, job_t.c.id == message_t.c.job_id)
                .where(message_t.c.conversation_id == conversation_id)
                .order_by(message_t.c.id.desc())
                .limit(min(limit, MOST_PAGE))
            )
            if before is not None:
                query = query.where(message_t.c.id < before)
            return [
                MessageRow(
                    id=r.id,
                    direction=r.direction,
                    text=r.text,
                    parts=parts_from_json(r.parts),
                    created_at=r.created_at,
                    job_id=r.job_id,
                    status=r.status or "",
                    reason=r.reason or "",
                    model=r.model or "",
                )
                for r in reversed(c.execute(query).all())
            ]

        return await self.db.read(fn)

    async def send(
        self,
        who: Principal,
        conversation_id: int,
        text: str,
        *,
        client_key: str,
        model: str = "",
        parts: tuple[Part, ...] = (),
    ) -> Accepted:
        """Say something. Safe to repeat with the same `client_key`: the second time nothing is written.

        Right: chat.use. Raises: Invalid, NotFound, Unavailable.
        """
        who.require("chat.use")
        text = text.strip()
        if not text and not parts:
            raise Invalid("message.empty", field="text")
        if len(text) > MOST_CHARS:
            raise Invalid("message.too_long", field="text", limit=MOST_CHARS)
        key = await self.db.read(lambda c: _own(c, who, conversation_id))
        accepted = await self.ledger.accept(
            Inbound(
                tenant=who.tenant,
                bot=BOT,
                channel="web",
                keys=(f"{who.id}:{client_key[:64]}",),
                vendor_id=client_key[:64],
                conversation=key,
                kind="direct",
                sender=who.id,
                sender_name=who.name,
                parts=((Part(kind="text", text=text),) if text else ()) + parts,
                origin=origin_of(who),
                model=model,
            )
        )
        if accepted.fresh:
            title = " ".join(text.split())[:40]
            await self.db.write(
                lambda c: c.execute(
                    update(conversation_t)
                    .where(and_(conversation_t.c.id == conversation_id, conversation_t.c.title == ""))
                    .values(title=title)
                ),
                durable=False,
            )
            self.live.publish(
                LiveEvent(
                    conversation=conversation_id,
                    job=accepted.job_id,
                    kind="job.queued",
                    data={"message_id": accepted.message_id},
                )
            )
        return accepted

    async def stop(self, who: Principal, conversation_id: int) -> bool:
        """Stop what is being answered. False if nothing was.

        Right: chat.use. Safe to repeat. Raises: NotFound.
        """
        who.require("chat.use")

        def fn(c: Connection) -> list[int]:
            _own(c, who, conversation_id)
            return [
                row.id
                for row in c.execute(
                    select(job_t.c.id).where(
                        and_(job_t.c.conversation_id == conversation_id, job_t.c.status.in_(LASTING))
                    )
                )
            ]

        stopped = False
        for job in await self.db.read(fn):
            stopped |= await stop_job(self.ledger, self.runner, self.live, self.words, who, job, conversation_id)
        return stopped

    async def retry(self, who: Principal, job_id: int) -> Accepted:
        """Ask the same again in the same conversation, as a new message.

        Right: chat.use. Raises: NotFound.
        """
        who.require("chat.use")

        def fn(c: Connection) -> tuple[int, str, int]:
            row = c.execute(
                select(job_t.c.conversation_id, message_t.c.text)
                .join(message_t, message_t.c.id == job_t.c.message_id)
                .where(and_(job_t.c.id == job_id, job_t.c.tenant == who.tenant))
            ).first()
            if row is None:
                raise NotFound("job.unknown")
            _own(c, who, row.conversation_id)
            again = c.execute(
                select(func.count()).select_from(message_t).where(message_t.c.conversation_id == row.conversation_id)
            ).scalar_one()
            return row.conversation_id, row.text, again

        conversation, text, count = await self.db.read(fn)
        return await self.send(who, conversation, text, client_key=f"retry-{job_id}-{count}")

    async def set_model(self, who: Principal, conversation_id: int, ref: str) -> None:
        """Answer this conversation with a certain model from now on; empty for the default.

        Right: chat.use. Raises: NotFound.
        """
        await self._change(who, conversation_id, model=ref[:200])

    async def rename(self, who: Principal, conversation_id: int, title: str) -> None:
        """Give a conversation another title. Right: chat.use. Raises: Invalid, NotFound."""
        if not title.strip():
            raise Invalid("message.empty", field="title")
        await self._change(who, conversation_id, title=" ".join(title.split())[:80])

    async def hide(self, who: Principal, conversation_id: int, *, undo: bool = False) -> None:
        """Take a conversation out of the list, or put it back. Right: chat.use. Raises: NotFound."""
        await self._change(who, conversation_id, hidden_at=None if undo else self.clock.ms())

    async def conversation(self, who: Principal, conversation_id: int) -> ConversationRow:
        """One conversation. Right: chat.use. Raises: NotFound."""
        who.require("chat.use")

        def fn(c: Connection) -> ConversationRow:
            _own(c, who, conversation_id)
            r = c.execute(select(conversation_t).where(conversation_t.c.id == conversation_id)).one()
            open_ = c.execute(
                select(job_t.c.id)
                .where(and_(job_t.c.conversation_id == conversation_id, job_t.c.status.in_(LASTING)))
                .limit(1)
            ).first()
            return ConversationRow(
                id=r.id,
                title=r.title,
                updated_at=r.updated_at,
                model=r.model,
                running=open_ is not None,
                channel=r.channel,
                bot=r.bot,
            )

        return await self.db.read(fn)

    async def running(self, who: Principal, conversation_id: int) -> RunningView | None:
        """The job that is being worked on or waits first in line, with what it has shown so far.

        Right: chat.use. Raises: NotFound.
        """
        who.require("chat.use")

        def fn(c: Connection) -> RunningView | None:
            _own(c, who, conversation_id)
            job = c.execute(
                select(job_t)
                .where(and_(job_t.c.conversation_id == conversation_id, job_t.c.status.in_(LASTING)))
                .order_by(job_t.c.id)
                .limit(1)
            ).first()
            if job is None:
                return None
            steps = steps_of(c, job.id)
            plans = [s for s in steps if s.kind == "tool" and s.name == "plan" and s.request]
            plan = tuple(json.loads(plans[-1].request).get("items", ())) if plans else ()
            return RunningView(
                job_id=job.id,
                text="",
                status=job.status,
                started_at=job.started_at or job.created_at,
                steps=tuple(steps),
                plan=plan,
            )

        view = await self.db.read(fn)
        if view is None:
            return None
        return RunningView(
            job_id=view.job_id,
            text=self.live.text_so_far(view.job_id),
            status=view.status,
            started_at=view.started_at,
            steps=view.steps,
            plan=view.plan,
        )

    async def watch(self, who: Principal, conversation_id: int, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every live event of the conversation. Returns the function that ends it.

        Right: chat.use. Raises: NotFound.
        """
        who.require("chat.use")
        await self.db.read(lambda c: _own(c, who, conversation_id))
        return self.live.watch(conversation_id, listener)

    async def steps(self, who: Principal, job_id: int) -> list[StepRow]:
        """The recorded steps of a job. Right: chat.use. Raises: NotFound."""
        who.require("chat.use")

        def fn(c: Connection) -> list[StepRow]:
            row = c.execute(
                select(job_t.c.conversation_id).where(and_(job_t.c.id == job_id, job_t.c.tenant == who.tenant))
            ).first()
            if row is None:
                raise NotFound("job.unknown")
            _own(c, who, row.conversation_id)
            return steps_of(c, job_id)

        return await self.db.read(fn)

    async def _change(self, who: Principal, conversation_id: int, **values: object) -> None:
        who.require("chat.use")

        def fn(c: Connection) -> None:
            _own(c, who, conversation_id)
            c.execute(update(conversation_t).where(conversation_t.c.id == conversation_id).values(**values))

        await self.db.write(fn)


def origin_of(who: Principal) -> Origin:
    """Trust label of what this person says in the panel."""
    return Origin.OWNER if who.role in ("owner", "admin") else Origin.USER


async def stop_job(
    ledger: Ledger, runner: Runner, live: Live, words: Words, who: Principal, job_id: int, conversation_id: int | None
) -> bool:
    """End an open job as cancelled, tell the conversation, and end its attempt in this process."""
    shown = live.text_so_far(job_id).strip()
    stopped = words.say(who.lang, "answer.stopped")
    said = (Outgoing(kind="notice", text=f"{shown}\n\n{stopped}" if shown else stopped),)
    if not await ledger.cancel(who.tenant, job_id, said, by=who.id):
        return False
    runner.stop(job_id)
    if conversation_id is not None:
        live.publish(
            LiveEvent(
                conversation=conversation_id,
                job=job_id,
                kind="job.ended",
                data={"status": "cancelled", "reason": "job.cancelled", "message_ids": []},
            )
        )
    return True


def steps_of(c: Connection, job_id: int) -> list[StepRow]:
    """Recorded steps in order."""
    return [
        StepRow(
            n=s.n,
            name=s.name,
            kind=s.kind,
            status=s.status,
            request=s.request,
            result=s.result,
            started_at=s.started_at,
            ended_at=s.ended_at,
        )
        for s in c.execute(select(step_t).where(step_t.c.job_id == job_id).order_by(step_t.c.n))
    ]


def _mine(who: Principal) -> ColumnElement[bool]:
    return and_(conversation_t.c.tenant == who.tenant, conversation_t.c.bot == BOT, conversation_t.c.person == who.id)


def _own(c: Connection, who: Principal, conversation_id: int) -> str:
    row = c.execute(
        select(conversation_t.c.key).where(and_(conversation_t.c.id == conversation_id, _mine(who)))
    ).first()
    if row is None:
        raise NotFound("conversation.unknown")
    return str(row.key)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


__all__ = ["ChatActions", "ConversationRow", "MessageRow", "RunningView", "StepRow", "stop_job"]
