"""An answer shown while it is written: in a card that grows, or by a sign under the question.

One owner: all changes of one card are made in order, by its own task and then by whoever ends it. A card is always
brought to an end; the message that carries it has the key of the answer, so that after a crash there is still one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import orjson

from channels.feishu.address import Address
from channels.feishu.cardkit import CardKit
from channels.feishu.client import FeishuClient, Posted
from channels.feishu.render import Body, safe, split
from storage.background import Background
from storage.envelope import Outgoing
from storage.errors import AppError, OutcomeUnknown, Rejected, Throttled, Unavailable

log = logging.getLogger(__name__)

MOST_CARDS = 100  # at once; more answers than that are sent whole, so that the vendor's limits are left for them
MOST_SHOWN = 12_000
CLOSED = "feishu.300309"
DISORDER = "feishu.300317"
REFUSED_CARD = frozenset({"feishu.230099", "feishu.230001", "feishu.230025", "feishu.refused", DISORDER})


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamPace:
    """Seconds.

    Attributes:
        first: before a card is opened: a quick answer needs none.
        every: between two looks at the text; the vendor allows ten changes a second for a card.
        apart: between two changes of all cards together: half of what the vendor allows an app.
        reopen: the vendor closes a card for writing ten minutes after it was opened.
    """

    first: float = 0.6
    every: float = 0.35
    apart: float = 0.04
    reopen: float = 540.0
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)


class _Card:
    """One card that is being written."""

    def __init__(self, streams: CardStreams, job: int, to: Address, text: Callable[[], str]) -> None:
        self.streams, self.job, self.to, self._text = streams, job, to, text
        self.stop = asyncio.Event()
        self.message = self.card = ""
        self.number = 0
        self.shown = ""

    async def run(self) -> None:
        """Open, then show what is there, until stopped. Errors end the showing; the ending is `finish`'s."""
        pace = self.streams.pace
        try:
            text = ""
            wait = pace.first
            while not text:
                if await self._stopped(wait):
                    return
                text, wait = self._now(), pace.every
            await self._open(text)
            while not await self._stopped(self.streams.every()):
                await self._show(self._now())
        except AppError as error:
            log.info("the card of job %s is shown no further: %s", self.job, error)

    def next(self) -> int:
        """The number of the next change."""
        self.number = self.streams.kit.number(self.number)
        return self.number

    def _now(self) -> str:
        """What the first message of the answer would say now."""
        text = self._text()[:MOST_SHOWN]
        return safe(split(Outgoing(kind="answer", text=text))[0].text) if text.strip() else ""

    async def _open(self, text: str) -> None:
        kit, clock = self.streams.kit, self.streams.kit.clock
        self.card = await kit.create(text)
        self._opened = clock.monotonic()
        content = orjson.dumps({"type": "card", "data": {"card_id": self.card}}).decode()
        body = Body(kind="interactive", content=content)
        posted = await self.streams.client.post(body, self.to, key_of(self.job))
        self.message, self.shown = posted.id, text
        if posted.again:  # if it was sent before a restart, that card is the one that people see
            mine, self.card = self.card, ""
            self.card = await kit.of_message(posted.id)
            if self.card != mine:
                await kit.streaming(self.card, self.next(), on=True)
                self.shown = ""

    async def _show(self, text: str) -> None:
        if not text or text == self.shown:
            return
        kit = self.streams.kit
        try:
            if kit.clock.monotonic() - self._opened >= self.streams.pace.reopen:
                await self._reopen()
            await kit.write(self.card, text, self.next())
        except Throttled as error:
            await self.streams.pace.sleep(min(error.retry_after, 5.0))
            return
        except Rejected as error:
            if error.code != CLOSED:
                raise
            await self._reopen()
            return
        self.shown = text

    async def _reopen(self) -> None:
        await self.streams.kit.streaming(self.card, self.next(), on=True)
        self._opened = self.streams.kit.clock.monotonic()

    async def _stopped(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        except TimeoutError:
            return False
        return True


class CardStreams:
    """The growing cards of one bot, by job."""

    def __init__(self, client: FeishuClient, kit: CardKit, background: Background, pace: StreamPace) -> None:
        self.client, self.kit, self.background, self.pace = client, kit, background, pace
        self._open: dict[int, tuple[_Card, asyncio.Task[None]]] = {}

    def begin(self, job: int, to: Address, text: Callable[[], str]) -> None:
        """Watch a job's text and show it. Returns at once; once for each job."""
        if job in self._open or len(self._open) >= MOST_CARDS:
            return
        card = _Card(self, job, to, text)
        self._open[job] = (card, self.background.spawn(f"feishu card {job}", card.run()))

    def every(self) -> float:
        """Seconds between two changes of one card, with so many open."""
        return max(self.pace.every, self.pace.apart * len(self._open))

    async def finish(self, job: int, out: Outgoing, written: Callable[[], None]) -> str | None:
        """Bring a job's card to its end with the final text.

        Returns:
            The id of the message with the card; None if the job has no card; empty if the vendor did not take the
            final form: the card is withdrawn then, and its key used up.

        Raises:
            Throttled, Unavailable: try again; the card is still there then.
        """
        card = await self._ended(job)
        if card is None or not card.message:
            # without a message there may still be one, if the answer was lost: the key shows it when it is said plainly
            self._open.pop(job, None)
            return None
        if not card.card:
            card.card = await self.kit.of_message(card.message)
        if not await self._replace(card, out, written):
            self._open.pop(job, None)
            return ""
        self._open.pop(job, None)
        return card.message

    async def adopt(self, posted: Posted, out: Outgoing) -> None:
        """The answer's key may have been used already: if a card stands there, it gets the whole answer.

        Raises:
            Throttled, Unavailable: try again.
        """
        try:
            card_id = await self.kit.of_message(posted.id)
        except (Rejected, OutcomeUnknown):
            return  # a message without a card: it is the answer itself, sent before
        card = _Card(self, 0, Address(message=posted.id), lambda: "")
        card.card, card.message = card_id, posted.id
        await self._replace(card, out, lambda: None)

    async def abandon(self, job: int) -> None:
        """End the card of a job that says nothing more: what was shown stays, an empty card is taken back."""
        card = await self._ended(job)
        self._open.pop(job, None)
        if card is None or not card.message:
            return
        with suppress(AppError):
            if card.shown and card.card:
                await self._replace(card, Outgoing(kind="answer", text=card.shown), lambda: None)
            else:
                await self.kit.recall(card.message)

    async def rest(self, job: int) -> None:
        """Let a job's card stand still, closed for writing; its answer takes its place later."""
        card = await self._ended(job)
        if card is None or not card.message:
            self._open.pop(job, None)
        elif card.shown and card.card:
            with suppress(AppError):
                await self._replace(card, Outgoing(kind="answer", text=card.shown), lambda: None)

    async def stop(self) -> None:
        """Stop showing. Cards stay as they are and are ended after the restart."""
        tasks = [task for _, task in self._open.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)
        self._open.clear()

    async def _ended(self, job: int) -> _Card | None:
        known = self._open.get(job)
        if known is None:
            return None
        card, task = known
        card.stop.set()
        await asyncio.wait([task])
        return card

    async def _replace(self, card: _Card, out: Outgoing, written: Callable[[], None]) -> bool:
        """Close the card for writing and give it its final form. False if the vendor does not take that form."""
        try:
            with suppress(Rejected):  # it may be closed already
                await self.kit.streaming(card.card, card.next(), on=False)
            try:
                await self.kit.replace(card.card, out, card.next(), written)
            except Rejected as error:
                if error.code not in REFUSED_CARD:
                    raise
                plain = replace(out, text=f"```\n{out.text}\n```", buttons=())
                await self.kit.replace(card.card, plain, card.next(), written)
        except OutcomeUnknown as error:  # a change may be repeated with a higher number
            raise Unavailable("feishu.no_answer", cause=error.code) from error
        except Rejected as error:
            log.info("a card could not be given its final form: %s", error)
            with suppress(AppError):
                await self.kit.recall(card.message)
            return False
        return True


def key_of(job: int) -> str:
    """The key of a job's first message, whole or in pieces."""
    return f"{job}-0"


__all__ = ["CardStreams", "StreamPace", "key_of"]
