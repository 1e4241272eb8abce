"""What a vendor's refusal means: status and error body become the typed errors of `base.Model`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from storage.errors import AppError, Invalid, OutcomeUnknown, Rejected, Throttled, TooLarge, Unavailable

LONGEST_WAIT = 86_400.0
QUOTA = re.compile(
    r"insufficient_quota|insufficient.?balance|exceeded_current_quota|arrearage|overdue|欠费|余额不足|账户余额"
    r"|credit balance|free.?tier.*only|not enough credits|资源包",
    re.IGNORECASE,
)
CONTEXT = re.compile(
    r"context.?length|context.?window|maximum context|prompt is too long|input.?length|too many (?:input )?tokens"
    r"|exceeds? the (?:model'?s? )?(?:maximum|context|limit)|reduce the length|total_tokens|string_above_max_length"
    r"|上下文长度|输入.{0,6}(?:过长|超长|超过|超出)",
    re.IGNORECASE,
)
FILTERED = re.compile(
    r"content.?filter|data_?inspection|content_?policy|content exists risk|sensitive|safety|moderation|inappropriate"
    r"|敏感|不合规|违规|审核",
    re.IGNORECASE,
)
NO_MODEL = re.compile(
    r"model_?not_?(?:found|exist|open)|model.{0,80}(?:not exist|not found|does not exist|not supported|is invalid"
    r"|no access|not have access)|(?:no such|unknown|invalid|unsupported) model"
    r"|模型.{0,30}(?:不存在|未开通|无权|不支持)|InvalidEndpointOrModel",
    re.IGNORECASE,
)
KEY = re.compile(
    r"invalid.?api.?key|incorrect api key|invalid_?authentication|authentication_error|unauthorized|api.?key.{0,30}"
    r"(?:invalid|incorrect|missing|not valid|错误|无效)|permission_error|身份验证|令牌",
    re.IGNORECASE,
)
RATE = re.compile(r"rate.?limit|too many requests|overloaded|throttl|tpm|rpm|限流|频率|并发|访问量过大", re.IGNORECASE)
SECRET = re.compile(r"\bsk-[\w*-]+|(?=[\w\-.]*[\d*])[\w\-*.]{20,}", re.ASCII)
MINIMAX = {1004: 401, 2049: 401, 1008: 402, 1002: 429, 1039: 429, 1041: 429, 1001: 504}


def reason_of(text: str) -> str:
    """A vendor's words, safe to show: one line, short, nothing that looks like a key."""
    return SECRET.sub("…", " ".join(text.split()))[:300]


def retry_after(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Seconds that the vendor asks us to wait, from seconds, milliseconds or a date; None if it says nothing."""
    text = headers.get("retry-after-ms", "")
    try:
        if text:
            return min(LONGEST_WAIT, max(0.0, float(text) / 1000))
        text = headers.get("retry-after", "").strip()
        if not text:
            return None
        if text.replace(".", "", 1).isdigit():
            return min(LONGEST_WAIT, float(text))
        at = parsedate_to_datetime(text)
        return min(LONGEST_WAIT, max(0.0, at.timestamp() - now_ms / 1000))
    except (ValueError, TypeError, OverflowError):
        return None


def _words(body: Mapping[str, Any]) -> tuple[str, str]:
    """Code and message of an error body, whatever its shape."""
    error: Any = body.get("error", body)
    if isinstance(error, str):
        return "", error
    if not isinstance(error, Mapping):
        return "", str(error)[:300]
    code = " ".join(str(error[k]) for k in ("code", "type", "status") if isinstance(error.get(k), str | int))
    message = next((error[k] for k in ("message", "msg", "detail", "error_msg", "status_msg") if error.get(k)), "")
    return code, message if isinstance(message, str) else orjson.dumps(message).decode()


def refusal(status: int, body: Any, *, wait: float | None = None, model: str = "") -> AppError:
    """The error for an answer that is no answer.

    Args:
        status: HTTP status; 0 where the error came inside a stream.
        body: parsed JSON, or text.
        wait: seconds from Retry-After.
    """
    if isinstance(body, Mapping):
        code, message = _words(body)
        told = True
    else:
        code, message, told = "", str(body or ""), False
        if message.lstrip()[:1] == "<":
            message = ""
    text, reason = f"{code} {message}", reason_of(message or code)
    if status == 402 or (status in (0, 400, 403, 429) and QUOTA.search(text)):
        return Rejected("model.quota", reason=reason)
    if status == 429:
        return Throttled("model.throttled", retry_after=wait if wait is not None else 1.0, reason=reason)
    if status in (401, 403):
        filtered = status == 403 and FILTERED.search(text)
        return Rejected("model.filtered" if filtered else "model.key", reason=reason)
    if status == 404:
        about = NO_MODEL.search(text) or (told and "model" in text.lower())
        return Rejected("model.unknown" if about else "model.address", reason=reason, model=model)
    if status in (408, 504, 524):
        return Unavailable("model.timeout", why="vendor")
    if status >= 500:
        return Unavailable("model.down", status=status, reason=reason)
    if 300 <= status < 400 or status == 405:
        return Rejected("model.address", reason=reason, model=model)
    return _by_words(status, text, reason, model, wait)


def _by_words(status: int, text: str, reason: str, model: str, wait: float | None) -> AppError:
    """What only the words tell: 4xx of all kinds, and errors inside a stream."""
    if CONTEXT.search(text):
        return Rejected("model.context", reason=reason)
    if FILTERED.search(text):
        return Rejected("model.filtered", reason=reason)
    if NO_MODEL.search(text):
        return Rejected("model.unknown", reason=reason, model=model)
    if KEY.search(text):
        return Rejected("model.key", reason=reason)
    if RATE.search(text):
        return Throttled("model.throttled", retry_after=wait if wait is not None else 1.0, reason=reason)
    if status:
        return Rejected("model.bad_request", reason=reason)
    return Unavailable("model.down", status=0, reason=reason)


def hidden_refusal(body: Mapping[str, Any], *, model: str = "") -> AppError | None:
    """An error that was sent with status 200, or None if the body holds none."""
    if body.get("error"):
        return refusal(0, body, model=model)
    base = body.get("base_resp")
    if isinstance(base, Mapping) and base.get("status_code"):
        number = base["status_code"]
        status = MINIMAX.get(number, 0) if isinstance(number, int) else 0
        if number in (1026, 1027):
            return Rejected("model.filtered", reason=reason_of(str(base.get("status_msg", ""))))
        return refusal(status, base, model=model)
    return None


def outside(error: AppError) -> AppError:
    """The egress client's errors in the words of models."""
    match error:
        case Invalid():
            return Rejected("model.address", reason=str(error))
        case OutcomeUnknown() | TooLarge():
            return Unavailable("model.broken", why=error.code)
        case Unavailable():
            words = {"egress.dns": "model.dns", "egress.tls": "model.tls", "egress.timeout": "model.timeout"}
            if error.code == "egress.timeout":
                return Unavailable("model.timeout", why="connect")
            return Unavailable(words.get(error.code, "model.connect"), **error.params)
    return error
