"""Vendors' error bodies, as they are known, and what they mean to us."""

from __future__ import annotations

from typing import Any

import pytest

from agent.models.refusal import hidden_refusal, reason_of, refusal, retry_after
from storage.errors import Rejected, Throttled, Unavailable

KNOWN: list[tuple[int, Any, str]] = [
    (401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}, "model.key"),
    (401, {"error": {"message": "Authentication Fails", "type": "authentication_error"}}, "model.key"),
    (403, {"error": {"message": "Access denied"}}, "model.key"),
    (402, {"error": {"message": "Insufficient Balance"}}, "model.quota"),
    (429, {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}, "model.quota"),
    (429, {"error": {"code": "1113", "message": "您的账户已欠费，请充值后重试。"}}, "model.quota"),
    (
        400,
        {"code": "Arrearage", "message": "Access denied, please make sure your account is in good standing."},
        "model.quota",
    ),
    (429, {"error": {"message": "Rate limit reached for requests"}}, "model.throttled"),
    (429, "slow down", "model.throttled"),
    (404, {"error": {"code": "model_not_found", "message": "The model `x` does not exist"}}, "model.unknown"),
    (404, {"error": {"message": "model 'qwen9' not found, try pulling it first"}}, "model.unknown"),
    (400, {"error": {"message": "Model Not Exist", "type": "invalid_request_error"}}, "model.unknown"),
    (404, {"detail": "Not Found"}, "model.address"),
    (404, "<html>404 Not Found nginx</html>", "model.address"),
    (405, {"detail": "Method Not Allowed"}, "model.address"),
    (301, "", "model.address"),
    (400, {"error": {"code": "context_length_exceeded", "message": "maximum context length is 8192"}}, "model.context"),
    (
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}},
        "model.context",
    ),
    (400, {"code": "InvalidParameter", "message": "Range of input length should be [1, 30720]"}, "model.context"),
    (400, {"error": {"message": "Content Exists Risk"}}, "model.filtered"),
    (
        400,
        {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."},
        "model.filtered",
    ),
    (400, {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}, "model.filtered"),
    (400, {"error": {"message": "messages: field required"}}, "model.bad_request"),
    (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, "model.bad_request"),
    (500, "oops", "model.down"),
    (503, {"error": {"message": "busy"}}, "model.down"),
    (529, {"error": {"type": "overloaded_error", "message": "Overloaded"}}, "model.down"),
    (504, "", "model.timeout"),
]


@pytest.mark.parametrize(("status", "body", "code"), KNOWN)
def test_known_refusals(status: int, body: Any, code: str) -> None:
    error = refusal(status, body)
    assert error.code == code
    kinds = {"model.throttled": Throttled, "model.down": Unavailable, "model.timeout": Unavailable}
    assert isinstance(error, kinds.get(code, Rejected))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"message": "The server is overloaded"}}, "model.throttled"),
        ({"error": "boom"}, "model.down"),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "model.key"),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "model.quota"),
        ({"base_resp": {"status_code": 1027, "status_msg": "new_sensitive"}}, "model.filtered"),
    ],
)
def test_errors_sent_with_200(body: dict[str, Any], code: str) -> None:
    error = hidden_refusal(body)
    assert error is not None
    assert error.code == code


def test_no_error_in_a_good_body() -> None:
    assert hidden_refusal({"choices": [], "base_resp": {"status_code": 0}, "error": None}) is None


def test_reason_shows_no_key() -> None:
    reason = reason_of("Incorrect API key provided: sk-abcdefghijklmnopqrstuv1234.\nFind it")
    assert "sk-" not in reason
    assert "\n" not in reason
    assert len(reason_of("x y" * 1000)) <= 300


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:07 GMT"}, 7.0),
        ({"retry-after": "Thu, 01 Jan 2015 00:00:07 GMT"}, 0.0),
        ({"retry-after": "99999999"}, 86_400.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "nan?"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, 1_767_225_600_000) == seconds
