"""What may be a password, and that a hash costs the same for whoever is unknown."""

from __future__ import annotations

import pytest

from security.passwords import Passwords, is_common
from storage.errors import Invalid


@pytest.fixture
def passwords() -> Passwords:
    return Passwords()


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "password.empty"),
        ("short", "password.short"),
        ("a" * 11, "password.short"),
        ("x7" * 200, "password.long"),
        ("anna-likes-tea-9", "password.name"),
        ("password1234", "password.common"),
        ("P@ssw0rd2026", "password.common"),
        ("123456789012", "password.common"),
        ("qwertyuiop123", "password.common"),
        ("aaaaaaaaaaaa", "password.common"),
        ("woaini1314521", "password.common"),
        ("Zhixing2026!!", "password.common"),
        ("dingtalk-feishu", "password.common"),
        ("adm1n@dmin123", "password.common"),
        ("zhangwei19900101", "password.common"),
    ],
)
async def test_refused_with_the_reason(passwords: Passwords, password: str, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        await passwords.check(password, name="anna")
    assert (caught.value.code, caught.value.field) == (code, "password")


@pytest.mark.parametrize(
    "password",
    ["kY7#mvQ2pLx9", "correct horse battery", "我爱北京天安门太阳升起来了", "b" + "xq9-" * 40, "lampe-fluss-42-krug"],
)
async def test_good_ones_pass_also_long_and_in_chinese(passwords: Passwords, password: str) -> None:
    await passwords.check(password, name="anna")


def test_words_alone_are_common_with_whatever_signs() -> None:
    assert all(is_common(text) for text in ("admin!!!admin", "Feishu-2026-Robot", "w0aini1314"))
    assert not any(is_common(text) for text in ("adminx7Q!marble", "8472-1192-0034", "北京"))


async def test_verify(passwords: Passwords) -> None:
    hashed = await passwords.hash("kY7#mvQ2pLx9")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify("kY7#mvQ2pLx9", hashed)
    assert not await passwords.verify("kY7#mvQ2pLx8", hashed)
    assert not await passwords.verify("kY7#mvQ2pLx9", "")
    assert not await passwords.verify("kY7#mvQ2pLx9", "garbage")


async def test_the_same_letters_in_another_form_fit(passwords: Passwords) -> None:
    hashed = await passwords.hash("cafe\u0301-noir-42-xx")
    assert await passwords.verify("caf\u00e9-noir-42-xx", hashed)


async def test_unknown_users_cost_a_whole_verification(passwords: Passwords) -> None:
    """Counted, not timed: one verification in either case."""
    calls = []
    inner = passwords._context
    real = inner.verify

    class Counting:
        def hash(self, text: str) -> str:
            return str(inner.hash(text))

        def verify(self, text: str, hashed: str) -> bool:
            calls.append(hashed)
            return bool(real(text, hashed))

    passwords.__dict__["_context"] = Counting()
    await passwords.verify("whatever-it-is", "")
    assert len(calls) == 1
    assert calls[0].startswith("$argon2id$")
