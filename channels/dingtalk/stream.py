"""DingTalk's Stream mode: tickets, frames, acknowledgements. Source: protocols.md 2.2."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from channels.dingtalk.client import DingTalkClient
from channels.dingtalk.settings import host_of
from channels.line import Next, dial
from security.egress import VENDOR
from storage.errors import AppError, Unavailable

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = logging.getLogger(__name__)

MESSAGES = "/v1.0/im/bot/messages/get"
CARDS = "/v1.0/card/instances/callback"
SUBSCRIPTIONS = [{"type": "CALLBACK", "topic": MESSAGES}, {"type": "CALLBACK", "topic": CARDS}]
GATEWAYS = (".dingtalk.com", ".dingtalk.io")

Short = Annotated[str, Field(max_length=512)]


class _Ticket(BaseModel):
    endpoint: Annotated[str, Field(max_length=1000, pattern=r"^wss?://[!-~]+$")]
    ticket: Annotated[str, Field(min_length=1, max_length=1000)]


class _Headers(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    topic: Short = ""
    messageId: Short = ""


class Frame(BaseModel):
    """What the gateway sends. `data` is JSON text."""

    type: Short
    headers: _Headers = _Headers()
    data: str = ""


class StreamWire:
    """Opens connections of one app and answers its frames.

    Args:
        on_message: takes the JSON of a robot message; returns once it is in the ledger. Raises `AppError`.
        on_card: takes the JSON of a card callback; must return at once.
    """

    def __init__(
        self,
        client: DingTalkClient,
        on_message: Callable[[str], Awaitable[None]],
        on_card: Callable[[str], None],
    ) -> None:
        self.client, self.on_message, self.on_card = client, on_message, on_card

    async def open(self) -> ClientConnection:
        """Fetch a ticket (one use, 90 s) and connect with it.

        Raises:
            Rejected: credentials. Throttled, Unavailable: try again.
        """
        settings = self.client.settings
        answer = await self.client.open_call(
            "/v1.0/gateway/connections/open",
            {
                "clientId": settings.client_id,
                "clientSecret": settings.client_secret,
                "subscriptions": SUBSCRIPTIONS,
                "ua": "zhixing",
                "localIp": "",
            },
        )
        try:
            found = _Ticket.model_validate(answer)
        except ValidationError as error:
            raise Unavailable("dingtalk.busy", vendor="connections/open", request="") from error
        hosts = (*GATEWAYS, host_of(settings.api_base))
        join = "&" if "?" in found.endpoint else "?"
        url = f"{found.endpoint}{join}ticket={quote(found.ticket, safe='')}"
        return await dial(self.client.egress, url, policy=replace(VENDOR, hosts=hosts, seconds=10))

    async def hear(self, socket: ClientConnection, raw: str | bytes) -> Next:
        """Handle one frame: acknowledge it once what it brings is safe."""
        try:
            frame = Frame.model_validate_json(raw)
        except ValidationError:
            log.info("a frame of DingTalk's gateway could not be read")
            return Next.LISTEN
        if frame.type == "SYSTEM":
            return await self._system(socket, frame)
        if frame.type == "EVENT":
            await _answer(socket, frame, 200, {"status": "SUCCESS", "message": "ok"})
        elif frame.headers.topic == MESSAGES:
            code = await self._message(frame.data)
            await _answer(socket, frame, code, {"response": None})
        elif frame.headers.topic == CARDS:
            self.on_card(frame.data)
            await _answer(socket, frame, 200, {"response": {}})
        else:
            await _answer(socket, frame, 404, {})
        return Next.LISTEN

    async def _message(self, data: str) -> int:
        try:
            await self.on_message(data)
        except Unavailable as error:
            log.warning("a DingTalk message was not accepted: %s", error)
            return 500  # pushed again later
        except AppError as error:
            log.info("a DingTalk message was refused: %s", error)
        return 200

    async def _system(self, socket: ClientConnection, frame: Frame) -> Next:
        if frame.headers.topic == "ping":
            await _send(socket, frame, 200, frame.data or "{}")
        if frame.headers.topic == "disconnect":
            return Next.REPLACE  # it falls silent and closes in ten seconds
        return Next.LISTEN


async def _answer(socket: ClientConnection, frame: Frame, code: int, data: object) -> None:
    await _send(socket, frame, code, orjson.dumps(data).decode())


async def _send(socket: ClientConnection, frame: Frame, code: int, data: str) -> None:
    message = {200: "OK", 404: "not implemented", 500: "try again"}[code]
    headers = {"messageId": frame.headers.messageId, "contentType": "application/json"}
    await socket.send(orjson.dumps({"code": code, "headers": headers, "message": message, "data": data}).decode())
