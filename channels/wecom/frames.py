"""Frames of the AI bot's long connection, in and out. Pure. Source: protocols.md 3.3."""

from __future__ import annotations

import json
import re
import secrets
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from channels.base import BotConfig
from channels.hooks import Click
from channels.wecom.address import Address
from channels.wecom.settings import WeComSettings
from channels.wecom.wire import CONTROLS, MOST_TEXT
from storage.envelope import Inbound, Origin, Part
from storage.errors import Invalid

CALL_NAME = re.compile(r"^\s*@\S{1,64}(\s+|$)")

Id = Annotated[
    str, BeforeValidator(lambda v: "" if v is None else v), Field(max_length=128, pattern=r"^[A-Za-z0-9._@=+/:-]*$")
]
Name = Annotated[str, BeforeValidator(lambda v: "" if v is None else v), Field(max_length=1000)]
Text = Annotated[
    str,
    BeforeValidator(lambda v: CONTROLS.sub("", v) if isinstance(v, str) else ("" if v is None else v)),
    Field(max_length=MOST_TEXT),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)


class _Headers(_Model):
    req_id: Name = ""


class Frame(_Model):
    """What the vendor sends: a callback (`cmd`) or the answer to one of our requests (`errcode`)."""

    cmd: Name = ""
    headers: _Headers = _Headers()
    errcode: int | None = None
    errmsg: Name = ""
    body: dict[str, object] = {}


class _Content(_Model):
    content: Text = ""
    url: Annotated[str, BeforeValidator(lambda v: "" if v is None else v), Field(max_length=4000)] = ""
    aeskey: Name = ""
    filename: Name = ""


class _Item(_Model):
    msgtype: Name = ""
    text: _Content = _Content()
    image: _Content = _Content()


class _Mixed(_Model):
    msg_item: Annotated[list[_Item], Field(max_length=100)] = []


class _Quote(_Model):
    msgtype: Name = ""
    text: _Content = _Content()
    voice: _Content = _Content()
    mixed: _Mixed = _Mixed()


class _From(_Model):
    userid: Annotated[Id, Field(min_length=1)]


class _Message(_Model):
    msgid: Annotated[Id, Field(min_length=1)]
    chatid: Id = ""
    chattype: Name = "single"
    from_: Annotated[_From, Field(alias="from")]
    msgtype: Name = ""
    create_time: int = 0
    text: _Content = _Content()
    voice: _Content = _Content()
    image: _Content = _Content()
    file: _Content = _Content()
    video: _Content = _Content()
    mixed: _Mixed = _Mixed()
    quote: _Quote | None = None


class _CardEvent(_Model):
    event_key: Name = ""
    task_id: Name = ""


class _Event(_Model):
    eventtype: Name = ""
    template_card_event: _CardEvent = _CardEvent()


class _EventBody(_Model):
    chatid: Id = ""
    from_: _From | None = Field(default=None, alias="from")
    event: _Event = _Event()


def read_frame(raw: str | bytes) -> Frame | None:
    """A frame, or None for what cannot be read."""
    try:
        return Frame.model_validate_json(raw)
    except ValidationError:
        return None


def request(cmd: str, body: object, req_id: str = "") -> tuple[str, str]:
    """A frame of ours and the id under which its answer comes."""
    number = req_id or f"{cmd}_{secrets.token_hex(12)}"
    return number, json.dumps({"cmd": cmd, "headers": {"req_id": number}, "body": body}, ensure_ascii=False)


def inbound(frame: Frame, config: BotConfig, settings: WeComSettings) -> Inbound | None:
    """The message of a callback as the ledger takes it; None for kinds that we do not know.

    Raises:
        Invalid: `wecom.body`.
    """
    try:
        message = _Message.model_validate(frame.body)
    except ValidationError as error:
        raise Invalid("wecom.body") from error
    group = message.chattype == "group"
    if group and not message.chatid:
        raise Invalid("wecom.body")
    said = _parts(message, group=group)
    if not said:
        return None
    person = message.from_.userid
    lane = message.chatid if group else person
    to = Address(kind="group" if group else "direct", to=lane, request=frame.headers.req_id[:200])
    return Inbound(
        tenant=config.tenant,
        bot=config.name,
        channel="wecom",
        keys=(f"msg:{message.msgid}",),
        vendor_id=message.msgid,
        conversation=f"{lane}/{person}" if group and settings.group_lane == "person" else lane,
        kind="group" if group else "direct",
        sender=person,
        parts=said,
        sent_at=message.create_time * 1000 if 0 < message.create_time < 10**11 else 0,
        address=to.to_json(),
        origin=Origin.GROUP if group else Origin.USER,
    )


def event_of(frame: Frame) -> str:
    """The kind of an event callback; empty for what cannot be read."""
    try:
        return _EventBody.model_validate(frame.body).event.eventtype
    except ValidationError:
        return ""


def click_of(frame: Frame, config: BotConfig) -> Click | None:
    """The pressed button of a template card, or None."""
    try:
        body = _EventBody.model_validate(frame.body)
    except ValidationError:
        return None
    card = body.event.template_card_event
    if body.from_ is None or not card.event_key:
        return None
    return Click(
        tenant=config.tenant,
        bot=config.name,
        channel="wecom",
        person=body.from_.userid,
        value=card.event_key,
        message=card.task_id,
        conversation=body.chatid,
    )


def _parts(message: _Message, *, group: bool) -> tuple[Part, ...]:
    made: list[Part] = []
    if message.quote is not None:
        quote = message.quote
        texts = [quote.text.content, quote.voice.content, *(item.text.content for item in quote.mixed.msg_item)]
        words = "\n".join(text for text in texts if text).strip()
        made += [Part(kind="quote", text=words[:20_000], origin=Origin.OUTSIDE)] if words else []
    match message.msgtype:
        case "text":
            made += _text(message.text.content, group=group)
        case "voice":
            text = message.voice.content.strip()
            made += [Part(kind="audio", text=text)] if text else []
        case "image":
            made += _file("image", message.image)
        case "file":
            made += _file("file", message.file)
        case "video":
            made += _file("video", message.video)
        case "mixed":
            for item in message.mixed.msg_item:
                made += _text(item.text.content, group=group) if item.msgtype == "text" else _file("image", item.image)
        case _:
            return ()
    return tuple(made)


def _text(text: str, *, group: bool) -> list[Part]:
    """What was said, without the bot's own name at the start of a group message."""
    text = (CALL_NAME.sub("", text, count=1) if group else text).strip()
    return [Part(kind="text", text=text)] if text else []


def _file(kind: str, content: _Content) -> list[Part]:
    """The key holds the file's own secret and its address, which is valid for five minutes."""
    if not content.url:
        return []
    return [Part(kind=kind, key=f"{content.aeskey} {content.url}", name=content.filename[:255])]
