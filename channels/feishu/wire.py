"""A callback's bytes to a trusted event. Pure: nothing here waits, stores or calls.

Order: size, signature over the raw bytes, decryption, token, app, time window; only then is the event looked at.
Source: protocols.md 1.1.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated

import orjson
from pydantic import BaseModel, Field, ValidationError

from channels.base import RawRequest
from channels.feishu.seal import Seal, fresh
from channels.feishu.settings import FeishuSettings
from storage.errors import Denied, Invalid, TooLarge, Unauthenticated

MOST_BYTES = 1_000_000
MOST_UNSIGNED = 8_192
MOST_CHALLENGE = 1_024

Short = Annotated[str, Field(max_length=256)]


class _Header(BaseModel):
    event_id: Annotated[str, Field(min_length=1, max_length=256)]
    event_type: Short
    create_time: Short
    token: Short = ""
    app_id: Short = ""


class _Envelope(BaseModel):
    """Version 2.0 has `header`; version 1.0 has `uuid`, `token`, `ts` and `type` beside the event."""

    header: _Header | None = None
    event: dict[str, object] = Field(default_factory=dict)
    uuid: Short = ""
    token: Short = ""
    ts: Short = ""
    type: Short = ""
    challenge: Annotated[str, Field(max_length=MOST_CHALLENGE)] = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A verified event.

    Attributes:
        id: under which the platform repeats it.
        type: e.g. `im.message.receive_v1`; `message` for version 1.0.
        at: the platform's time in ms.
    """

    id: str
    type: str
    at: int
    body: dict[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """The platform checks that the address is ours; it wants `value` back."""

    value: str

    def answer(self) -> bytes:
        return orjson.dumps({"challenge": self.value})


def open_request(request: RawRequest, settings: FeishuSettings, seal: Seal, now: int) -> Event | Challenge:
    """Verify one callback and return what it says.

    Args:
        now: ms.

    Raises:
        TooLarge: `feishu.size`.
        Unauthenticated: signature, encryption, token or time is wrong or missing.
        Denied: `feishu.other_app`.
        Invalid: `feishu.empty` or `feishu.malformed`.
    """
    body = request.body
    if len(body) > MOST_BYTES:
        raise TooLarge("feishu.size", most=MOST_BYTES)
    if not body:
        raise Invalid("feishu.empty")
    signed = seal.verify(request.headers, body, now)
    if not signed and len(body) > MOST_UNSIGNED:
        raise Unauthenticated("feishu.unsigned")
    outer = _json(body)
    sealed = outer.get("encrypt") if isinstance(outer, dict) else None
    if not isinstance(sealed, str):
        raise Unauthenticated("feishu.unencrypted")
    plain = seal.open(sealed)
    try:
        envelope = _Envelope.model_validate(_json(plain))
    except ValidationError as error:
        raise Invalid("feishu.malformed", place=_place(error)) from error
    token = envelope.header.token if envelope.header else envelope.token
    if not hmac.compare_digest(token.encode(), settings.verification_token.encode()):
        raise Unauthenticated("feishu.token")
    if envelope.type == "url_verification" and envelope.header is None:
        if not envelope.challenge:
            raise Invalid("feishu.malformed", place="challenge")
        return Challenge(value=envelope.challenge)
    if not signed:
        raise Unauthenticated("feishu.unsigned")
    return _event(envelope, settings, now)


def open_frame(payload: bytes, settings: FeishuSettings, now: int) -> Event:
    """An event from a long connection, which the connection itself vouches for: plain, unsigned, token may be empty.

    Raises:
        Invalid, Denied, Unauthenticated: as `open_request`.
    """
    if len(payload) > MOST_BYTES:
        raise TooLarge("feishu.size", most=MOST_BYTES)
    try:
        envelope = _Envelope.model_validate(_json(payload))
    except ValidationError as error:
        raise Invalid("feishu.malformed", place=_place(error)) from error
    return _event(envelope, settings, now)


def _event(envelope: _Envelope, settings: FeishuSettings, now: int) -> Event:
    if envelope.header is not None:
        header = envelope.header
        if header.app_id != settings.app_id:
            raise Denied("feishu.other_app")
        created = header.create_time
        if len(created) == 16:  # card callbacks count microseconds
            created = created[:13]
        at = fresh(created, 1, now)
        return Event(id=header.event_id, type=header.event_type, at=at, body=envelope.event)
    if envelope.type != "event_callback" or not envelope.uuid:
        raise Invalid("feishu.malformed", place="header")
    if envelope.event.get("app_id") != settings.app_id:
        raise Denied("feishu.other_app")
    at = fresh(envelope.ts.partition(".")[0], 1000, now)
    return Event(id=envelope.uuid, type=str(envelope.event.get("type", ""))[:256], at=at, body=envelope.event)


def _json(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Invalid("feishu.malformed", place="json") from error


def _place(error: ValidationError) -> str:
    """Where it is wrong, without the value."""
    return ".".join(str(part) for part in error.errors(include_url=False, include_input=False)[0]["loc"]) or "body"
