"""The app's callbacks, from the raw request to `Inbound`. Pure. Source: protocols.md 3.2.

Nothing is parsed before the signature is verified: the one field that the signature covers is cut out of the bytes.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, ParseError

from channels.base import BotConfig, RawRequest
from channels.wecom.address import Address
from channels.wecom.seal import decrypt, verify
from channels.wecom.settings import WeComSettings
from storage.envelope import Inbound, Origin, Part
from storage.errors import Denied, Invalid, TooLarge, Unauthenticated

MOST_BYTES = 1_000_000
MOST_TEXT = 100_000
WINDOW = 300
ENCRYPTED = re.compile(rb"<Encrypt>\s*(?:<!\[CDATA\[)?([A-Za-z0-9+/=]{24,})(?:\]\]>)?\s*</Encrypt>")
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
NAME = re.compile(r"[A-Za-z0-9._@-]{1,128}", re.ASCII)


def challenge(request: RawRequest, settings: WeComSettings, now: int) -> bytes:
    """The plain text that WeCom wants back when the callback address is saved.

    Raises:
        Unauthenticated, Invalid, Denied.
    """
    echo = request.query.get("echostr", "")
    if len(echo) > 10_000:
        raise TooLarge("wecom.size", most=MOST_BYTES)
    return _opened(request, echo, settings, now)


def open_request(request: RawRequest, settings: WeComSettings, now: int) -> dict[str, str]:
    """Verify and decrypt a callback, and return its fields.

    Raises:
        TooLarge, Unauthenticated, Invalid, Denied.
    """
    if len(request.body) > MOST_BYTES:
        raise TooLarge("wecom.size", most=MOST_BYTES)
    found = ENCRYPTED.findall(request.body)
    if len(found) != 1:
        raise Unauthenticated("wecom.unsigned")
    fields = _fields(_opened(request, found[0].decode("ascii"), settings, now))
    if fields.get("AgentID", settings.agent_id) != settings.agent_id or fields.get("ToUserName") != settings.corp_id:
        raise Denied("wecom.other_app")
    return fields


def _opened(request: RawRequest, encrypted: str, settings: WeComSettings, now: int) -> bytes:
    query = request.query
    timestamp = query.get("timestamp", "")
    verify(settings.token, timestamp, query.get("nonce", ""), encrypted, query.get("msg_signature", ""))
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise Unauthenticated("wecom.stale")
    if abs(now // 1000 - int(timestamp)) > WINDOW:
        raise Unauthenticated("wecom.stale")
    return decrypt(settings.aes_key, encrypted, settings.corp_id)


def _fields(xml: bytes) -> dict[str, str]:
    # imported here: needed only by bots of this kind
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise Invalid("wecom.body") from error
    return {child.tag: CONTROLS.sub("", child.text or "")[:MOST_TEXT] for child in root}


def inbound(fields: dict[str, str], config: BotConfig) -> Inbound | None:
    """The message as the ledger takes it; None for events and kinds that we do not know.

    Raises:
        Invalid: `wecom.body`.
    """
    said = _parts(fields)
    if not said:
        return None
    sender, number = fields.get("FromUserName", ""), fields.get("MsgId", "")
    if not NAME.fullmatch(sender) or not NAME.fullmatch(number):
        raise Invalid("wecom.body")
    at = fields.get("CreateTime", "")
    return Inbound(
        tenant=config.tenant,
        bot=config.name,
        channel="wecom",
        keys=(f"msg:{number}",),
        vendor_id=number,
        conversation=sender,
        kind="direct",
        sender=sender,
        parts=said,
        sent_at=int(at) * 1000 if at.isascii() and at.isdigit() and len(at) <= 11 else 0,
        address=Address(kind="direct", to=sender).to_json(),
        origin=Origin.USER,
    )


def _parts(fields: dict[str, str]) -> tuple[Part, ...]:
    media = fields.get("MediaId", "")[:256]
    match fields.get("MsgType"):
        case "text":
            text = fields.get("Content", "").strip()
            return (Part(kind="text", text=text),) if text else ()
        case "voice":
            return (Part(kind="audio", key=media, text=fields.get("Recognition", "").strip()),) if media else ()
        case "image" | "video" | "file" as kind:
            return (Part(kind=kind, key=media, name=fields.get("FileName", "")[:255]),) if media else ()
        case "link":
            words = "\n".join(fields[name] for name in ("Title", "Description", "Url") if fields.get(name))
            return (Part(kind="quote", text=words, origin=Origin.OUTSIDE),) if words else ()
        case _:
            return ()
