"""What answers where the database is damaged: nothing is written, vendors are told to come again, people what to do."""

from __future__ import annotations

import html
import json

from starlette.types import Receive, Scope, Send

from storage.errors import AppError
from storage.words import LANGS, Words

PAGE = (
    '<!doctype html><html lang="zh-CN"><meta charset="utf-8"><title>知行</title>'
    "<style>body{{font:16px/1.6 system-ui,sans-serif;max-width:640px;margin:12vh auto}}</style>{body}</html>"
)


class SafeMode:
    """An ASGI application without a database. `error` is why."""

    def __init__(self, error: AppError, words: Words) -> None:
        self._code = error.code
        says = [
            f"<h1>{html.escape(words.say(lang, 'safe.title'))}</h1><p>{html.escape(words.say(lang, 'safe.what'))}</p>"
            for lang in LANGS
        ]
        self._page = PAGE.format(body="".join(says)).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1013})
            return
        path = str(scope["path"])
        if path == "/healthz":
            await _answer(send, 200, b"ok", "text/plain")
        elif path.startswith(("/webhooks/", "/hooks/", "/api/", "/v1/")) or path == "/readyz":
            body = {"ready": False, "reasons": [self._code], "code": self._code}
            await _answer(send, 503, json.dumps(body).encode(), "application/json")
        else:
            await _answer(send, 503, self._page, "text/html; charset=utf-8")


async def _answer(send: Send, status: int, body: bytes, kind: str) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"retry-after", b"60"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
