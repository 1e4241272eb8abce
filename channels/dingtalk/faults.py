"""DingTalk's errors as ours: what the sender does next, a code with a remedy, never a secret.

Source: protocols.md 4.
"""

from __future__ import annotations

from collections.abc import Mapping

from storage.errors import AppError, OutcomeUnknown, Rejected, Throttled, Unavailable

# first match wins; compared in lower case with the start of the code (v1.0) or the whole number (oapi)
REFUSED = (
    ("invalidclientidorsecret", "dingtalk.credentials"),
    ("authfailed", "dingtalk.credentials"),
    ("40089", "dingtalk.credentials"),
    ("40001", "dingtalk.credentials"),
    ("invalidauthentication", "dingtalk.token"),
    ("40014", "dingtalk.token"),
    ("forbidden.accessdenied.accesstokenpermissiondenied", "dingtalk.scope"),
    ("forbidden.accessdenied.ipnotinwhitelist", "dingtalk.ip"),
    ("60020", "dingtalk.ip"),
    ("invalidparameter.robotcode", "dingtalk.robot_code"),
    ("invalidparameter.userids", "dingtalk.person"),
    ("invalidparameter.openconversationid", "dingtalk.group"),
    ("invalidparameter.msgkey", "dingtalk.content"),
    ("invalidparameter.msgparam", "dingtalk.content"),
    ("param.cardtemplate", "dingtalk.card_template"),
    ("invalidparameter.cardtemplate", "dingtalk.card_template"),
    ("300001", "dingtalk.session_expired"),
    ("300005", "dingtalk.robot_disabled"),
    ("400102", "dingtalk.robot_disabled"),
    ("400101", "dingtalk.robot_token"),
    ("400106", "dingtalk.group"),
    ("400013", "dingtalk.group_gone"),
    ("400105", "dingtalk.content"),
    ("40035", "dingtalk.content"),
    ("43004", "dingtalk.content"),
    ("430101", "dingtalk.blocked"),
    ("430102", "dingtalk.blocked"),
    ("430103", "dingtalk.blocked"),
    ("430104", "dingtalk.blocked"),
    ("460101", "dingtalk.too_long"),
)
SLOW = ("130101", "410100", "90030", "90018")
TOKEN = ("invalidauthentication", "40014")


def is_token(code: str) -> bool:
    """True if a fresh access token may help; the call was refused before anything was done."""
    return code.lower().startswith(TOKEN)


def fault(status: int, code: str, message: str, *, request: str = "", retry_after: float = 0.0) -> AppError:
    """The typed error for an answer that is not a success.

    Args:
        status: HTTP status.
        code: the vendor's code, empty where the answer was not JSON.
        message: the vendor's words, shown as they are.
        request: the vendor's id of the call, for their support.
    """
    low, words = code.lower(), message[:300]
    about: dict[str, object] = {"vendor": code[:120] or str(status), "request": request[:80]}
    if "qpslimit" in low or status == 429:
        return Throttled("dingtalk.too_fast", retry_after=max(retry_after, 2.0), **about)
    if low in SLOW:
        return Throttled("dingtalk.too_fast", retry_after=max(retry_after, 600.0 if low != "90018" else 60.0), **about)
    if low == "310000":
        return Rejected(security_code(words), words, **about)
    for start, known in REFUSED:
        if low.startswith(start) if not start.isdigit() else low == start:
            return Rejected(known, words, **about)
    if status == 504:
        return OutcomeUnknown("dingtalk.no_answer", **about)  # a gateway gave up waiting: the call may have been done
    if status >= 500 or low in ("", "-1", "systemerror", "serviceunavailable", "internalerror"):
        return Unavailable("dingtalk.busy", **about)
    return Rejected("dingtalk.refused", words, **about)


def security_code(words: str) -> str:
    """Which of a group robot's three protections refused (code 310000 for all of them)."""
    low = words.lower()
    if "keyword" in low or "关键词" in low:
        return "dingtalk.keyword"
    if "timestamp" in low or "时间" in low:
        return "dingtalk.clock"
    if "whitelist" in low or "white list" in low or "白名单" in low or low.startswith("ip"):
        return "dingtalk.robot_ip"
    return "dingtalk.robot_sign"


def scopes(detail: object) -> str:
    """The names of missing scopes from `accessdenieddetail`, joined; empty where it names none."""
    if not isinstance(detail, Mapping):
        return ""
    names = detail.get("requiredScopes")
    return ", ".join(str(name)[:80] for name in names[:10]) if isinstance(names, list) else ""
