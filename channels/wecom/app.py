"""A running WeCom app: encrypted callbacks in, messages through the API out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from channels.base import Accept, BotConfig, Pace, ProbeResult, RawRequest, RawResponse
from channels.hooks import Hooks
from channels.split import split_markdown
from channels.wecom import wire
from channels.wecom.address import Address, target
from channels.wecom.client import WeComClient
from channels.wecom.render import markdown
from channels.wecom.robot import cut
from channels.wecom.settings import settings_of
from security.egress import Egress
from storage.clock import Clock
from storage.envelope import Outgoing, Receipt
from storage.errors import AppError, Rejected

MOST_BYTES = 2048


class WeComApp:
    """One self-built app. People write to it directly; it has no groups."""

    idempotent = False
    pace = Pace(count=20, seconds=1.0, per_lane_count=30, per_lane_seconds=60.0)

    def __init__(self, config: BotConfig, egress: Egress, clock: Clock, accept: Accept, hooks: Hooks) -> None:
        self.config, self.clock, self.accept, self.hooks = config, clock, accept, hooks
        self.settings = settings_of(config, local=hooks.local)
        self.client = WeComClient(self.settings, egress, clock)

    async def start(self) -> None:
        self.hooks.pulse.connection = "waiting"

    async def stop(self) -> None:
        self.hooks.pulse.connection = "off"

    async def receive(self, request: RawRequest) -> RawResponse:
        now = self.clock.ms()
        if request.method == "GET":
            text = wire.challenge(request, self.settings, now)
            self.hooks.pulse.came_in()
            return RawResponse(status=200, body=text, content_type="text/plain; charset=utf-8")
        fields = wire.open_request(request, self.settings, now)
        self.hooks.pulse.came_in()
        found = wire.inbound(fields, self.config)
        if found is not None:
            await self.accept(found)
        return RawResponse(status=200, body=b"", content_type="text/plain; charset=utf-8")

    def split(self, out: Outgoing) -> Sequence[Outgoing]:
        pieces = split_markdown(out.text, MOST_BYTES - 400, lambda text: len(text.encode())) or [out.text]
        return cut(out, pieces)

    def address(self, text: str) -> str:
        """The address of `user:<userid>`, for pushes. Raises `Invalid`."""
        return target(text).to_json()

    async def send(self, out: Outgoing, address: str, key: str, written: Callable[[], None]) -> Receipt:
        to = Address.from_json(address)
        if to.kind != "direct":
            raise Rejected("wecom.no_groups")
        vendor_id = await self.client.send(to.to, markdown(out), written)
        self.hooks.pulse.went_out()
        return Receipt(vendor_id=vendor_id)

    async def probe(self) -> list[ProbeResult]:
        """Settings, token, and whether anything came in yet. Nothing is sent to anybody."""
        made = [ProbeResult(name="config", status="pass")]
        try:
            await self.client.token.get()
        except AppError as error:
            params = {key: str(value) for key, value in error.params.items()}
            return [*made, ProbeResult(name="token", status="fail", code=error.code, params=params)]
        made.append(ProbeResult(name="token", status="pass"))
        came = self.hooks.pulse.last_in is not None
        code = "" if came else "wecom.nothing_came"
        return [*made, ProbeResult(name="inbound", status="pass" if came else "unknown", code=code)]
