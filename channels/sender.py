"""Empties the outbox: in order per conversation, conversations side by side, at the vendor's pace.

*Delivered* means that the vendor returned a message id. A send whose outcome cannot be known is repeated only where
the vendor drops a second one with the same key; otherwise it is shown as unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from channels.base import Channel
from channels.desk import Desk, Nap, backoff, nap
from channels.files import shelf
from channels.registry import Bots
from storage.background import Background
from storage.clock import Clock
from storage.envelope import Outgoing
from storage.errors import AppError, OutcomeUnknown, Throttled, Unavailable
from storage.ledger import DeliveryView
from storage.live import Live, LiveEvent
from storage.outbox import Outbox

log = logging.getLogger(__name__)

SAME_KEY_FOR = 50 * 60_000  # Feishu drops a repeated uuid for an hour
GIVE_UP_AFTER = 24 * 3_600_000
MOST_AT_ONCE = 32
LONGEST_ATTEMPT = 120.0
LONGEST_WAIT = 3600.0

Listener = Callable[[DeliveryView, str, int], None]


class _Task:
    """One delivery on its way.

    Attributes:
        maybe: an attempt may have reached the vendor: only the same key may follow, and not for ever.
        next_at: earliest next attempt, ms.
        since: begin of the time after which it is given up, ms.
    """

    __slots__ = ("fails", "maybe", "next_at", "out", "row", "since", "written_at")

    def __init__(self, row: DeliveryView, now: int) -> None:
        self.row = row
        self.since = row.committed_at if row.attempts else now
        self.maybe = row.status == "sending"
        self.next_at = row.next_at or 0
        self.fails = 0
        self.written_at = 0
        self.out: Outgoing | None = None


class Sender:
    """One for the process; bots and conversations do not wait for each other.

    `mine` tells whether this process may send a delivery now; `on_left` is told the id of each that it is done with.
    `on_sent` listeners are told of each receipt: (delivery, vendor id, ms at which its request was written).
    `on_ended` listeners are told of every other ending: (delivery, `failed` or `unknown`, ms).
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        bots: Bots,
        background: Background,
        clock: Clock,
        live: Live,
        nap: Nap = nap,
        most_at_once: int = MOST_AT_ONCE,
    ) -> None:
        self.outbox, self.bots, self.background, self.clock, self.live = outbox, bots, background, clock, live
        self.on_sent: list[Listener] = []
        self.on_ended: list[Listener] = []
        self.mine: Callable[[DeliveryView], bool] = lambda row: True
        self.on_left: Callable[[int], None] = lambda delivery: None
        self._nap, self._most = nap, most_at_once
        self._lanes: dict[tuple[str, str, str], deque[DeliveryView]] = {}
        self._desks: dict[tuple[str, str], Desk] = {}
        self._known: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._marks: dict[int, asyncio.Task[bool]] = {}
        self._early: list[DeliveryView] | None = None
        self._stopping = False
        bots.on_change(self.wake)

    # ---- life

    async def start(self) -> None:
        """Go on with what the outbox has open, in order, then with what was submitted meanwhile."""
        self._early = []
        try:
            rows = await self.outbox.open()
        finally:
            early, self._early = self._early, None
        known = {row.id for row in rows}
        self.submit([*rows, *(row for row in early if row.id not in known)])

    async def stop(self, seconds: float = 5.0) -> None:
        """Begin no further send and give those under way `seconds`. What does not end is judged at the next start."""
        self._stopping = True
        for desk in self._desks.values():
            desk.wake()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def waiting(self, bot: str | None = None) -> int:
        """Deliveries that are not sent yet, of one bot or all."""
        return sum(len(lane) for (_, name, _), lane in self._lanes.items() if bot is None or bot == name)

    def submit(self, rows: Sequence[DeliveryView]) -> None:
        """Deliveries have been committed. Returns at once."""
        if self._early is not None:
            self._early.extend(rows)
            return
        for row in rows:
            if row.id in self._known:
                continue
            self._known.add(row.id)
            key = (row.tenant, row.bot, row.lane)
            lane = self._lanes.get(key)
            if lane is not None:
                lane.append(row)
                continue
            self._lanes[key] = deque((row,))
            task = self.background.spawn(f"send {row.bot}", self._drain(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def wake(self, tenant: str, name: str) -> None:
        """Something about a bot has changed: what waits for it looks again."""
        if desk := self._desks.get((tenant, name)):
            desk.wake()

    def _desk(self, row: DeliveryView) -> Desk:
        key = (row.tenant, row.bot)
        desk = self._desks.get(key)
        if desk is None:
            desk = self._desks[key] = Desk(self.clock, self._nap, self._most)
        return desk

    async def _drain(self, key: tuple[str, str, str]) -> None:
        lane = self._lanes[key]
        try:
            while lane and not self._stopping:
                row = lane[0]
                more = await self._brought(_Task(row, self.clock.ms()))
                lane.popleft()
                self.on_left(row.id)
                self._known.discard(row.id)
                self._known.update(part.id for part in more)
                lane.extendleft(reversed(more))
        finally:
            del self._lanes[key]
            self._known.difference_update(row.id for row in lane)

    # ---- one delivery

    async def _brought(self, task: _Task) -> Sequence[DeliveryView]:
        """As `_deliver`; a defect of ours ends this delivery, not its conversation."""
        try:
            return await self._deliver(task)
        except Exception as error:
            log.exception("delivery %s failed", task.row.id)
            status = "unknown" if task.maybe or task.written_at else "failed"
            await self._end(task, status, "delivery.defect", f"delivery.defect (error={type(error).__name__})")
            return ()

    async def _deliver(self, task: _Task) -> Sequence[DeliveryView]:
        """Bring one delivery to its end. Returns its parts if it had to be split."""
        row, desk = task.row, self._desk(task.row)
        while not self._stopping and self.mine(row):
            if self.clock.ms() - task.since > GIVE_UP_AFTER:
                await self._end(task, "unknown" if task.maybe else "failed", "delivery.gave_up", "")
                return ()
            channel = self.bots.channel(row.tenant, row.bot)
            if channel is None:
                if self.bots.config(row.tenant, row.bot) is None:
                    await self._end(task, "failed", "delivery.no_bot", row.bot)
                    return ()
                _ = await desk.rest(LONGEST_WAIT)  # it could not start; an admin mends that
                task.next_at = 0
                continue
            if task.maybe and not (channel.idempotent and self.clock.ms() - row.committed_at < SAME_KEY_FOR):
                await self._end(task, "unknown", "delivery.cut", "")
                return ()
            wait = max(desk.held(row.lane), (task.next_at - self.clock.ms()) / 1000)
            if wait > 0:
                if await desk.rest(min(wait, LONGEST_WAIT)):
                    task.next_at = 0  # what was wrong may be mended
                continue
            parts = await self._parts(task, channel)
            if parts is not None:
                return parts
            if task.out is None:
                continue
            async with desk.turn(row.lane, channel.pace) as free:
                if not free or self._stopping or self.bots.channel(row.tenant, row.bot) is not channel:
                    continue
                if await self._attempt(task, channel, desk, task.out):
                    return ()
        return ()

    async def _parts(self, task: _Task, channel: Channel) -> Sequence[DeliveryView] | None:
        """The delivery's parts where it is too long for one message, made before its first attempt."""
        row = task.row
        if task.out is not None:
            return None
        out = Outgoing.from_json(row.payload)
        pieces = () if task.maybe or row.attempts else channel.split(out)
        if len(pieces) > 1:
            try:
                return await self.outbox.split(row, pieces)
            except Unavailable as error:
                log.warning("delivery %s waits: %s", row.id, error)
                task.next_at = self.clock.ms() + 1000
                return None
        if out.files and row.conversation_id is not None:  # named below the workspace; read below all workspaces
            folder = shelf(row.tenant, row.conversation_id)
            out = replace(out, files=tuple(f"{folder}/{path}" for path in out.files))
        task.out = out
        return None

    async def _attempt(self, task: _Task, channel: Channel, desk: Desk, out: Outgoing) -> bool:
        """Send once. True if the delivery has ended."""
        row, task.written_at = task.row, 0
        mark = self._marks[row.id] = self.background.spawn(f"mark {row.id}", self._mark(row, channel))
        # where the vendor drops a second message with the same key, the mark may be written while the request is
        if not channel.idempotent and not await mark:
            del self._marks[row.id]
            task.next_at = self.clock.ms() + 1000
            return False
        row = task.row = replace(row, attempts=row.attempts + 1)

        def written() -> None:
            task.written_at = self.clock.ms()

        failure: AppError
        try:
            async with asyncio.timeout(LONGEST_ATTEMPT):
                receipt = await channel.send(out, row.address, row.key, written)
        except AppError as error:
            failure = error
        except TimeoutError:
            failure = OutcomeUnknown("delivery.slow") if task.written_at else Unavailable("delivery.slow")
        else:
            desk.works()
            at = task.written_at or self.clock.ms()
            await self._record(row, lambda: self.outbox.delivered(row, receipt.vendor_id, at))
            self._tell(row, "delivered")
            for listener in self.on_sent:
                listener(row, receipt.vendor_id, at)
            return True
        return await self._failed(task, channel, desk, failure)

    async def _mark(self, row: DeliveryView, channel: Channel) -> bool:
        """Write that it is being sent. False if the database does not answer now."""
        try:
            await self.outbox.sending(row, durable=not channel.idempotent)
        except Unavailable as error:
            log.warning("delivery %s could not be marked: %s", row.id, error)
            return False
        return True

    async def _failed(self, task: _Task, channel: Channel, desk: Desk, error: AppError) -> bool:
        """Decide what a failure means. True if the delivery has ended."""
        if isinstance(error, Throttled):
            pause = min(max(error.retry_after, 0.2), LONGEST_WAIT)
            desk.hold(pause, task.row.lane if error.params.get("scope") == "lane" else "")
            await self._again(task, error, pause)
            return False
        if isinstance(error, OutcomeUnknown) and not channel.idempotent:
            return await self._end(task, "unknown", error.code, str(error))
        if isinstance(error, (OutcomeUnknown, Unavailable)):
            desk.failed()
            task.maybe = task.maybe or isinstance(error, OutcomeUnknown)
            await self._again(task, error, backoff(task.fails))
            return False
        desk.works()
        return await self._end(task, "failed", error.code, str(error))

    async def _again(self, task: _Task, error: AppError, pause: float) -> None:
        """Note why it waits. One that may have arrived stays marked as being sent, for a start after a crash."""
        row, at = task.row, self.clock.ms() + int(pause * 1000)
        task.fails, task.next_at = task.fails + 1, at
        pulse = self.bots.pulse(row.tenant, row.bot)
        if pulse is not None and not isinstance(error, Throttled):
            pulse.failed(error.code, **{key: str(value) for key, value in error.params.items()})
        if not task.maybe:
            await self._record(row, lambda: self.outbox.retry(row, at, error.code, str(error)))
        self._tell(row, "pending")

    async def _end(self, task: _Task, status: str, error: str, detail: str) -> bool:
        row = task.row
        ending = self.outbox.unknown if status == "unknown" else self.outbox.failed
        await self._record(row, lambda: ending(row, error, detail))
        self._tell(row, status)
        for listener in self.on_ended:
            listener(row, status, self.clock.ms())
        return True

    async def _record(self, row: DeliveryView, write: Callable[[], Awaitable[None]]) -> None:
        """Write what happened, however long the database does not answer: a send is never repeated for that."""
        if mark := self._marks.pop(row.id, None):
            _ = await mark  # never after what became of it
        while True:
            try:
                return await write()
            except Unavailable as error:
                log.warning("what became of delivery %s is not written yet: %s", row.id, error)
                if self._stopping:
                    return None
                _ = await self._desk(row).rest(1.0)

    def _tell(self, row: DeliveryView, status: str) -> None:
        if row.conversation_id is None:
            return
        data = {"delivery_id": row.id, "status": status}
        self.live.publish(LiveEvent(conversation=row.conversation_id, job=row.job_id, kind="delivery", data=data))
