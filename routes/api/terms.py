"""Types that all routes share: the caller, bounded numbers and texts, pages of a list."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Header, Path, Query, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import Request

from routes.api.entrance import WHO
from storage.errors import Unauthenticated
from storage.principal import Principal

T = TypeVar("T")
MOST_ID = 2**53 - 1

_bearer = HTTPBearer(auto_error=False, bearerFormat="API key (zx_…) or JWT", scheme_name="bearer")


async def _caller(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None
) -> Principal:
    who = request.scope.get(WHO)
    if not isinstance(who, Principal):
        raise Unauthenticated("api.no_key")
    return who


def _clean(text: str) -> str:
    """Refuse what no database keeps and no vendor takes."""
    if "\x00" in text or any("\ud800" <= ch <= "\udfff" for ch in text):
        raise ValueError("text")
    return text


Caller = Annotated[Principal, Depends(_caller)]
Text = Annotated[str, AfterValidator(_clean)]
Number = Annotated[int, Path(ge=1, le=MOST_ID)]
Name = Annotated[Text, Path(min_length=1, max_length=200)]
Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
Before = Annotated[int | None, Query(ge=1, le=MOST_ID, description="Id of the last one seen, for the next page.")]
Short = Annotated[Text, Query(max_length=200)]
Time = Annotated[int | None, Query(ge=0, le=MOST_ID, description="Milliseconds since the epoch, UTC.")]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        pattern=r"^[\x21-\x7e]*$",
        description="A name of yours for this request. Sent again with it, it does nothing and answers the same.",
    ),
]


class Body(BaseModel):
    """What a request may hold; nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True, str_max_length=100_000)


class Items(BaseModel, Generic[T]):
    """A page of a list."""

    items: list[T]
    next: int | None = Field(default=None, description="Give this as `before` for the next page; null at the end.")


def page(rows: list[T], limit: int) -> Items[T]:
    """Rows with an `id`, newest first, as a page."""
    last = getattr(rows[-1], "id", None) if len(rows) >= limit else None
    return Items(items=rows, next=last)
