"""The plain routes by path: webhooks, hooks, forms, static files, probes. None of them pays for NiceGUI."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import text
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from storage.database import Database
from storage.errors import AppError

PROBE_SECONDS = 2.0


class Readiness:
    """Is the process able to work? `started` is set by whoever starts and stops it."""

    def __init__(self, db: Database) -> None:
        self.db, self.started = db, False

    async def reasons(self) -> list[str]:
        """Codes of what keeps it from working; empty means ready."""
        if not self.started:
            return ["start.starting"]
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self.db.read(lambda c: c.execute(text("SELECT 1")).scalar())
        except AppError as error:
            return [error.code]
        except TimeoutError:
            return ["db.slow"]
        return []


class Hot:
    """Dispatches by prefix."""

    def __init__(
        self,
        *,
        webhooks: ASGIApp,
        hooks: ASGIApp,
        assets: ASGIApp,
        forms: Sequence[Route],
        readiness: Readiness,
        metrics: ASGIApp | None = None,
        echo: ASGIApp | None = None,
        api: ASGIApp | None = None,
    ) -> None:
        self.readiness = readiness
        self._below = [("/webhooks/", webhooks), ("/hooks/", hooks), ("/assets/", assets)]
        if api is not None:
            self._below += [("/api/", api), ("/v1/", api)]
        self._assets, self._forms = assets, Router(routes=list(forms))
        self._metrics, self._echo = metrics, echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        path = str(scope["path"])
        for prefix, app in self._below:
            if path.startswith(prefix):
                await app(scope, receive, send)
                return
        if path == "/healthz" and self._echo is not None:
            await self._echo(scope, receive, send)
        elif path == "/healthz":
            await PlainTextResponse("ok", headers={"cache-control": "no-store"})(scope, receive, send)
        elif path == "/readyz":
            reasons = await self.readiness.reasons()
            await JSONResponse(
                {"ready": not reasons, "reasons": reasons},
                status_code=503 if reasons else 200,
                headers={"cache-control": "no-store"},
            )(scope, receive, send)
        elif path == "/metrics" and self._metrics is not None:
            await self._metrics(scope, receive, send)
        elif path == "/favicon.ico":
            await self._assets({**scope, "path": "/assets/favicon.svg"}, receive, send)
        else:
            await self._forms(scope, receive, send)
