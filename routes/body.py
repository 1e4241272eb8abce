"""Reads a request's body within bounds, before anything looks at it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.types import Receive, Scope

from storage.errors import Invalid, TooLarge


async def read_body(scope: Scope, receive: Receive, *, most: int, seconds: float) -> bytes:
    """The whole body.

    Raises:
        TooLarge: `http.body_size`: announced or real size above `most`.
        Invalid: `http.body_slow`: not whole in time; `http.body_cut`: the caller went away.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > most:
            raise TooLarge("http.body_size", most=most)
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise Invalid("http.body_cut")
                piece = event.get("body", b"")
                size += len(piece)
                if size > most:
                    raise TooLarge("http.body_size", most=most)
                pieces.append(piece)
                if not event.get("more_body", False):
                    return b"".join(pieces)
    except TimeoutError as error:
        raise Invalid("http.body_slow", seconds=int(seconds)) from error


def headers_of(scope: Scope, single: Iterable[str]) -> dict[str, str]:
    """Headers by their names in lower case.

    Args:
        single: names that must not come twice: two readers could believe different ones.

    Raises:
        Invalid: `http.header_twice`.
    """
    once, made = set(single), dict[str, str]()
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name in made:
            if name in once:
                raise Invalid("http.header_twice", header=name)
            value = f"{made[name]}, {value}"
        made[name] = value
    return made
