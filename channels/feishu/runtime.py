"""A running Feishu bot: what comes in by callback or long connection, what goes out by the open API."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from channels.base import Accept, BotConfig, Pace, ProbeResult, RawRequest, RawResponse
from channels.feishu import render
from channels.feishu.address import Address, target
from channels.feishu.cardkit import CardKit
from channels.feishu.client import FeishuClient, Posted
from channels.feishu.inbound import inbound
from channels.feishu.media import download, file_message, quoted
from channels.feishu.press import CARD, click_of, toast
from channels.feishu.probe import probe
from channels.feishu.seal import Seal
from channels.feishu.settings import FeishuSettings, settings_of
from channels.feishu.socket import FeishuSocket
from channels.feishu.stream import CardStreams, StreamPace, key_of
from channels.feishu.typing import TypingSigns
from channels.feishu.wire import Challenge, Event, open_request
from channels.hooks import Click, Hooks
from channels.line import Line, Timing
from security.egress import Egress
from storage.clock import Clock
from storage.envelope import Inbound, Outgoing, Part, Receipt
from storage.errors import AppError, Conflict, Invalid, Rejected

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = logging.getLogger(__name__)

# published: 50 a second and 1,000 a minute for an app, 5 a second for one chat
VENDOR_PACE = Pace(count=50, seconds=1.0, per_lane_count=5, per_lane_seconds=1.0)
NO_PACE = Pace(count=0, seconds=1.0)
REFUSED_CARD = frozenset({"feishu.230099", "feishu.230001", "feishu.230025"})
IDENTITY_AGAIN = 30.0
CLICK_SECONDS = 2.0
QUOTE_SECONDS = 1.0
MOST_PRESSES = 2_000
JOB = re.compile(r"([0-9]{1,18})-0(?:\.0)?")  # key of a job's first message, or of the first piece of it


class FeishuChannel:
    """One bot. `idempotent`: Feishu drops a second message with the same `uuid` within an hour."""

    idempotent = True

    def __init__(
        self,
        config: BotConfig,
        settings: FeishuSettings,
        egress: Egress,
        clock: Clock,
        accept: Accept,
        hooks: Hooks,
        timing: Timing | None = None,
        stream_pace: StreamPace | None = None,
    ) -> None:
        self.timing = timing
        self.config, self.settings, self.clock, self.accept, self.hooks = config, settings, clock, accept, hooks
        self.client = FeishuClient(settings, egress, clock, hooks.background)
        self.pace = VENDOR_PACE if settings.vendor else NO_PACE  # limits are the vendor's, not of a test server
        self.seal = Seal(settings.encrypt_key)
        self.self_id = ""
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        self._line: Line | None = None
        self._presses: dict[str, None] = {}
        stream_pace = stream_pace or StreamPace()
        self._typing = TypingSigns(self.client, hooks.background, stream_pace.first)
        self._cards: CardStreams | None = None
        if settings.stream:
            kit = CardKit(self.client, clock)
            self._cards = CardStreams(self.client, kit, hooks.background, stream_pace)

    # ---- life

    async def start(self) -> None:
        self._identify()
        if self.config.mode == "webhook":
            self.hooks.pulse.connection = "waiting"
            return
        socket = FeishuSocket(self.client, self.clock, self.handle, self._later)
        line = Line(
            name=self.config.name,
            open=socket.open,
            hear=socket.hear,
            beat=lambda live: self._beat(line, socket, live),
            pulse=self.hooks.pulse,
            background=self.hooks.background,
            timing=self.timing,
        )
        self._line = line
        line.start()

    async def stop(self) -> None:
        if self._line is not None:
            await self._line.stop()
            self._line = None
        if self._asking is not None:
            self._asking.cancel()
        self._typing.stop()
        if self._cards is not None:
            await self._cards.stop()
        self.hooks.pulse.connection = "off"

    @staticmethod
    async def _beat(line: Line, socket: FeishuSocket, live: ClientConnection) -> None:
        await line.ping(live)
        await socket.beat(live)

    # ---- in

    async def receive(self, request: RawRequest) -> RawResponse:
        if self.config.mode != "webhook":
            raise Conflict("feishu.not_callback")
        opened = open_request(request, self.settings, self.seal, self.clock.ms())
        if isinstance(opened, Challenge):
            self.hooks.pulse.came_in()
            return RawResponse(status=200, body=opened.answer())
        return RawResponse(status=200, body=orjson.dumps(await self.handle(opened)))

    async def handle(self, event: Event) -> dict[str, object]:
        """Accept one verified event; what the vendor is to be answered. Raises `Unavailable`: do not acknowledge."""
        self.hooks.pulse.came_in()
        if event.type == CARD:
            return await self._pressed(event)
        if event.type in ("im.message.receive_v1", "message"):
            if not self.self_id:
                self._identify()
            message = inbound(
                event, self.settings, tenant=self.config.tenant, bot=self.config.name, self_id=self.self_id
            )
            if message is not None:
                await self.accept(await self._with_quotes(message))
        return {}

    async def _with_quotes(self, message: Inbound) -> Inbound:
        """The message with what it quotes; without it if the vendor does not tell in time."""
        if not any(part.kind == "quote" for part in message.parts):
            return message
        parts: list[Part] = []
        for part in message.parts:
            text = ""
            if part.kind == "quote":
                try:
                    async with asyncio.timeout(QUOTE_SECONDS):
                        text = await quoted(self.client, part.key)
                except (AppError, TimeoutError) as error:
                    log.info("a quoted message could not be read: %r", error)
            parts.append(replace(part, text=text) if text else part)
        return replace(message, parts=tuple(parts))

    async def fetch(self, part: Part) -> bytes:
        """The bytes of an attachment that somebody sent.

        Raises:
            Rejected: gone. TooLarge. Throttled, Unavailable: try again.
        """
        return await download(self.client, part)

    async def _pressed(self, event: Event) -> dict[str, object]:
        """Tell who decides about the button. The vendor waits three seconds; what takes longer goes on without it."""
        if event.id in self._presses:
            return {}
        while len(self._presses) >= MOST_PRESSES:
            self._presses.pop(next(iter(self._presses)))
        self._presses[event.id] = None
        click = click_of(event, self.config)
        if click is None:
            return {}
        deciding = self.hooks.background.spawn(f"click {self.config.name}", self._decide(click))
        try:
            async with asyncio.timeout(CLICK_SECONDS):
                return toast(await asyncio.shield(deciding))
        except TimeoutError:
            return {}

    async def _decide(self, click: Click) -> str:
        try:
            return await self.hooks.clicked(click)
        except AppError as error:
            log.info("a pressed button had no effect: %s", error)
            return ""

    def _later(self, work: Coroutine[None, None, None]) -> None:
        _ = self.hooks.background.spawn(f"feishu event {self.config.name}", work)

    # ---- out

    def split(self, out: Outgoing) -> Sequence[Outgoing]:
        return render.split(out)

    def address(self, text: str) -> str:
        """The address of a chat, person or mail address, for pushes. Raises `Invalid`."""
        return target(text).to_json()

    async def send(self, out: Outgoing, address: str, key: str, written: Callable[[], None]) -> Receipt:
        where = Address.from_json(address)
        job = JOB.fullmatch(key)
        if job:
            self._typing.end(int(job[1]))
        if job and self._cards is not None and not out.files:
            key = key_of(int(job[1]))
            shown = await self._cards.finish(int(job[1]), out, written)
            if shown:
                self.hooks.pulse.went_out()
                return Receipt(vendor_id=shown)
            if shown is not None:
                key = f"{key}.m"
        posted = await self._post(out, where, key, written)
        if job and self._cards is not None and posted.again and not out.files:
            await self._cards.adopt(posted, out)
        self.hooks.pulse.went_out()
        return Receipt(vendor_id=posted.id)

    async def _post(self, out: Outgoing, where: Address, key: str, written: Callable[[], None]) -> Posted:
        body = await self._file(out.files[0]) if out.files else render.render(out)
        try:
            return await self.client.post(body, where, key, written)
        except Rejected as error:
            if out.files or body.kind == "text" or error.code not in REFUSED_CARD:
                raise
            # surely refused, so nothing is said twice; the other key keeps a repeated fallback harmless too
            return await self.client.post(render.plain(out), where, f"{key}.t", written)

    async def _file(self, path: str) -> render.Body:
        try:
            data = await self.hooks.read(path)
        except OSError as error:
            raise Rejected("feishu.file_gone", type(error).__name__) from error
        return await file_message(self.client, path, data)

    # ---- an answer while it is written

    @property
    def streams(self) -> bool:
        """True: if not by a growing card, then a sign under the question tells that an answer comes."""
        return True

    def begin(self, job: int, address: str, text: Callable[[], str]) -> None:
        """A job has begun; `text` tells what is there so far. Returns at once."""
        try:
            where = Address.from_json(address)
        except Invalid:
            return  # a job that no message of ours began
        self._typing.begin(job, where)
        if self._cards is not None:
            self._cards.begin(job, where, text)

    async def abandon(self, job: int) -> None:
        """The job ended and says nothing."""
        self._typing.end(job)
        if self._cards is not None:
            await self._cards.abandon(job)

    async def rest(self, job: int) -> None:
        """The job waits for a person's word."""
        self._typing.end(job)
        if self._cards is not None:
            await self._cards.rest(job)

    # ---- proof

    def _identify(self) -> None:
        """Learn our own open_id in the background: callbacks do not wait for the vendor."""
        now = self.clock.monotonic()
        if (self._asking is None or self._asking.done()) and now - self._asked_at >= IDENTITY_AGAIN:
            self._asked_at = now
            self._asking = self.hooks.background.spawn(f"feishu identity {self.config.name}", self._ask())

    async def _ask(self) -> None:
        try:
            identity = await self.client.identity()
        except AppError as error:
            self.hooks.pulse.failed(error.code)
            return
        self.self_id = identity.open_id
        self.hooks.pulse.identified(identity.name)

    async def probe(self) -> list[ProbeResult]:
        return await probe(self.client, self.clock, self.config.mode, self.hooks.pulse)


def build(config: BotConfig, egress: Egress, clock: Clock, accept: Accept, hooks: Hooks) -> FeishuChannel:
    """A bot that is not started yet.

    Raises:
        Invalid: a setting is missing or wrong; `field` names it.
    """
    return FeishuChannel(config, settings_of(config, local=hooks.local), egress, clock, accept, hooks)
