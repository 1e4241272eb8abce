"""WeCom's errors as ours. Always HTTP 200; judged by `errcode`. Source: protocols.md 3.1 and 3.2."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from storage.errors import AppError, OutcomeUnknown, Rejected, Throttled, Unavailable

REFUSED = {
    93000: "wecom.robot_key",
    40001: "wecom.credentials",
    40013: "wecom.credentials",
    40091: "wecom.credentials",
    40014: "wecom.token",
    42001: "wecom.token",
    40008: "wecom.content",
    40058: "wecom.too_long",
    44004: "wecom.content",
    60020: "wecom.ip",
    81013: "wecom.person",
    60111: "wecom.person",
    40003: "wecom.person",
    301002: "wecom.agent",
    40056: "wecom.agent",
}
TOKEN = (40014, 42001)
SLOW = (45009, 45033)


class Answer(BaseModel):
    """What all calls answer, and what some of them add."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    errcode: int | None = None
    errmsg: str = ""
    access_token: str = ""
    expires_in: float = 7200
    msgid: str = ""
    invaliduser: str = ""
    media_id: str = ""


def fault(status: int, code: int | None, message: str) -> AppError:
    """The typed error for an answer that is not a success."""
    vendor = str(status if code is None else code)
    if code in SLOW or status == 429:
        return Throttled("wecom.too_fast", retry_after=60.0, vendor=vendor)
    if code in REFUSED:
        return Rejected(REFUSED[code], message[:300], vendor=vendor)
    if status == 504:
        return OutcomeUnknown("wecom.no_answer", vendor=vendor)
    if code in (None, -1) or status >= 500:
        return Unavailable("wecom.busy", vendor=vendor)
    return Rejected("wecom.refused", message[:300], vendor=vendor)


def parse(answer: httpx.Response) -> Answer:
    """What the vendor said; without an `errcode` where it is not in its form."""
    try:
        raw: Any = orjson.loads(answer.content)
        return Answer.model_validate(raw)
    except (orjson.JSONDecodeError, ValidationError):
        return Answer()


def read_answer(answer: httpx.Response) -> Answer:
    """The answer of a call that succeeded. Raises what `fault` makes of any other."""
    found = parse(answer)
    if found.errcode != 0:
        raise fault(answer.status_code, found.errcode, found.errmsg)
    return found
