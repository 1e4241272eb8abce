"""Passwords: what may be one, and argon2 hashing that does not stall a two-core server.

Parameters: OWASP Password Storage Cheat Sheet (19 MiB, t=2, p=1). Length rules: NIST SP 800-63B, ASVS 5.0 6.2.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar

from storage.errors import Invalid, Throttled

T = TypeVar("T")
LEAST, MOST = 12, 256
MOST_WAITING = 40

# What a guesser of this product's passwords tries first; English lists do not know these words.
_TEXT = """
zhixing admin administrator root owner manager system server panel agent robot chatbot openclaw assistant
dingtalk dingding feishu lark wecom weixin wechat qiyeweixin company gongsi password passwd pass secret
welcome changeme letmein default qwerty qwertyuiop asdfgh zxcvbn abc abcd test guest user login
woaini woaiwojia woai aini nihao zhongguo beijing shanghai guangzhou shenzhen mima mimashi guanliyuan
xiaoming xiaohong zhangwei wangwei wangfang liwei lina zhangmin lijing wangjing wangli zhangli liuwei chenwei
yangyang wangxiaoming zhangsan lisi wangwu zhaoliu woshi nishishui baobao laopo laogong jiayou fafafa
yiqiaiziji wojiushiwo tiantian xiangshang gongxifacai wanshiruyi
"""
_WORDS = tuple(_TEXT.split())
_ONLY_WORDS = re.compile("(?:" + "|".join(sorted(_WORDS, key=len, reverse=True)) + ")+")
_LEET = [str.maketrans("013457@$!", "o" + one + "eastasi") for one in "il"]


class Passwords:
    """Hashes and checks passwords in a pool of one thread, so that a burst of logins leaves a core free."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="password")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The argon2id hash to keep."""
        return await self._in_turn(lambda: str(self._context.hash(_normal(password))))

    async def verify(self, password: str, hashed: str) -> bool:
        """True if the password fits. An empty `hashed` (unknown user) costs the same time and never fits."""
        return await self._in_turn(lambda: self._verify(password, hashed))

    async def check(self, password: str, *, name: str = "", field: str = "password") -> None:
        """Refuse a password that would be guessed.

        Raises:
            Invalid: `password.empty`, `password.short`, `password.long`, `password.name` or `password.common`.
        """
        text = _normal(password)
        if not text:
            raise Invalid("password.empty", field)
        if len(text) < LEAST:
            raise Invalid("password.short", field, least=LEAST, has=len(text))
        if len(text) > MOST:
            raise Invalid("password.long", field, most=MOST)
        if len(name) >= 3 and name.casefold() in text.casefold():
            raise Invalid("password.name", field)
        if is_common(text) or await self._in_turn(lambda: _strength(text, name) < 3):
            raise Invalid("password.common", field)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password: str, hashed: str) -> bool:
        from passlib.exc import PasswordSizeError, UnknownHashError

        try:
            fits = bool(self._context.verify(_normal(password)[: 4 * MOST], hashed or self._nobody))
        except (UnknownHashError, PasswordSizeError, ValueError):
            return False
        return fits and bool(hashed)

    @cached_property
    def _context(self) -> Any:
        from passlib.context import CryptContext  # 70 ms, needed at the first login only

        return CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__memory_cost=19456,
            argon2__time_cost=2,
            argon2__parallelism=1,
        )

    @cached_property
    def _nobody(self) -> str:
        return str(self._context.hash(secrets.token_urlsafe(24)))

    async def _in_turn(self, fn: Callable[[], T]) -> T:
        if self._waiting >= MOST_WAITING:
            raise Throttled("login.busy", retry_after=3)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, fn)
        finally:
            self._waiting -= 1


def _normal(password: str) -> str:
    # the same characters typed on another system must give the same bytes
    return unicodedata.normalize("NFC", password)


def is_common(text: str) -> bool:
    """True if nothing but context and pinyin words is left once digits, signs and letter-like digits are undone."""
    core = re.sub(r"^[^a-z@$]+|[^a-z]+$", "", text.casefold())
    readings = [core, *(core.translate(table) for table in _LEET)]
    plain = (re.sub(r"[^a-z]", "", reading) for reading in readings)
    return any(word and _ONLY_WORDS.fullmatch(word) for word in plain)


def _strength(text: str, name: str) -> int:
    """0 to 4 by zxcvbn, which sees keyboard walks, dates, repeats and English lists."""
    from zxcvbn_rs_py import zxcvbn

    return int(zxcvbn(text[:100], [*_WORDS, *([name] if name else [])]).score)
