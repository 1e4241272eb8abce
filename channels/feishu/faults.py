"""Feishu's error codes and what we do about each. The catalogue explains them under `error.feishu.<code>`.

Source: protocols.md section 4. Feishu is judged by the body's `code`, never by the HTTP status alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from storage.errors import AppError, Rejected, Throttled, Unavailable

TOKEN = frozenset({99991661, 99991663, 99991664, 99991665, 99991668, 99991671, 99991677})
"""The access token is missing, old or of another kind: renewed once, then it is a fault of the bot."""

RATE = frozenset({99991400, 230020, 11232})
ONE_CHAT = frozenset({230020})

BOT = frozenset({10003, 10014, 99991543, 99991662, 99991673, 99991401, 99991403, 19022})
"""The bot as a whole cannot speak now: wrong secret, switched off, address not allowed, quota used up.

An admin mends it without touching the message, so the message waits for that.
"""

MESSAGE = frozenset(
    {
        99991672,
        99991676,
        99991679,
        230001,
        230002,
        230006,
        230011,
        230013,
        230025,
        230027,
        230028,
        230031,
        230099,
        231003,
        234010,
        300309,
        300317,
        200850,
        200340,
        19001,
        19002,
        19021,
        19024,
        9499,
    }
)
"""This message, to this address, is refused for good."""

LONG = frozenset({1000040344, 1000040350, 403, 514})
"""Refusals of the long connection."""

BUSY = frozenset({1, 1000040343, 2200, 99991002, 90235, 1061045})
GONE = frozenset({"feishu.230011", "feishu.231003"})
"""The message that was to be answered is gone: it can be written to the chat instead."""

KNOWN = TOKEN | RATE | BOT | MESSAGE | LONG


def fault(code: int, message: str, headers: Mapping[str, str]) -> AppError:
    """The typed form of a refusal.

    Args:
        message: Feishu's own words; shown with the explanation, since it names missing scopes.
        headers: of the answer: log id for Feishu's support, time to wait.
    """
    params = {"vendor_code": str(code), "vendor_message": message[:500], "log_id": headers.get("x-tt-logid", "")[:80]}
    if code in RATE:
        scope = "lane" if code in ONE_CHAT else "bot"
        return Throttled(f"feishu.{code}", retry_after=wait_of(headers), scope=scope, **params)
    if code in BOT or code in TOKEN:
        return Unavailable(f"feishu.{code}", **params)
    if code in BUSY:
        return Unavailable("feishu.busy", **params)
    name = f"feishu.{code}" if code in MESSAGE else "feishu.refused"
    return Rejected(name, reason=f"{code} {message}"[:500], **params)


def ws_fault(code: int, message: str) -> AppError:
    """The typed form of a refused long connection: `Unavailable` is tried again soon, `Rejected` is for the admin."""
    params = {"vendor_code": str(code), "vendor_message": message[:500]}
    if code in BUSY:
        return Unavailable("feishu.busy", **params)
    name = f"feishu.{code}" if code in KNOWN else "feishu.ws_refused"
    return Rejected(name, reason=f"{code} {message}"[:500], **params)


def wait_of(headers: Mapping[str, str]) -> float:
    """Seconds that the vendor asks to wait; one if it does not say."""
    for name in ("x-ogw-ratelimit-reset", "retry-after"):
        text = headers.get(name, "").strip()
        try:
            return min(max(float(text), 0.1), 600.0)
        except ValueError:
            continue
    return 1.0
