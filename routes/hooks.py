"""`POST /hooks/<name>`: events of other systems. Plain ASGI in front of the panel."""

from __future__ import annotations

import json
import math

from starlette.types import Receive, Scope, Send

from channels.base import RawRequest
from channels.webhook.proof import SECURITY
from channels.webhook.receiver import MOST_BYTES, HookReceiver
from routes.body import headers_of, read_body
from storage.errors import AppError, Throttled
from storage.words import Words, negotiate

PREFIX = "/hooks/"
BODY_SECONDS = 10.0


class HookRoute:
    """Answers 202 once the event is in the ledger, and an error in JSON otherwise.

    The caller's address is `scope["client"]`, set by whoever knows the trusted proxies.
    """

    def __init__(self, receiver: HookReceiver, words: Words) -> None:
        self.receiver, self.words = receiver, words

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request whose path begins with `PREFIX`."""
        if scope["method"] != "POST":
            await _answer(send, 405, {"error": {"code": "http.method"}}, {"allow": "POST"})
            return
        try:
            headers = headers_of(scope, SECURITY)
            body = await read_body(scope, receive, most=MOST_BYTES, seconds=BODY_SECONDS)
            client = scope.get("client")
            request = RawRequest(
                method="POST",
                path=scope["path"],
                query={},
                headers=headers,
                body=body,
                ip=client[0] if client else "",
            )
            taken = await self.receiver.receive(str(scope["path"]).removeprefix(PREFIX), request)
        except AppError as error:
            await self._refuse(scope, send, error)
            return
        await _answer(send, 202, {"accepted": True, "duplicate": not taken.fresh, "job": taken.job_id or None})

    async def _refuse(self, scope: Scope, send: Send, error: AppError) -> None:
        accept = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"accept-language"), "en")
        message = self.words.say(negotiate(accept), f"error.{error.code}", **error.params)
        more = {"retry-after": str(math.ceil(error.retry_after))} if isinstance(error, Throttled) else {}
        await _answer(send, error.status, {"error": {"code": error.code, "message": message}}, more)


async def _answer(send: Send, status: int, body: dict[str, object], headers: dict[str, str] | None = None) -> None:
    data = json.dumps(body, ensure_ascii=False).encode()
    all_headers = {
        "content-type": "application/json; charset=utf-8",
        "content-length": str(len(data)),
        "cache-control": "no-store",
        **(headers or {}),
    }
    raw = [(name.encode(), value.encode("latin-1")) for name, value in all_headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": data})
