"""A verified `im.message.receive_v1` event to an `Inbound`. Source: protocols.md 1.1."""

from __future__ import annotations

from typing import Annotated

import orjson
from pydantic import BaseModel, Field, ValidationError

from channels.feishu.address import Address
from channels.feishu.content import parts_of
from channels.feishu.media import located
from channels.feishu.settings import FeishuSettings
from channels.feishu.wire import Event
from storage.envelope import Inbound, Origin, Part
from storage.errors import Invalid

Id = Annotated[str, Field(max_length=128)]


class _Ids(BaseModel):
    open_id: Id | None = None


class _Sender(BaseModel):
    sender_id: _Ids = Field(default_factory=_Ids)
    sender_type: Id = ""


class _Mention(BaseModel):
    key: Annotated[str, Field(min_length=1, max_length=64)]
    id: _Ids = Field(default_factory=_Ids)
    mentioned_type: Id | None = None
    name: Annotated[str, Field(max_length=256)] = ""


class _Message(BaseModel):
    message_id: Annotated[str, Field(min_length=1, max_length=128)]
    parent_id: Id | None = None
    thread_id: Id | None = None
    create_time: Annotated[str, Field(max_length=20)] = ""
    chat_id: Id = ""
    chat_type: Id = ""
    message_type: Id = ""
    content: str = ""
    mentions: Annotated[list[_Mention], Field(max_length=500)] | None = None


class _Received(BaseModel):
    sender: _Sender
    message: _Message


class _Old(BaseModel):
    """Event `message` of version 1.0: text only, the mention already cut out of `text_without_at_bot`."""

    open_message_id: Annotated[str, Field(min_length=1, max_length=128)]
    open_id: Annotated[str, Field(min_length=1, max_length=128)]
    open_chat_id: Id = ""
    chat_type: Id = ""
    msg_type: Id = ""
    text: str = ""
    text_without_at_bot: str = ""
    is_mention: bool = False


def inbound(event: Event, settings: FeishuSettings, *, tenant: str, bot: str, self_id: str) -> Inbound | None:
    """The message of an event, or None if it is none of our business.

    Args:
        self_id: the bot's own open_id; empty if not known yet, then any mention of somebody counts as ours.

    Raises:
        Invalid: `feishu.malformed`.
    """
    try:
        if event.type == "message":
            return _old(event, _Old.model_validate(event.body), settings, tenant, bot)
        received = _Received.model_validate(event.body)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors(include_url=False, include_input=False)[0]["loc"])
        raise Invalid("feishu.malformed", place=place) from error
    sender, message = received.sender, received.message
    person = sender.sender_id.open_id or ""
    if sender.sender_type == "app" or not person or person == self_id:
        return None  # other bots and ourselves: two bots would talk for ever
    mentions = message.mentions or []
    direct = message.chat_type == "p2p"
    if not direct and settings.group_mention and not _addressed(mentions, self_id):
        return None
    names = {m.key: "" if m.id.open_id and m.id.open_id == self_id else f"@{m.name or m.key}" for m in mentions}
    parts = parts_of(message.message_type, _content(message.content), names)
    parts = tuple(located(part, message.message_id) for part in parts)
    if message.message_type == "merge_forward":
        parts = (Part(kind="quote", key=message.message_id, origin=Origin.OUTSIDE),)
    if message.parent_id and message.parent_id != message.message_id:
        parts += (Part(kind="quote", key=message.parent_id, origin=Origin.GROUP),)
    if not parts:
        return None  # a kind that says nothing: a location, a card
    thread = message.thread_id or ""
    return Inbound(
        tenant=tenant,
        bot=bot,
        channel="feishu",
        keys=(event.id, message.message_id),
        vendor_id=message.message_id,
        conversation=_conversation(settings, direct, message.chat_id, thread, person),
        kind="direct" if direct else "group",
        sender=person,
        parts=parts,
        sent_at=int(message.create_time) if message.create_time.isascii() and message.create_time.isdigit() else 0,
        address=Address(message=message.message_id, to=message.chat_id or person, thread=bool(thread)).to_json(),
        origin=Origin.USER if direct else Origin.GROUP,
    )


def _old(event: Event, message: _Old, settings: FeishuSettings, tenant: str, bot: str) -> Inbound | None:
    direct = message.chat_type == "private"
    text = (message.text_without_at_bot or message.text).strip()
    if message.msg_type != "text" or not text or (not direct and settings.group_mention and not message.is_mention):
        return None
    return Inbound(
        tenant=tenant,
        bot=bot,
        channel="feishu",
        keys=(event.id, message.open_message_id),
        vendor_id=message.open_message_id,
        conversation=_conversation(settings, direct, message.open_chat_id, "", message.open_id),
        kind="direct" if direct else "group",
        sender=message.open_id,
        parts=(Part(kind="text", text=text),),
        sent_at=event.at,
        address=Address(message=message.open_message_id, to=message.open_chat_id or message.open_id).to_json(),
        origin=Origin.USER if direct else Origin.GROUP,
    )


def _addressed(mentions: list[_Mention], self_id: str) -> bool:
    """True if the bot is mentioned. Mentioning everyone does not ask the bot."""
    if self_id:
        return any(m.id.open_id == self_id for m in mentions)
    return any(m.key != "@_all" and m.mentioned_type in (None, "", "bot") for m in mentions)


def _conversation(settings: FeishuSettings, direct: bool, chat: str, thread: str, person: str) -> str:
    """The lane: the person in a direct chat; in a group by the bot's setting."""
    if direct or not chat:
        return person
    if settings.group_lane == "person":
        return f"{chat}/{person}"
    if settings.group_lane == "thread" and thread:
        return f"{chat}/{thread}"
    return chat


def _content(text: str) -> dict[str, object]:
    """The JSON document in the string; an empty one if it is something else (a merged forward has plain text)."""
    try:
        raw = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return raw if isinstance(raw, dict) else {}
