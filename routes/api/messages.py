"""Messages by API: have a bot say something, look at the receipts."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from agent.trace import TraceActions
from channels.messages import MessageActions, MessageView
from routes.api.terms import Before, Body, Caller, IdempotencyKey, Items, Limit, Number, Short, Text, page

Status = Literal["", "pending", "sending", "delivered", "failed", "unknown"]


class NewMessage(Body):
    """What a bot shall say to whom."""

    bot: Text = Field(min_length=1, max_length=60)
    target: Text = Field(default="", max_length=200, description="e.g. `user:staff1`; a webhook has one address only.")
    text: Text = Field(min_length=1, max_length=20_000, description="Markdown.")
    title: Text = Field(default="", max_length=200)


class Resent(BaseModel):
    """`resent` is False where the message was neither failed nor unknown."""

    resent: bool


def messages_router(messages: MessageActions, trace: TraceActions) -> APIRouter:
    """Routes below `/api/v1/messages`."""
    router = APIRouter(prefix="/api/v1/messages", tags=["messages"])

    @router.post("", status_code=201, responses={200: {"model": MessageView, "description": "Asked before"}})
    async def send(who: Caller, body: NewMessage, response: Response, key: IdempotencyKey = "") -> MessageView:
        """Have a bot send a message. Right: message.send."""
        sent = await messages.send(who, bot=body.bot, target=body.target, text=body.text, title=body.title, key=key)
        response.status_code = 201 if sent.fresh else 200
        response.headers["location"] = f"/api/v1/messages/{sent.message.id}"
        return sent.message

    @router.get("")
    async def list_(
        who: Caller, bot: Short = "", status: Status = "", before: Before = None, limit: Limit = 50
    ) -> Items[MessageView]:
        """Messages on their way, newest first. Right: message.send for one's own, trace.view for all."""
        return page(await messages.list(who, bot=bot, status=status, before=before, limit=limit), limit)

    @router.get("/{id:int}")
    async def get(who: Caller, id: Number) -> MessageView:
        """One message with its receipt. Right: message.send for one's own, trace.view for all."""
        return await messages.get(who, id)

    @router.post("/{id:int}/resend")
    async def resend(who: Caller, id: Number) -> Resent:
        """Send a failed or unknown message again. Right: delivery.resend."""
        who.require("delivery.resend")
        _ = await messages.get(who, id)
        return Resent(resent=await trace.resend(who, id))

    return router
