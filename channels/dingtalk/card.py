"""The AI card: an answer shown while it is written. Source: protocols.md 2.4, "AI card (streaming)".

One owner: all calls for one card are made by its own task, in order. A card is always brought to an end.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic import BaseModel, Field, ValidationError

from channels.dingtalk.address import Address
from channels.dingtalk.client import DingTalkClient
from channels.dingtalk.render import MOST_CHARACTERS, markdown
from storage.background import Background
from storage.errors import AppError, OutcomeUnknown, Rejected, Throttled, Unavailable

log = logging.getLogger(__name__)

PROCESSING, WRITING, FINISHED, FAILED = "1", "2", "3", "5"
MOST_CARDS = 2000
LONGEST = 900.0  # seconds that a card is shown; longer than any job runs


class _Delivered(BaseModel):
    success: bool = False
    errorMsg: str = ""


class _Result(BaseModel):
    deliverResults: list[_Delivered] = Field(default_factory=list)


class _Created(BaseModel):
    result: _Result = Field(default_factory=_Result)


@dataclass(frozen=True, kw_only=True, slots=True)
class CardPace:
    """Seconds. A free edition counts every update against a monthly quota, so long answers are shown less often."""

    first: float = 0.4
    later: float = 1.5
    after: int = 20
    throttled: float = 2.0
    apart: float = 0.05  # between any two calls of one app
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)


class CardCalls:
    """The calls of one app's cards, at most 20 a second together."""

    def __init__(self, client: DingTalkClient, pace: CardPace) -> None:
        self.client, self.settings, self.pace = client, client.settings, pace
        self._turn = asyncio.Lock()

    async def open(self, track: str, to: Address) -> None:
        """Make a card and deliver it, empty. Raises `AppError`; `Rejected` if it reached nobody."""
        settings = self.settings
        body: dict[str, object] = {
            "cardTemplateId": settings.card_template_id,
            "outTrackId": track,
            "callbackType": "STREAM",
            "cardData": {"cardParamMap": {settings.card_key: "", "flowStatus": PROCESSING}},
            "imGroupOpenSpaceModel": {"supportForward": True},
            "imRobotOpenSpaceModel": {"supportForward": True},
            "userIdType": 1,
        }
        if to.kind == "group":
            body["openSpaceId"] = f"dtv1.card//IM_GROUP.{to.conversation}"
            body["imGroupOpenDeliverModel"] = {"robotCode": settings.robot_code}
        elif to.staff:
            body["openSpaceId"] = f"dtv1.card//IM_ROBOT.{to.staff}"
            body["imRobotOpenDeliverModel"] = {"spaceType": "IM_ROBOT", "robotCode": settings.robot_code}
        else:
            raise Rejected("dingtalk.person")
        answer = await self._call("POST", "/v1.0/card/instances/createAndDeliver", body)
        try:
            results = _Created.model_validate(answer).result.deliverResults
        except ValidationError as error:
            raise OutcomeUnknown("dingtalk.no_receipt") from error
        if not results or not all(one.success for one in results):
            words = next((one.errorMsg for one in results if not one.success), "")
            raise Rejected("dingtalk.card_undelivered", words[:200])

    async def check(self, track: str) -> None:
        """Make a card that is delivered to nobody: proves template and permission. Raises `AppError`."""
        params = {self.settings.card_key: "", "flowStatus": FINISHED}
        body: dict[str, object] = {
            "cardTemplateId": self.settings.card_template_id,
            "outTrackId": track,
            "callbackType": "STREAM",
            "cardData": {"cardParamMap": params},
        }
        await self._call("POST", "/v1.0/card/instances", body)

    async def state(self, track: str, flow: str, text: str | None = None) -> None:
        """Set the card's state, and its text where one is given. Safe to repeat."""
        params = {"flowStatus": flow}
        if text is not None:
            params[self.settings.card_key] = markdown(text)
        body: dict[str, object] = {
            "outTrackId": track,
            "cardData": {"cardParamMap": params},
            "cardUpdateOptions": {"updateCardDataByKey": True},
        }
        await self._call("PUT", "/v1.0/card/instances", body)

    async def write(self, track: str, text: str, *, final: bool = False, failed: bool = False) -> None:
        """Replace the card's text by the whole text so far. Safe to repeat."""
        body: dict[str, object] = {
            "outTrackId": track,
            "guid": secrets.token_hex(16),
            "key": self.settings.card_key,
            "content": markdown(text),
            "isFull": True,
            "isFinalize": final,
            "isError": failed,
        }
        await self._call("PUT", "/v1.0/card/streaming", body)

    async def _call(self, method: str, path: str, body: dict[str, object]) -> dict[str, object]:
        async with self._turn:
            await self.pace.sleep(self.pace.apart)
        return await self.client.call(method, path, body)


class _Card:
    """One card that is being written."""

    def __init__(self, calls: CardCalls, track: str, text: Callable[[], str]) -> None:
        self.calls, self.track, self._text = calls, track, text
        self._shown, self._frames = "", 0
        self.stop = asyncio.Event()
        self.opened = False

    @property
    def shown(self) -> str:
        """What people see."""
        return self._shown

    async def run(self, to: Address) -> None:
        """Open, then show what is there, until stopped. Errors end the showing; the ending is `finish`'s."""
        try:
            self.opened = await self._opened(to)
            async with asyncio.timeout(LONGEST):
                while not self.stop.is_set():
                    await self._wait()
                    await self._show()
        except TimeoutError:
            return
        except AppError as error:
            log.info("card %s is shown no further: %s", self.track, error)

    async def _opened(self, to: Address) -> bool:
        """True if there is a card, or may be one: then it is to be ended."""
        try:
            await self.calls.open(self.track, to)
        except OutcomeUnknown:
            self.stop.set()
        except Rejected:
            # perhaps the job began before a restart, and so did its card
            with suppress(OutcomeUnknown):
                await self.calls.state(self.track, WRITING)
        return True

    async def _wait(self) -> None:
        pace = self.calls.pace
        seconds = pace.first if self._frames < pace.after else pace.later
        try:
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        except TimeoutError:
            return

    async def _show(self) -> None:
        text = self._text()[:MOST_CHARACTERS]
        if self.stop.is_set() or not text or text == self._shown:
            return
        try:
            if not self._frames:
                await self.calls.state(self.track, WRITING)
            await self.calls.write(self.track, text)
        except Throttled:
            await self.calls.pace.sleep(self.calls.pace.throttled)
            return
        self._shown, self._frames = text, self._frames + 1


class Cards:
    """The cards of one bot, by job."""

    def __init__(self, calls: CardCalls, background: Background, bot_id: int) -> None:
        self.calls, self.background, self.bot_id = calls, background, bot_id
        self._open: dict[int, tuple[_Card, asyncio.Task[None]]] = {}
        self._without: dict[int, None] = {}

    def track(self, job: int) -> str:
        """The card's id, the same after a restart."""
        return f"zhixing-{self.bot_id}-{job}"

    def begin(self, job: int, to: Address, text: Callable[[], str]) -> None:
        """Open a card for a job and show its text as it grows. Returns at once; once for each job."""
        if len(self._open) >= MOST_CARDS:
            self._open = {n: known for n, known in self._open.items() if not known[1].done()}
        if job in self._open or len(self._open) >= MOST_CARDS:
            return
        card = _Card(self.calls, self.track(job), text)
        self._open[job] = (card, self.background.spawn(f"card {job}", card.run(to)))

    async def finish(self, job: int, text: str, *, failed: bool = False) -> str | None:
        """Bring a job's card to its end with the final text, and return its id; None if the job has no card.

        Safe to repeat.

        Raises:
            Throttled, Unavailable: try again.
        """
        known = self._open.get(job)
        if known is not None:
            card, task = known
            card.stop.set()
            await asyncio.wait([task])
            if not card.opened:
                self._open.pop(job, None)
                self._remember(job)
                return None
        elif job in self._without:
            return None
        try:
            await self._end(self.track(job), text, failed=failed)
        except OutcomeUnknown as error:
            raise Unavailable("dingtalk.busy", vendor=error.code, request="") from error
        except Rejected:
            self._open.pop(job, None)
            self._remember(job)
            return None
        self._open.pop(job, None)
        self._remember(job)
        return self.track(job)

    async def _end(self, track: str, text: str, *, failed: bool) -> None:
        # it may be final already, after an answer that was lost: then the state decides
        with suppress(Rejected):
            await self.calls.write(track, text, final=True, failed=failed)
        await self.calls.state(track, FAILED if failed else FINISHED, text)

    def _remember(self, job: int) -> None:
        """A job whose card has ended, or that never had one: its next message is a message."""
        self._without[job] = None
        while len(self._without) > MOST_CARDS:
            self._without.pop(next(iter(self._without)))

    async def rest(self, job: int) -> None:
        """Let a job's card stand still; its answer takes its place later."""
        known = self._open.get(job)
        if known is None:
            return
        card, task = known
        card.stop.set()
        await asyncio.wait([task])
        if card.opened:
            with suppress(AppError):
                await self._end(self.track(job), card.shown or "…", failed=False)

    async def stop(self) -> None:
        """Stop showing. Cards stay as they are and are ended after the restart."""
        tasks = [task for _, task in self._open.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)
        self._open.clear()
