"""`/healthz?probe=<ticket>`: tells the health tests how their own request arrived, over HTTP and as a WebSocket."""

from __future__ import annotations

from urllib.parse import parse_qs

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from security.gate import SCOPE_PEER, header
from security.health.echo import PARAM, Echo


class EchoRoute:
    """Answers `ok` to everybody, and more to who has a ticket."""

    def __init__(self, echo: Echo) -> None:
        self.echo = echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or one WebSocket."""
        query = parse_qs(scope.get("query_string", b"").decode("latin-1")[:500], max_num_fields=20)
        known = self.echo.knows(query.get(PARAM, [""])[0])
        told = orjson.dumps(self.echo.tell(scope.get(SCOPE_PEER), header(scope, b"host"), scope)) if known else b"ok"
        if scope["type"] == "http":
            media = "application/json" if known else "text/plain"
            answer = Response(told, media_type=media, headers={"cache-control": "no-store"})
            await answer(scope, receive, send)
            return
        await receive()
        if known:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": told.decode()})
        await send({"type": "websocket.close", "code": 1000 if known else 4404})
