"""The three schemes of inbound hooks, held against other hands' computations."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from channels.webhook.proof import document_sign, verify
from storage.errors import Unauthenticated

SECRET = "a-shared-secret-of-some-length"
NOW = 1_767_225_600_000
AT = str(NOW // 1000)
BODY = '{"task":"完成"}'.encode()


def documents_verify_signature(timestamp: str, sign: str, body: str) -> bool:
    """The source document's own function, word for word but for the secret."""
    secret = SECRET
    string_to_sign = f"{timestamp}\n{secret}\n{body}\n{secret}"
    hmac_code = hmac.new(secret.encode("utf-8"), string_to_sign.encode("utf-8"), digestmod=hashlib.sha256).digest()
    expected_sign = base64.b64encode(hmac_code).decode("utf-8")
    return hmac.compare_digest(sign, expected_sign)


def ours(timestamp: str, body: bytes = BODY, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, "sha256").hexdigest()


def test_the_documents_scheme_is_the_documents() -> None:
    assert documents_verify_signature(AT, document_sign(SECRET, AT, BODY), BODY.decode())


@pytest.mark.parametrize("at", [AT, str(NOW), str(NOW // 1000 - 299), str(NOW // 1000 + 299)])
def test_right_calls_pass(at: str) -> None:
    hmac_headers = {"x-zhixing-timestamp": at, "x-zhixing-signature": ours(at)}
    document_headers = {"timestamp": at, "sign": document_sign(SECRET, at, BODY)}
    assert verify("hmac", SECRET, hmac_headers, BODY, NOW)
    assert verify("document", SECRET, document_headers, BODY, NOW)
    assert verify("bearer", SECRET, {"authorization": f"bearer {SECRET}"}, BODY, NOW) == ""


def test_one_call_has_one_key_and_another_another() -> None:
    first = verify("hmac", SECRET, {"x-zhixing-timestamp": AT, "x-zhixing-signature": ours(AT)}, BODY, NOW)
    again = verify("hmac", SECRET, {"x-zhixing-timestamp": AT, "x-zhixing-signature": ours(AT)}, BODY, NOW)
    other = str(NOW // 1000 + 1)
    later = verify("hmac", SECRET, {"x-zhixing-timestamp": other, "x-zhixing-signature": ours(other)}, BODY, NOW)
    assert first == again != later


OLD, NEW = str(NOW // 1000 - 301), str(NOW // 1000 + 301)


@pytest.mark.parametrize(
    ("scheme", "headers"),
    [
        ("hmac", {}),
        ("hmac", {"x-zhixing-timestamp": AT}),
        ("hmac", {"x-zhixing-signature": ours(AT)}),
        ("hmac", {"x-zhixing-timestamp": AT, "x-zhixing-signature": ""}),
        ("hmac", {"x-zhixing-timestamp": AT, "x-zhixing-signature": ours(AT).upper()}),
        ("hmac", {"x-zhixing-timestamp": AT, "x-zhixing-signature": ours(AT)[7:]}),
        ("hmac", {"x-zhixing-timestamp": AT, "x-zhixing-signature": ours(AT, b"{}")}),
        ("hmac", {"x-zhixing-timestamp": AT, "x-zhixing-signature": ours(AT, secret="x")}),
        ("hmac", {"x-zhixing-timestamp": AT, "x-zhixing-signature": "签"}),
        ("hmac", {"x-zhixing-timestamp": NEW, "x-zhixing-signature": ours(AT)}),
        ("hmac", {"x-zhixing-timestamp": OLD, "x-zhixing-signature": ours(OLD)}),
        ("hmac", {"x-zhixing-timestamp": NEW, "x-zhixing-signature": ours(NEW)}),
        ("hmac", {"x-zhixing-timestamp": "soon", "x-zhixing-signature": ours("soon")}),
        ("hmac", {"x-zhixing-timestamp": "٣" * 10, "x-zhixing-signature": ours("٣" * 10)}),
        ("hmac", {"x-zhixing-timestamp": "-1", "x-zhixing-signature": ours("-1")}),
        ("hmac", {"x-zhixing-timestamp": "9" * 90, "x-zhixing-signature": ours("9" * 90)}),
        ("hmac", {"timestamp": AT, "sign": document_sign(SECRET, AT, BODY)}),
        ("document", {"timestamp": AT, "sign": document_sign(SECRET, AT, b"{}")}),
        ("document", {"timestamp": AT, "sign": document_sign("other", AT, BODY)}),
        ("document", {"timestamp": AT, "sign": document_sign(SECRET, AT, BODY).rstrip("=")}),
        ("document", {"timestamp": OLD, "sign": document_sign(SECRET, OLD, BODY)}),
        ("document", {"x-zhixing-timestamp": AT, "x-zhixing-signature": ours(AT)}),
        ("bearer", {}),
        ("bearer", {"authorization": SECRET}),
        ("bearer", {"authorization": "Bearer "}),
        ("bearer", {"authorization": "Bearer wrong"}),
        ("bearer", {"authorization": f"Bearer {SECRET} "}),
        ("bearer", {"authorization": f"Basic {SECRET}"}),
        ("bearer", {"x-zhixing-timestamp": AT, "x-zhixing-signature": ours(AT)}),
        ("other", {"authorization": f"Bearer {SECRET}"}),
    ],
)
def test_wrong_calls_are_refused(scheme: str, headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        verify(scheme, SECRET, headers, BODY, NOW)


@pytest.mark.parametrize("scheme", ["hmac", "document", "bearer"])
def test_without_a_secret_nothing_passes(scheme: str) -> None:
    headers = {
        "x-zhixing-timestamp": AT,
        "x-zhixing-signature": ours(AT, secret=""),
        "timestamp": AT,
        "sign": document_sign("", AT, BODY),
        "authorization": "Bearer ",
    }
    with pytest.raises(Unauthenticated):
        verify(scheme, "", headers, BODY, NOW)
