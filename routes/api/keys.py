"""Keys and tokens by API."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from routes.api.entrance import IP
from routes.api.terms import Body, Caller, Items, Number, Text
from security.keys import KeyActions, KeyRow
from security.tokens import Tokens

Scope = Annotated[Text, Field(max_length=60)]


class Login(Body):
    """Name and password of a person, and a code where the account has an authenticator."""

    name: Text = Field(min_length=1, max_length=200)
    password: Text = Field(min_length=1, max_length=1000)
    code: Text = Field(default="", max_length=40)
    scopes: list[Scope] = Field(default_factory=list, max_length=60, description="To hold less than all rights.")


class TokenMade(BaseModel):
    """A token that is good for some minutes."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - its kind
    expires_in: int
    scopes: list[str]


class NewKey(Body):
    """A key to be made."""

    name: Text = Field(min_length=1, max_length=60)
    scopes: list[Scope] = Field(min_length=1, max_length=60, description="Rights; `*` for all of one's own.")
    days: int | None = Field(default=None, ge=1, le=3650, description="Until it ends; null: never.")


class KeyShown(BaseModel):
    """A new key. `secret` is shown this once."""

    key: KeyRow
    secret: str


def keys_router(keys: KeyActions, tokens: Tokens) -> APIRouter:
    """Routes `/api/v1/token` and below `/api/v1/keys`."""
    router = APIRouter(prefix="/api/v1")

    @router.post("/token", tags=["token"])
    async def token(request: Request, body: Login) -> TokenMade:
        """Sign in for ten minutes. A changed password or role, or a disabled account, ends the token at once."""
        made = await tokens.issue(
            name=body.name,
            password=body.password,
            code=body.code,
            scopes=body.scopes,
            ip=str(request.scope.get(IP, "")),
            agent=f"API {request.headers.get('user-agent', '')}"[:200],
        )
        return TokenMade(access_token=made.value, expires_in=made.seconds, scopes=list(made.rights))

    @router.get("/keys", tags=["keys"])
    async def list_(who: Caller) -> Items[KeyRow]:
        """All keys, without their secrets. Right: key.manage."""
        return Items(items=await keys.list(who))

    @router.post("/keys", tags=["keys"], status_code=201)
    async def create(who: Caller, body: NewKey) -> KeyShown:
        """Make a key; its secret is in this answer only. Right: key.manage, with a token: a key makes no keys."""
        made = await keys.create(who, name=body.name, scopes=body.scopes, days=body.days)
        return KeyShown(key=made.row, secret=made.secret)

    @router.delete("/keys/{id:int}", tags=["keys"])
    async def revoke(who: Caller, id: Number) -> KeyRow:
        """End a key; the next request with it is refused. Right: key.manage."""
        return await keys.revoke(who, id)

    return router
