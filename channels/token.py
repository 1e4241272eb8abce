"""The access token: fetched once for all who wait, renewed early."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from storage.clock import Clock
from storage.errors import AppError

EARLY = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """A token and the seconds that it holds."""

    token: str
    seconds: float


class TokenCache:
    """One token of one app. Many callers share one request for it."""

    def __init__(self, fetch: Callable[[], Awaitable[Grant]], clock: Clock) -> None:
        self._fetch, self._clock = fetch, clock
        self._token, self._until = "", 0.0
        self._lock = asyncio.Lock()
        self._tries = 0
        self._error: AppError | None = None

    async def get(self, stale: str = "") -> str:
        """A token that holds for some minutes.

        Args:
            stale: a token that the vendor has just refused; another one is fetched unless somebody already has.

        Raises:
            AppError: as `fetch` raised it.
        """
        token = self._fresh(stale)
        if token:
            return token
        tries = self._tries
        async with self._lock:
            token = self._fresh(stale)
            if token:
                return token
            if self._tries != tries and self._error is not None:
                raise self._error.with_traceback(None)  # it failed while we waited: one failure for all who wait
            try:
                grant = await self._fetch()
            except AppError as error:
                self._tries, self._error = self._tries + 1, error
                raise
            self._token = grant.token
            self._until = self._clock.monotonic() + max(grant.seconds - EARLY, 1.0)
            return grant.token

    def _fresh(self, stale: str) -> str:
        if self._token and self._token != stale and self._clock.monotonic() < self._until:
            return self._token
        return ""
