"""One-time codes: RFC 6238's own values, drift, single use."""

from __future__ import annotations

import base64

import pytest

from security import totp

SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("at", "code"), [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")]
)
def test_values_of_the_rfc(at: int, code: str) -> None:
    assert totp.matching_step(SECRET, code, at * 1000, 0) == at // 30


def test_one_step_of_drift_and_no_more() -> None:
    now = 1111111109
    for seconds, good in ((-30, True), (0, True), (30, True), (-60, False), (60, False)):
        assert (totp.matching_step(SECRET, "081804", (now + seconds) * 1000, 0) is not None) == good


def test_a_used_step_is_not_accepted_again() -> None:
    step = 1111111109 // 30
    assert totp.matching_step(SECRET, "081804", 1111111109_000, step - 1) == step
    assert totp.matching_step(SECRET, "081804", 1111111109_000, step) is None


@pytest.mark.parametrize("typed", ["081 804", " 081-804 ", "０８１８０４"])
def test_typing_is_forgiven(typed: str) -> None:
    assert totp.matching_step(SECRET, typed, 1111111109_000, 0) is not None


@pytest.mark.parametrize("typed", ["", "81804", "0818040", "abcdef", "08180a"])
def test_no_code(typed: str) -> None:
    assert totp.digits(typed) == ""
    assert totp.matching_step(SECRET, typed, 1111111109_000, 0) is None


def test_recovery_codes_differ_and_hash_in_any_typing() -> None:
    codes = totp.recovery_codes()
    assert len(set(codes)) == 10
    assert totp.recovery_hash(codes[0].upper().replace("-", " ")) == totp.recovery_hash(codes[0])
    assert totp.recovery_hash(codes[0]) != totp.recovery_hash(codes[1])


def test_picture_is_one_svg_without_script() -> None:
    picture = totp.picture(totp.uri(SECRET, "小王", "Zhixing"))
    assert picture.startswith("<svg")
    assert "script" not in picture
