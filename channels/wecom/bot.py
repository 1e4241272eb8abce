"""A running WeCom AI bot: messages and replies over one long connection."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from channels.base import Accept, BotConfig, Pace, ProbeResult, RawRequest, RawResponse
from channels.hooks import Click, Hooks
from channels.line import Line, Timing
from channels.split import split_markdown
from channels.wecom.address import Address, target
from channels.wecom.frames import Frame, click_of, inbound
from channels.wecom.render import markdown
from channels.wecom.reply import Replies, ReplyPace
from channels.wecom.seal import cbc, unpad
from channels.wecom.settings import settings_of
from channels.wecom.socket import BotSocket
from security.egress import VENDOR, Egress
from storage.clock import Clock
from storage.envelope import Outgoing, Part, Receipt
from storage.errors import AppError, Conflict, Invalid, Rejected

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

MOST_BYTES = 20_000  # of a reply; the vendor takes 20 480
MOST_FILE = 20_000_000
JOB = re.compile(r"([0-9]{1,18})-0(?:\.0)?")


class WeComBot:
    """One AI bot. A message is answered under its own request id while the connection that brought it lives."""

    idempotent = False
    pace = Pace(count=30, seconds=60.0, per_lane_count=30, per_lane_seconds=60.0)

    def __init__(
        self,
        config: BotConfig,
        egress: Egress,
        clock: Clock,
        accept: Accept,
        hooks: Hooks,
        timing: Timing | None = None,
        reply_pace: ReplyPace | None = None,
    ) -> None:
        self.config, self.egress, self.clock, self.accept, self.hooks = config, egress, clock, accept, hooks
        self.settings = settings_of(config, local=hooks.local)
        self._started = False
        self.socket = BotSocket(self.settings, egress, self._message, self._event)
        self.line = Line(
            name=config.name,
            open=self._open,
            hear=self.socket.hear,
            beat=self.socket.beat,
            pulse=hooks.pulse,
            background=hooks.background,
            timing=timing,
        )
        self.replies = Replies(self.socket, lambda: self.line.socket, hooks.background, reply_pace or ReplyPace())

    # ---- life

    async def start(self) -> None:
        self._started = True
        self.line.start()

    async def stop(self) -> None:
        await self.replies.stop()
        await self.line.stop()
        self.hooks.pulse.connection = "off"

    async def _open(self) -> ClientConnection:
        socket = await self.socket.open()
        self.replies.forget()  # request ids belong to the connection that brought them
        return socket

    # ---- in

    async def receive(self, request: RawRequest) -> RawResponse:
        raise Conflict("wecom.not_http")

    async def _message(self, frame: Frame) -> None:
        self.hooks.pulse.came_in()
        found = inbound(frame, self.config, self.settings)
        if found is not None:
            self.replies.known(frame.headers.req_id)
            await self.accept(found)

    def _event(self, frame: Frame) -> None:
        self.hooks.pulse.came_in()
        click = click_of(frame, self.config)
        if click is not None:
            _ = self.hooks.background.spawn(f"click {self.config.name}", self._click(click))

    async def _click(self, click: Click) -> None:
        await self.hooks.clicked(click)

    async def fetch(self, part: Part) -> bytes:
        """The bytes of an attachment that somebody sent; its address holds for five minutes.

        Raises:
            Rejected: gone or damaged. TooLarge. Unavailable: try again.
        """
        secret, _, url = part.key.partition(" ")
        try:
            answer = await self.egress.request("GET", url, policy=replace(VENDOR, most_bytes=MOST_FILE, seconds=60))
            if answer.status_code != 200:
                raise Rejected("wecom.file_gone", vendor=str(answer.status_code))
            key = base64.b64decode(secret + "=" * (-len(secret) % 4))
            return unpad(cbc(key, key[:16], answer.content))
        except (Invalid, binascii.Error, ValueError) as error:
            raise Rejected("wecom.file_gone", vendor=getattr(error, "code", "aeskey")) from error

    # ---- out

    def split(self, out: Outgoing) -> Sequence[Outgoing]:
        pieces = split_markdown(out.text, MOST_BYTES - 1500, lambda text: len(text.encode())) or [out.text]
        made = [replace(out, text=piece, buttons=()) for piece in pieces]
        made[-1] = replace(made[-1], buttons=out.buttons)
        return made

    def address(self, text: str) -> str:
        """The address of `user:<userid>` or `group:<chatid>`, for pushes. Raises `Invalid`."""
        return target(text).to_json()

    async def send(self, out: Outgoing, address: str, key: str, written: Callable[[], None]) -> Receipt:
        to = Address.from_json(address)
        text = markdown(out)
        job = JOB.fullmatch(key)
        proof = await self.replies.finish(int(job[1]), to.request, text, written) if job else None
        if proof is None:
            body = {"chatid": to.to, "msgtype": "markdown", "markdown": {"content": text}}
            frame = await self.socket.ask(self.line.socket, "aibot_send_msg", body, written=written)
            proof = frame.headers.req_id
        self.hooks.pulse.went_out()
        return Receipt(vendor_id=proof)

    @property
    def streams(self) -> bool:
        """Answers are shown while they are written."""
        return True

    def begin(self, job: int, address: str, text: Callable[[], str]) -> None:
        """Show a job's answer as it grows. Returns at once."""
        self.replies.begin(job, Address.from_json(address).request, text)

    async def abandon(self, job: int) -> None:
        """End what a job that will say nothing has begun to show."""
        await self.replies.abandon(job)

    async def probe(self) -> list[ProbeResult]:
        """A running bot's own connection tells; only a bot that does not run logs in for the test.

        A second connection would take the place of the first.
        """
        made = [ProbeResult(name="config", status="pass")]
        pulse = self.hooks.pulse
        if not self._started:
            try:
                socket = await self.socket.open()
            except AppError as error:
                params = {key: str(value) for key, value in error.params.items()}
                return [*made, ProbeResult(name="connection", status="fail", code=error.code, params=params)]
            socket.transport.abort()
        if pulse.connection == "online" or not self._started:
            made.append(ProbeResult(name="connection", status="pass"))
        else:
            code = pulse.last_error or "wecom.offline"
            made.append(ProbeResult(name="connection", status="fail", code=code, params=dict(pulse.params)))
        status = "pass" if pulse.last_in is not None else "unknown"
        return [
            *made,
            ProbeResult(name="inbound", status=status, code="" if status == "pass" else "wecom.nothing_came"),
        ]
