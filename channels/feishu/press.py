"""A pressed button of one of our cards (`card.action.trigger`). Source: protocols.md 1.1."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from channels.base import BotConfig
from channels.feishu.wire import Event
from channels.hooks import Click
from storage.errors import Invalid

CARD = "card.action.trigger"
Id = Annotated[str, Field(max_length=128)]


class _Operator(BaseModel):
    open_id: Annotated[str, Field(min_length=1, max_length=128)]


class _Value(BaseModel):
    model_config = ConfigDict(extra="ignore")

    v: Annotated[str, Field(max_length=2000)] = ""


class _Action(BaseModel):
    value: _Value = Field(default_factory=_Value)


class _Context(BaseModel):
    open_message_id: Id = ""
    open_chat_id: Id = ""


class _Pressed(BaseModel):
    operator: _Operator
    action: _Action
    context: _Context = Field(default_factory=_Context)


def click_of(event: Event, config: BotConfig) -> Click | None:
    """Who pressed what; None for a button that is not ours.

    Raises:
        Invalid: `feishu.malformed`.
    """
    try:
        pressed = _Pressed.model_validate(event.body)
    except ValidationError as error:
        raise Invalid("feishu.malformed", place="card") from error
    if not pressed.action.value.v:
        return None
    return Click(
        tenant=config.tenant,
        bot=config.name,
        channel="feishu",
        person=pressed.operator.open_id,
        value=pressed.action.value.v,
        message=pressed.context.open_message_id,
        conversation=pressed.context.open_chat_id,
    )


def toast(text: str) -> dict[str, object]:
    """What the person sees for a moment."""
    return {"toast": {"type": "info", "content": text[:200]}} if text else {}
