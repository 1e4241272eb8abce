"""A running DingTalk bot: verified messages in, replies and pushes out. One handler behind HTTP callback and Stream."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from channels.base import Accept, BotConfig, Channel, Pace, ProbeResult, RawRequest, RawResponse
from channels.dingtalk import signature, wire
from channels.dingtalk.address import Address, target, trusted
from channels.dingtalk.card import CardCalls, CardPace, Cards
from channels.dingtalk.client import DingTalkClient
from channels.dingtalk.manifest import API_BASE, MANIFEST
from channels.dingtalk.media import download, file_message
from channels.dingtalk.press import click_of
from channels.dingtalk.probe import probe
from channels.dingtalk.render import Rendered, render, robot_body, split
from channels.dingtalk.settings import settings_of
from channels.dingtalk.stream import StreamWire
from channels.hooks import Click, Hooks
from channels.line import Line, Timing
from security.egress import Egress
from storage.clock import Clock
from storage.envelope import Outgoing, Part, Receipt
from storage.errors import AppError, Conflict, Invalid, Rejected, TooLarge

JOB = re.compile(r"([0-9]{1,18})-0(?:\.0)?")  # key of a job's first message, or of the first piece of it
MOST_SESSIONS = 5000
VENDORS = (API_BASE, "https://api.dingtalk.io")
VENDOR_PACE = Pace(count=20, seconds=1.0)  # about half of what an app was seen to be allowed
NO_PACE = Pace(count=0, seconds=1.0)  # limits are the vendor's, not of a test server
# refusals after which a session webhook may still carry the answer: the open API is not for us, or not yet
SESSION_HELPS = frozenset({"dingtalk.scope", "dingtalk.person", "dingtalk.robot_code", "dingtalk.group"})


class DingTalkChannel:
    """One app robot. Replies go through the open API, which returns a message id.

    The session webhook of a message is used only where the open API cannot reach the person, only while it holds,
    and only at the bot's own addresses.
    """

    idempotent = False  # DingTalk knows no idempotency key: a lost answer stays unknown

    def __init__(
        self,
        config: BotConfig,
        egress: Egress,
        clock: Clock,
        accept: Accept,
        hooks: Hooks,
        timing: Timing | None = None,
        card_pace: CardPace | None = None,
    ) -> None:
        self.config, self.egress, self.clock, self.accept, self.hooks = config, egress, clock, accept, hooks
        self.timing, self.card_pace = timing, card_pace or CardPace()
        self.pace = VENDOR_PACE if config.get("api_base", API_BASE).rstrip("/") in VENDORS else NO_PACE
        self._uses = signature.Uses()
        self._sessions: dict[str, tuple[str, int]] = {}
        self._client: DingTalkClient | None = None
        self._line: Line | None = None
        self._cards: Cards | None = None

    @property
    def client(self) -> DingTalkClient:
        """The API client, one for the life of the bot. Raises `Invalid` if the configuration is incomplete."""
        if self._client is None:
            self._client = DingTalkClient(settings_of(self.config, local=self.hooks.local), self.egress, self.clock)
        return self._client

    async def start(self) -> None:
        """Raises `Invalid`: `dingtalk.incomplete`, `dingtalk.base` or `dingtalk.mode`."""
        if self.config.mode not in MANIFEST.modes:
            raise Invalid("dingtalk.mode", field="mode", value=self.config.mode[:40])
        client = self.client
        if client.settings.card_template_id:
            self._cards = Cards(CardCalls(client, self.card_pace), self.hooks.background, self.config.id)
        if self.config.mode == "http":
            self.hooks.pulse.connection = "waiting"
            return
        wire_ = StreamWire(client, self._from_stream, self._pressed)
        self._line = Line(
            name=self.config.name,
            open=wire_.open,
            hear=wire_.hear,
            pulse=self.hooks.pulse,
            background=self.hooks.background,
            timing=self.timing,
        )
        self._line.start()

    async def stop(self) -> None:
        if self._line is not None:
            await self._line.stop()
            self._line = None
        if self._cards is not None:
            await self._cards.stop()
        self.hooks.pulse.connection = "off"

    # ---- in

    async def receive(self, request: RawRequest) -> RawResponse:
        if len(request.body) > wire.MOST_BYTES:
            raise TooLarge("dingtalk.size", most=wire.MOST_BYTES)
        if request.method != "POST" or self.config.mode != "http":
            raise Conflict("dingtalk.not_http")
        settings, now = self.client.settings, self.clock.ms()
        timestamp = signature.verify(request.headers, settings.client_secret, now)
        self._uses.request(timestamp, now)
        message = wire.parse(request.body)
        wire.check(message, settings)
        self._uses.message(timestamp, message.msgId)
        await self.handle(message)
        return RawResponse(status=200)

    async def _from_stream(self, data: str) -> None:
        # the connection is made with our own secret, so its messages need no further proof
        await self.handle(wire.parse(data))

    def _pressed(self, data: str) -> None:
        click = click_of(data, self.config)
        if click is not None:
            self.hooks.pulse.came_in()
            _ = self.hooks.background.spawn(f"click {self.config.name}", self._click(click))

    async def _click(self, click: Click) -> None:
        await self.hooks.clicked(click)

    async def handle(self, message: wire.RobotMessage) -> None:
        """Take over a verified message; what is not for us is dropped. Raises `Unavailable`: do not acknowledge."""
        self.hooks.pulse.came_in()
        found = wire.inbound(message, self.config, self.client.settings)
        if found is None:
            return
        if trusted(message.sessionWebhook, self.client.settings) and message.sessionWebhookExpiredTime:
            self._remember(message.msgId, message.sessionWebhook, message.sessionWebhookExpiredTime)
        await self.accept(found)

    def _remember(self, msg_id: str, url: str, until: int) -> None:
        """Keep a session webhook in memory only; it is a secret while it holds."""
        while len(self._sessions) >= MOST_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        self._sessions[msg_id] = (url, until)

    # ---- out

    def split(self, out: Outgoing) -> Sequence[Outgoing]:
        return split(out)

    def address(self, text: str) -> str:
        """The address of `user:<staff id>` or `group:<openConversationId>`, for pushes. Raises `Invalid`."""
        return target(text).to_json()

    async def send(self, out: Outgoing, address: str, key: str, written: Callable[[], None]) -> Receipt:
        to = Address.from_json(address)
        found = JOB.fullmatch(key)
        if found and self._cards is not None and not out.files:
            track = await self._cards.finish(int(found[1]), out.text)
            if track is not None and not out.buttons:
                written()
                self.hooks.pulse.went_out()
                return Receipt(vendor_id=track)
            if track is not None:
                out = replace(out, text=out.title or "…")  # the text stands in the card; buttons follow
        session = self._session(to)
        message = await self._file(out.files[0]) if out.files else render(out)
        try:
            vendor_id = await self._open(message, to, written)
        except Rejected as error:
            if not session or out.files or error.code not in SESSION_HELPS:
                raise
            vendor_id = await self.client.session(session, robot_body(out), written)
        self.hooks.pulse.went_out()
        return Receipt(vendor_id=vendor_id)

    # ---- an answer while it is written

    @property
    def streams(self) -> bool:
        """True if answers are shown while they are written."""
        return self._cards is not None

    def begin(self, job: int, address: str, text: Callable[[], str]) -> None:
        """Open a card for a job; `text` tells what is there so far. Returns at once."""
        if self._cards is not None:
            self._cards.begin(job, Address.from_json(address), text)

    async def abandon(self, job: int) -> None:
        """End the card of a job that will say nothing."""
        if self._cards is not None:
            with suppress(AppError):
                await self._cards.finish(job, "", failed=True)

    async def rest(self, job: int) -> None:
        """The job waits for a person's word."""
        if self._cards is not None:
            await self._cards.rest(job)

    async def _file(self, path: str) -> Rendered:
        try:
            data = await self.hooks.read(path)
        except OSError as error:
            raise Rejected("dingtalk.file_gone", vendor=type(error).__name__) from error
        return await file_message(self.client, path, data)

    async def fetch(self, part: Part) -> bytes:
        """The bytes of an attachment that somebody sent, by `Part.key`; its code holds for some hours only.

        Raises:
            Rejected: gone. TooLarge. Throttled, Unavailable: try again.
        """
        return await download(self.client, part.key)

    async def _open(self, message: Rendered, to: Address, written: Callable[[], None]) -> str:
        if to.kind == "group":
            return await self.client.group(to.conversation, message, written)
        if to.staff:
            return await self.client.direct(to.staff, message, written)
        raise Rejected("dingtalk.person")  # somebody outside the organisation has no staff id

    def _session(self, to: Address) -> str:
        """The session webhook that may carry an answer now, or nothing."""
        url, until = (to.session, to.until) if to.session else self._sessions.get(to.message, ("", 0))
        return url if self.clock.ms() < until and trusted(url, self.client.settings) else ""

    async def probe(self) -> list[ProbeResult]:
        return await probe(self.config, self.egress, self.clock, self.hooks.pulse, local=self.hooks.local)


def build(config: BotConfig, egress: Egress, clock: Clock, accept: Accept, hooks: Hooks) -> Channel:
    """The manifest's runtime."""
    return DingTalkChannel(config, egress, clock, accept, hooks)
