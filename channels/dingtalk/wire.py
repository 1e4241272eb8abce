"""DingTalk's robot message, from bytes to `Inbound`. Pure; the same JSON comes by HTTP and by Stream.

Source: protocols.md 2.1.
"""

from __future__ import annotations

import json
import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from channels.base import BotConfig
from channels.dingtalk.address import Address, trusted
from channels.dingtalk.settings import DingTalkSettings
from storage.envelope import Inbound, Origin, Part
from storage.errors import Denied, Invalid

MOST_BYTES = 1_000_000
MOST_ITEMS = 200
MOST_TEXT = 100_000
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _clean(value: object) -> object:
    """Text without what neither a database nor a screen can take."""
    return CONTROLS.sub("", value) if isinstance(value, str) else value


def as_object(value: object) -> object:
    """Some fields come as an object in one message and as a JSON text in the next."""
    if isinstance(value, str):
        try:
            return json.loads(value) if value.startswith("{") else {}
        except (ValueError, RecursionError):
            return {}
    return {} if value is None else value


Text = Annotated[str, BeforeValidator(lambda v: "" if v is None else _clean(v)), Field(max_length=MOST_TEXT)]
Id = Annotated[str, BeforeValidator(lambda v: "" if v is None else v), Field(max_length=256, pattern=r"^[\x21-\x7e]*$")]
Name = Annotated[str, BeforeValidator(lambda v: "" if v is None else _clean(v)), Field(max_length=1000)]
Code = Annotated[str, BeforeValidator(lambda v: "" if v is None else v), Field(max_length=4000)]
Ms = Annotated[int, BeforeValidator(lambda v: v or 0), Field(ge=0, le=2**53)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)


class Item(_Model):
    """One piece of a rich text."""

    type: Name = ""
    text: Text = ""
    downloadCode: Code = ""
    pictureDownloadCode: Code = ""


class Content(_Model):
    """The body of any message type; each uses some of it."""

    content: Text = ""
    text: Text = ""
    richText: Annotated[list[Item], BeforeValidator(lambda v: v or []), Field(max_length=MOST_ITEMS)] = []
    downloadCode: Code = ""
    pictureDownloadCode: Code = ""
    recognition: Text = ""
    fileName: Name = ""
    isReplyMsg: bool | None = None
    repliedMsg: Annotated[Replied | None, Field()] = None


class Replied(_Model):
    """A quoted message."""

    msgId: Name = ""
    msgType: Name = ""
    content: Annotated[Content, BeforeValidator(as_object)] = Content.model_construct()


Content.model_rebuild()


class RobotMessage(_Model):
    """What a person said to the robot."""

    msgId: Annotated[Id, Field(min_length=1)]
    msgtype: Name
    conversationId: Annotated[Id, Field(min_length=1)]
    conversationType: Name
    conversationTitle: Name = ""
    createAt: Ms = 0
    senderId: Id = ""
    senderStaffId: Id = ""
    senderNick: Name = ""
    chatbotCorpId: Id = ""
    chatbotUserId: Id = ""
    robotCode: Id = ""
    isInAtList: bool | None = None
    sessionWebhook: Code = ""
    sessionWebhookExpiredTime: Ms = 0
    text: Annotated[Content, BeforeValidator(as_object)] = Content.model_construct()
    content: Annotated[Content, BeforeValidator(as_object)] = Content.model_construct()


def parse(body: bytes | str) -> RobotMessage:
    """Read a message's JSON. Raises `Invalid`: `dingtalk.body`, naming the first wrong field."""
    try:
        return RobotMessage.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise Invalid("dingtalk.body", where=".".join(str(p) for p in first["loc"])[:100] or "json") from error


def check(message: RobotMessage, settings: DingTalkSettings) -> None:
    """The body is not signed: at least it must name our robot and company. Raises `Denied`: `dingtalk.other_robot`."""
    if message.robotCode != settings.robot_code:
        raise Denied("dingtalk.other_robot")
    if settings.corp_id and message.chatbotCorpId != settings.corp_id:
        raise Denied("dingtalk.other_robot")


def inbound(message: RobotMessage, config: BotConfig, settings: DingTalkSettings) -> Inbound | None:
    """The message as the ledger takes it; None for what nobody is to answer (unknown kinds, our own words)."""
    sender = message.senderStaffId or message.senderId
    own = bool(message.chatbotUserId) and message.chatbotUserId in (message.senderId, message.senderStaffId)
    if not sender or own or message.conversationType not in ("1", "2"):
        return None
    direct = message.conversationType == "1"
    if not direct and message.isInAtList is False:
        return None
    origin = Origin.USER if direct else Origin.GROUP
    said = parts(message)
    if not said:
        return None
    per_person = not direct and settings.group_lane == "person"
    return Inbound(
        tenant=config.tenant,
        bot=config.name,
        channel="dingtalk",
        keys=(f"msg:{message.msgId}",),
        vendor_id=message.msgId,
        conversation=f"{message.conversationId}/{sender}" if per_person else message.conversationId,
        kind="direct" if direct else "group",
        sender=sender,
        sender_name=message.senderNick[:64],
        parts=said,
        sent_at=message.createAt,
        address=_address(message, settings, direct=direct).to_json(),
        origin=origin,
        title="" if direct else message.conversationTitle[:80],
    )


def _address(message: RobotMessage, settings: DingTalkSettings, *, direct: bool) -> Address:
    # the session webhook lets anyone who reads it speak here for 90 minutes: kept only where nothing else will do
    needed = direct and not message.senderStaffId and trusted(message.sessionWebhook, settings)
    return Address(
        kind="direct" if direct else "group",
        conversation=message.conversationId,
        staff=message.senderStaffId,
        message=message.msgId,
        session=message.sessionWebhook if needed else "",
        until=message.sessionWebhookExpiredTime if needed else 0,
    )


def parts(message: RobotMessage) -> tuple[Part, ...]:
    """What was said, the quoted message first; empty for kinds that we do not know."""
    body = message.content
    quote = _quote(message.text) or _quote(body)
    made = [quote] if quote else []
    match message.msgtype:
        case "text":
            made += _text(message.text.content)
        case "richText":
            made += _rich(body.richText)
        case "picture":
            made += _file("image", body, body.downloadCode or body.pictureDownloadCode)
        case "audio":
            made += _file("audio", body, body.downloadCode, text=body.recognition.strip())
        case "video":
            made += _file("video", body, body.downloadCode)
        case "file":
            made += _file("file", body, body.downloadCode)
        case _:
            return ()
    return tuple(made)


def _text(text: str) -> list[Part]:
    text = text.strip()
    return [Part(kind="text", text=text)] if text else []


def _file(kind: str, body: Content, key: str, *, text: str = "") -> list[Part]:
    return [Part(kind=kind, key=key, name=body.fileName[:255], text=text)] if key or text else []


def _rich(items: list[Item]) -> list[Part]:
    made: list[Part] = []
    text = ""
    for item in items:
        key = item.downloadCode or item.pictureDownloadCode
        if item.type == "picture" or (key and not item.text):
            made += _text(text)
            made += [Part(kind="image", key=key)] if key else []
            text = ""
        else:
            text += item.text
    return made + _text(text)


def _quote(body: Content) -> Part | None:
    if not body.isReplyMsg or body.repliedMsg is None:
        return None
    quoted = body.repliedMsg.content
    text = quoted.text or quoted.content or quoted.recognition or "".join(item.text for item in quoted.richText)
    text = text.strip() or quoted.fileName
    return Part(kind="quote", text=text[:20_000], origin=Origin.OUTSIDE) if text else None
