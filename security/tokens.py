"""Short tokens for the API (JWT, HS256): proof of a fresh login, bound to the person's version of rights.

RFC 7519; one algorithm, pinned; every claim that is needed is required; the key is derived from the master key.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from security.sessions import Sessions
from security.sign_in import SignIn
from storage.clock import Clock
from storage.errors import Denied, Invalid, Unauthenticated
from storage.principal import ROLES
from storage.vault import Vault

ISSUER, AUDIENCE = "zhixing", "zhixing-api"
ALGORITHM = "HS256"
SECONDS = 600
SKEW = 30
LONGEST = 4_000
CLAIMS = ("iss", "aud", "sub", "sv", "iat", "exp", "jti")


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A token and what it may do."""

    value: str = field(repr=False)
    seconds: int
    rights: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """What a genuine token says. `scopes` None: all of the person's rights. Whether it still holds, the rows say."""

    user_id: int
    version: int
    id: str
    scopes: frozenset[str] | None


class Tokens:
    """Issues and reads tokens. Keeps nothing: a change of the person's password, role or factors ends them."""

    def __init__(self, sign_in: SignIn, sessions: Sessions, vault: Vault, clock: Clock) -> None:
        self.sign_in, self.sessions, self.clock = sign_in, sessions, clock
        self._key, self._kid = vault.derive("api tokens"), vault.key_id

    async def issue(self, *, name: str, password: str, code: str, scopes: Sequence[str], ip: str, agent: str) -> Token:
        """Sign in and get a token. Tries are limited as at the login.

        Args:
            code: of the authenticator, where the account has one.
            scopes: to hold less than all of one's rights; empty: all.

        Raises:
            Unauthenticated: `login.wrong`, `login.code_needed`, `code.wrong`, `code.used`. Invalid, Throttled: as the
            login. Denied: `token.scope_high`.
        """
        step = await self.sign_in.password(name, password, ip=ip, agent=agent)
        if not step.done:
            if not code.strip():
                await self.sessions.revoke(step.sid)
                raise Unauthenticated("login.code_needed")
            try:
                step = await self.sign_in.code(step.value, code, ip=ip, agent=agent)
            except Unauthenticated:
                await self.sessions.revoke(step.sid)
                raise
        live = self.sessions.get(step.sid)
        # the token stands for itself: no panel session stays behind, and none of the person's own is pushed out
        await self.sessions.revoke(step.sid)
        if live is None or live.user_id is None:
            raise Unauthenticated("login.wrong")
        wanted = sorted({scope.strip() for scope in scopes if scope.strip()})
        rights = ROLES.get(live.who.role, frozenset())
        for scope in wanted:
            if scope not in ROLES["owner"]:
                raise Invalid("key.scope_unknown", "scopes", scope=scope[:40])
            if scope not in rights:
                raise Denied("token.scope_high", scope=scope)
        value = self._sign(live.user_id, live.version, wanted)
        return Token(value=value, seconds=SECONDS, rights=tuple(wanted or sorted(rights)))

    def _sign(self, user_id: int, version: int, scopes: Sequence[str]) -> str:
        import jwt

        now = self.clock.ms() // 1000
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": f"user:{user_id}",
            "sv": version,
            "iat": now,
            "exp": now + SECONDS,
            "jti": secrets.token_hex(12),
        }
        if scopes:
            claims["scope"] = " ".join(scopes)
        return jwt.encode(claims, self._key, ALGORITHM, headers={"kid": self._kid})

    def read(self, value: str) -> Claims:
        """What a token of ours says that has not expired.

        Raises:
            Unauthenticated: `token.wrong`, `token.expired`.
        """
        import jwt

        if len(value) > LONGEST or not value.isascii():
            raise Unauthenticated("token.wrong")
        # our clock decides about the times, below
        options: Any = {"require": list(CLAIMS), "verify_exp": False, "verify_iat": False, "verify_nbf": False}
        try:
            head = jwt.get_unverified_header(value)
            if head.get("kid") != self._kid or head.get("alg") != ALGORITHM:
                raise Unauthenticated("token.wrong")
            raw = jwt.decode(
                value, self._key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, options=options
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated("token.wrong") from error
        now = self.clock.ms() / 1000
        number, version, begun, ends = raw["sub"].removeprefix("user:"), raw["sv"], raw["iat"], raw["exp"]
        if not number.isdigit() or not all(isinstance(one, int) for one in (version, begun, ends)):
            raise Unauthenticated("token.wrong")
        if now >= ends + SKEW or now < begun - SKEW:
            raise Unauthenticated("token.expired")
        scope = raw.get("scope")
        scopes = frozenset(str(scope).split()) if scope is not None else None
        return Claims(user_id=int(number), version=version, id=str(raw["jti"]), scopes=scopes)


__all__ = ["Claims", "Token", "Tokens"]
