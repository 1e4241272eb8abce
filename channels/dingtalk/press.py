"""A pressed button of one of our cards. Pure. Source: protocols.md 2.2, card callback data."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from channels.base import BotConfig
from channels.dingtalk.wire import Id, as_object
from channels.hooks import Click

Short = Annotated[str, Field(max_length=1000)]


class _Private(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    actionIds: Annotated[list[Short], Field(max_length=20)] = []
    params: dict[str, object] = {}


class _Content(BaseModel):
    cardPrivateData: _Private = _Private()


class _Callback(BaseModel):
    outTrackId: Annotated[Id, Field(min_length=1)]
    userId: Annotated[Id, Field(min_length=1)]
    type: Short = ""
    spaceId: Short = ""
    content: Annotated[_Content, BeforeValidator(as_object)] = _Content()


def click_of(data: str, config: BotConfig) -> Click | None:
    """The click that a card callback tells of; None for anything else. `person` is the staff id of who pressed."""
    try:
        found = _Callback.model_validate_json(data)
    except ValidationError:
        return None
    private = found.content.cardPrivateData
    value = private.params.get("value")
    text = value if isinstance(value, str) else (private.actionIds[0] if private.actionIds else "")
    if not text:
        return None
    return Click(
        tenant=config.tenant,
        bot=config.name,
        channel="dingtalk",
        person=found.userId,
        value=text[:1000],
        message=found.outTrackId,
        conversation=found.spaceId.rpartition(".")[2],
    )
