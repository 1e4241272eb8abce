"""A bot that only pushes. Its address says which robot it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from channels.base import Accept, BotConfig, Channel, Pace, ProbeResult, RawRequest, RawResponse
from channels.dingtalk.robot import DingTalkRobot
from channels.feishu.robot import FeishuRobot
from channels.hooks import Hooks
from channels.webhook.endpoint import Endpoint, read
from channels.webhook.outgoing import GenericWebhook
from channels.wecom.robot import WeComRobot
from security.egress import Egress
from storage.clock import Clock
from storage.envelope import Outgoing, Receipt
from storage.errors import AppError, Conflict, Invalid


class Robot(Protocol):
    """What every group robot can do."""

    @property
    def idempotent(self) -> bool: ...

    @property
    def pace(self) -> Pace: ...

    def split(self, out: Outgoing) -> Sequence[Outgoing]: ...

    async def send(self, out: Outgoing, key: str, written: Callable[[], None]) -> Receipt: ...


class WebhookChannel:
    """One address to push to."""

    def __init__(self, config: BotConfig, egress: Egress, clock: Clock, hooks: Hooks) -> None:
        self.config, self.egress, self.clock, self.hooks = config, egress, clock, hooks
        self.idempotent = False
        self.pace = Pace(count=20, seconds=61.0)
        self._robot: Robot | None = None

    @property
    def robot(self) -> Robot:
        """Raises `Invalid` if the configuration is incomplete."""
        if self._robot is None:
            self._robot = self._made(self._endpoint())
            self.idempotent, self.pace = self._robot.idempotent, self._robot.pace
        return self._robot

    def _endpoint(self) -> Endpoint:
        text = self.config.get("endpoint")
        if not text.strip():
            raise Invalid("webhook.incomplete", field="endpoint", missing="endpoint")
        return read(text, local=self.hooks.local)

    def _made(self, found: Endpoint) -> Robot:
        token, secret = self.config.get("token").strip() or found.token, self.config.get("secret").strip()
        if found.vendor != "other" and not token:
            raise Invalid(f"webhook.token_{found.vendor}", field="token", endpoint=found.bare)
        if found.vendor == "dingtalk":
            return DingTalkRobot(
                endpoint=found.bare,
                egress=self.egress,
                clock=self.clock,
                token=token,
                secret=secret,
                keyword=self.config.get("keyword").strip(),
            )
        if found.vendor == "feishu":
            return FeishuRobot(
                endpoint=found.bare,
                egress=self.egress,
                clock=self.clock,
                token=token,
                secret=secret,
                keyword=self.config.get("keyword").strip(),
            )
        if found.vendor == "wecom":
            return WeComRobot(endpoint=found.bare, egress=self.egress, key=token)
        return GenericWebhook(endpoint=found.bare, egress=self.egress, clock=self.clock, secret=secret)

    async def start(self) -> None:
        """Raises `Invalid`: `webhook.incomplete`, `webhook.endpoint` or `webhook.token_<vendor>`."""
        _ = self.robot
        self.hooks.pulse.connection = "waiting"

    async def stop(self) -> None:
        self.hooks.pulse.connection = "off"

    async def receive(self, request: RawRequest) -> RawResponse:
        raise Conflict("webhook.push_only")

    def split(self, out: Outgoing) -> Sequence[Outgoing]:
        return self.robot.split(out)

    def address(self, text: str) -> str:
        """There is one address only; whatever is asked for."""
        return "{}"

    async def send(self, out: Outgoing, address: str, key: str, written: Callable[[], None]) -> Receipt:
        robot = self.robot
        if isinstance(robot, GenericWebhook):
            receipt = await robot.send(out, key, written, _event(address))
        else:
            receipt = await robot.send(out, key, written)
        self.hooks.pulse.went_out()
        return receipt

    async def probe(self) -> list[ProbeResult]:
        """Only a message proves more than that the settings are complete."""
        try:
            _ = self.robot
        except AppError as error:
            params = {key: str(value) for key, value in error.params.items()}
            return [ProbeResult(name="config", status="fail", code=error.code, params=params)]
        return [
            ProbeResult(name="config", status="pass"),
            ProbeResult(name="message", status="unknown", code="webhook.send_a_test"),
        ]


def _event(address: str) -> Mapping[str, object]:
    """Name and data of the event that a push tells of, where its address has them."""
    try:
        raw = json.loads(address)
    except ValueError:
        return {}
    return {k: raw[k] for k in ("event", "data") if k in raw} if isinstance(raw, dict) else {}


def build(config: BotConfig, egress: Egress, clock: Clock, accept: Accept, hooks: Hooks) -> Channel:
    """The manifest's runtime."""
    return WebhookChannel(config, egress, clock, hooks)
