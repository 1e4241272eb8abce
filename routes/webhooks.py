"""`/webhooks/<type>/<bot>`: callbacks of the vendors. Plain ASGI in front of the panel."""

from __future__ import annotations

import json
import math
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from channels.base import RawRequest, RawResponse
from channels.registry import Bots
from routes.body import headers_of, read_body
from storage.errors import AppError, Invalid, Throttled
from storage.principal import TENANT
from storage.words import Words, negotiate

PREFIX = "/webhooks/"
MOST_BYTES = 1_000_000
BODY_SECONDS = 10.0
SIGNED = frozenset(
    {
        "x-lark-request-timestamp",
        "x-lark-request-nonce",
        "x-lark-signature",
        "timestamp",
        "sign",
        "content-type",
    }
)


class WebhookRoute:
    """Reads the body within bounds, hands it to the bot, answers what the bot says or why it was refused."""

    def __init__(self, bots: Bots, words: Words) -> None:
        self.bots, self.words = bots, words

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request whose path begins with `PREFIX`."""
        type, _, name = str(scope["path"]).removeprefix(PREFIX).partition("/")
        if scope["method"] not in ("POST", "GET") or (scope["method"] == "GET" and type != "wecom"):
            await self._refuse(scope, send, Invalid("http.method"), status=405)
            return
        try:
            headers = headers_of(scope, SIGNED)
            body = await read_body(scope, receive, most=MOST_BYTES, seconds=BODY_SECONDS)
            client = scope.get("client")
            query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), max_num_fields=50))
            answer = await self.bots.receive(
                type,
                name,
                TENANT,
                RawRequest(
                    method=scope["method"],
                    path=scope["path"],
                    query=query,
                    headers=headers,
                    body=body,
                    ip=client[0] if client else "",
                ),
            )
        except AppError as error:
            await self._refuse(scope, send, error)
            return
        except ValueError:  # more parameters than anybody needs
            await self._refuse(scope, send, Invalid("http.query"))
            return
        await _answer(send, answer)

    async def _refuse(self, scope: Scope, send: Send, error: AppError, status: int = 0) -> None:
        accept = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"accept-language"), "en")
        text = self.words.say(negotiate(accept), f"error.{error.code}", **error.params)
        more = {"retry-after": str(math.ceil(error.retry_after))} if isinstance(error, Throttled) else {}
        if status == 405:
            more["allow"] = "POST"
        body = json.dumps({"code": error.code, "message": text}, ensure_ascii=False).encode()
        await _answer(send, RawResponse(status=status or error.status, body=body), more)


async def _answer(send: Send, answer: RawResponse, more: dict[str, str] | None = None) -> None:
    headers = {
        "content-type": answer.content_type,
        "content-length": str(len(answer.body)),
        "cache-control": "no-store",
        **(more or {}),
    }
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": answer.body})
