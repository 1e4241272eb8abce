"""What bots are told of without being asked: each event becomes a delivery in the transaction of what happened.

No storms: the same cause is told once in a window, the rest is counted and told of when the window ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select, text, update

from channels.bot_draft import EVENTS
from channels.event_text import EventWords
from channels.registry import Bots
from channels.targets import address_of
from storage.background import Background
from storage.clock import Clock
from storage.database import Database
from storage.envelope import Outgoing
from storage.errors import AppError, Invalid
from storage.ledger import DeliveryView, Ledger, delivery_t, lane_of
from storage.outbox import put
from storage.tables.events import EventTemplate, EventWindow
from storage.words import LANGS, Words

log = logging.getLogger(__name__)

window_t = EventWindow.__table__  # type: ignore[attr-defined]
template_t = EventTemplate.__table__  # type: ignore[attr-defined]

EVERY = "*"
TICK = 5.0
MOST_CAUSES = 500
MOST_LAST = 2_000
LOCK_EVENTS = 7_300_301
DAY = 86_400_000
EVERY_MS = 600_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How often an event may be told: `burst` times for one cause in a window of `ms`, `most` times in all."""

    ms: int
    burst: int
    most: int
    quiet: bool = False  # say nothing of those held back


RULES = {
    "task.completed": Rule(ms=60_000, burst=20, most=20),
    "task.failed": Rule(ms=60_000, burst=20, most=20),
    "error.alert": Rule(ms=600_000, burst=1, most=20),
    "security.alert": Rule(ms=600_000, burst=1, most=20),
    "budget.warning": Rule(ms=32 * DAY, burst=1, most=50, quiet=True),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        name: one of `EVENTS`.
        cause: what makes two of them the same.
        data: what templates and machines are told; values may be `Say`.
        apart: a bot that is not told: the event is about its own sending.
    """

    tenant: str
    name: str
    cause: str
    data: Mapping[str, object] = field(default_factory=dict)
    apart: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscriber:
    """A bot that wants to be told."""

    bot: str
    type: str
    id: int
    address: str
    lane: str
    lang: str


class Events:
    """Tells subscribed bots. One for the process; nothing is told before `start`."""

    def __init__(
        self, *, db: Database, clock: Clock, ledger: Ledger, bots: Bots, background: Background, words: Words
    ) -> None:
        self.db, self.clock, self.ledger, self.bots, self.background = db, clock, ledger, bots, background
        self.words = EventWords(words)
        self._subscribers: dict[tuple[str, str], tuple[Subscriber, ...]] = {}
        self._raised: deque[Event] = deque(maxlen=1_000)
        self._written: deque[DeliveryView] = deque()
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due = 0
        self._task: asyncio.Task[None] | None = None
        bots.on_change(lambda tenant, name: self._subscribe())

    # ---- life

    async def start(self) -> None:
        """Begin to tell. Call it after the sender has begun and before jobs run."""
        self._loop = asyncio.get_running_loop()
        await self.reload()
        self._subscribe()
        self._task = self.background.spawn("events", self._run())

    async def stop(self) -> None:
        """Tell what was raised, then nothing more."""
        if self._task is None:
            return
        self._task.cancel()
        self._task = None
        try:
            await self._flush()
        except AppError as error:
            log.warning("events were not told: %s", error)
        self._subscribers = {}

    async def reload(self) -> None:
        """Read the templates after a change."""
        rows = await self.db.read(lambda c: c.execute(select(template_t)).all())
        self.words.templates = {(row.tenant, row.event, row.lang): row.text for row in rows}

    def _subscribe(self) -> None:
        if self._loop is None:
            return
        made: dict[tuple[str, str], list[Subscriber]] = {}
        for config in self.bots.all():
            if not config.events or config.paused:
                continue
            target = config.get("push_to")
            try:
                address = address_of(config.type, target)
            except Invalid as error:
                log.warning("bot %s has no place to push to: %s", config.name, error)
                continue
            subscriber = Subscriber(
                bot=config.name,
                type=config.type,
                id=config.id,
                address=address,
                lane=lane_of(config.tenant, config.name, f"push:{target}"),
                lang=config.get("push_lang", "zh_CN"),
            )
            for event in config.events:
                made.setdefault((config.tenant, event), []).append(subscriber)
        self._subscribers = {key: tuple(items) for key, items in made.items()}

    def subscribers(self, tenant: str, event: str) -> Sequence[Subscriber]:
        """The bots that are told of an event."""
        return self._subscribers.get((tenant, event), ())

    # ---- telling

    def write(self, c: Connection, event: Event) -> Sequence[DeliveryView]:
        """Tell within the transaction of what happened. The caller hands the rows on once they are committed."""
        listeners = [s for s in self.subscribers(event.tenant, event.name) if s.bot != event.apart]
        if not listeners:
            return ()
        if c.dialect.name == "postgresql":  # other processes count too; one at a time
            c.execute(text(f"SELECT pg_advisory_xact_lock({LOCK_EVENTS})"))
        now, rule = self.clock.ms(), RULES[event.name]
        cause = self._cause(c, event)
        every = self._window(c, event, EVERY, now, min(rule.ms, EVERY_MS))
        if every.told >= rule.most:
            return self._hold(c, event, every, now)
        window = every if cause == EVERY else self._window(c, event, cause, now, rule.ms)
        if window is not every and window.told >= rule.burst:
            return self._hold(c, event, window, now)
        for one in dict.fromkeys((every.cause, window.cause)):
            more = {"count": window_t.c.count + 1, "told": window_t.c.told + 1}
            c.execute(update(window_t).where(_at(event.tenant, event.name, one)).values(**more))
        key = f"{_short(window.cause)}:{window.begun_at}:{window.told}"
        made = []
        for s in listeners:
            document = self.words.document(event.name, s.lang, event.data, now)
            said = self.words.text(event.tenant, event.name, s.lang, document)
            made.append(self._push(c, s, event, f"{key}:{s.id}", said, document, now))
        return [row for row in made if row is not None]

    def raised(self, c: Connection, event: Event) -> None:
        """As `write`, where the caller cannot hand rows on: that is done once they are committed."""
        rows = self.write(c, event)
        if rows:
            self._written.extend(rows)
            self._wake()

    def tell(self, event: Event) -> None:
        """Tell of something that has no transaction of its own. From any thread; returns at once."""
        if self.subscribers(event.tenant, event.name):
            self._raised.append(event)
            self._wake()

    def _cause(self, c: Connection, event: Event) -> str:
        """The event's cause; all causes together where too many different ones are counted already."""
        cause = event.cause[:200] or EVERY
        if c.execute(select(window_t.c.count).where(_at(event.tenant, event.name, cause))).first() is not None:
            return cause
        mine = and_(window_t.c.tenant == event.tenant, window_t.c.event == event.name)
        known = c.execute(select(func.count()).select_from(window_t).where(mine)).scalar_one()
        return cause if known < MOST_CAUSES else EVERY

    def _window(self, c: Connection, event: Event, cause: str, now: int, length: int) -> Any:
        """The window that is open for a cause; a new one where the last is over."""
        here = _at(event.tenant, event.name, cause)
        row = c.execute(select(window_t).where(here)).first()
        if row is not None and row.until > now:
            return row
        if row is not None:
            self._written.extend(self._end(c, row, now))
        values = {"tenant": event.tenant, "event": event.name, "cause": cause, "begun_at": now, "until": now + length}
        c.execute(insert(window_t).values(**values, count=0, told=0, last="{}"))
        self._due = min(self._due, now + length)
        self._wake()
        return c.execute(select(window_t).where(here)).one()

    def _hold(self, c: Connection, event: Event, window: Any, now: int) -> tuple[()]:
        """Count it only; what it would have said is kept for the end of the window."""
        texts = {}
        for lang in LANGS:
            document = self.words.document(event.name, lang, event.data, now)
            texts[lang] = self.words.text(event.tenant, event.name, lang, document)[:MOST_LAST]
        values = {"count": window_t.c.count + 1, "last": json.dumps(texts, ensure_ascii=False)}
        c.execute(update(window_t).where(_at(event.tenant, event.name, window.cause)).values(**values))
        return ()

    def _push(
        self, c: Connection, s: Subscriber, event: Event, key: str, said: str, document: Mapping[str, object], now: int
    ) -> DeliveryView | None:
        address = s.address
        if s.type == "webhook":  # a machine may read it: it gets the values beside the words
            address = json.dumps({"event": event.name, "data": document}, ensure_ascii=False)
        return put(
            c,
            now,
            tenant=event.tenant,
            bot=s.bot,
            channel=s.type,
            lane=s.lane,
            key=f"event:{event.name}:{key}",
            address=address,
            out=Outgoing(kind="push", text=said, title=self.words.title(event.name, s.lang)),
            event=event.name,
        )

    def _end(self, c: Connection, row: Any, now: int) -> list[DeliveryView]:
        """End a window: tell how many more there were."""
        c.execute(delete(window_t).where(_at(row.tenant, row.event, row.cause)))
        held = row.count - row.told
        if held <= 0 or RULES[row.event].quiet:
            return []
        event = Event(tenant=row.tenant, name=row.event, cause=row.cause)
        last: dict[str, str] = json.loads(row.last)
        minutes = max(1, round((now - row.begun_at) / 60_000))
        made = []
        for s in self.subscribers(row.tenant, row.event):
            said = self.words.words.say(s.lang, "event.more", n=held, minutes=minutes) + "\n\n" + last.get(s.lang, "")
            document: dict[str, object] = {"more": held, "minutes": minutes}
            key = f"{_short(row.cause)}:{row.begun_at}:more:{s.id}"
            made.append(self._push(c, s, event, key, said.strip(), document, now))
        return [item for item in made if item is not None]

    # ---- in the background

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(TICK):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            try:
                await self._flush()
            except AppError as error:
                log.warning("events wait: %s", error)
                await asyncio.sleep(TICK)

    async def _flush(self) -> None:
        """Hand on what was committed, write what was raised, end windows that are over."""
        raised = [self._raised.popleft() for _ in range(min(len(self._raised), 100))]
        written = [self._written.popleft() for _ in range(len(self._written))]
        now = self.clock.ms()
        if not (raised or written or now >= self._due):
            return

        def fn(c: Connection) -> list[DeliveryView]:
            keys = [row.key for row in written]
            # a write that was undone has left nothing: only what stands there is handed on
            there = set(c.execute(select(delivery_t.c.key).where(delivery_t.c.key.in_(keys))).scalars()) if keys else ()
            rows = [row for row in written if row.key in there]
            for event in raised:
                rows += self.write(c, event)
            for row in c.execute(select(window_t).where(window_t.c.until <= now).limit(100)).all():
                rows += self._end(c, row, now)
            self._due = c.execute(select(func.min(window_t.c.until))).scalar() or now + DAY
            return rows

        try:
            rows = await self.db.write(fn)
        except AppError:
            self._raised.extendleft(reversed(raised))
            self._written.extendleft(reversed(written))
            raise
        if rows:
            self.ledger.on_deliveries(rows)
        if self._raised or self._written:
            self._woken.set()


def _at(tenant: str, event: str, cause: str) -> Any:
    return and_(window_t.c.tenant == tenant, window_t.c.event == event, window_t.c.cause == cause)


def _short(cause: str) -> str:
    return hashlib.sha256(cause.encode()).hexdigest()[:12]


__all__ = ["EVENTS", "Event", "Events", "Rule", "Subscriber"]
