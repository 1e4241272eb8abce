"""A bot's own signature put to the test: a callback sealed with its secrets must be let in, a forged one refused.

Nothing leaves the process and nothing is stored: the callback goes to an unstarted channel that accepts for nobody.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace

from channels.base import BotConfig, Channel, ProbeResult, RawRequest
from storage.clock import Clock
from storage.envelope import Outgoing
from storage.errors import AppError

MADE_UP = "zhixing-selftest"
SAMPLE = """# 标题 Heading

| 列 | value |
|---|---|
| 一 | 1 |

- **bold**, _italic_, `code` and a [link](https://example.com/?a=1&b=2)

```python
print("你好 😀")
```
"""
LONG = 60
MOST_PARTS = 400


async def signature(channel: Channel, config: BotConfig, clock: Clock) -> ProbeResult | None:
    """Seal and forge a callback of this bot. None for a mode that no vendor calls."""
    make = MAKERS.get((config.type, config.mode))
    if make is None:
        return None
    request = make(config, clock)
    try:
        await channel.receive(request)
    except AppError as error:
        if error.code != "bot.not_started":  # as far as the ledger's door: it was let in
            return _failed(error)
    try:
        await channel.receive(_forged(request))
    except AppError as error:
        if error.status in (401, 403, 422):
            return ProbeResult(name="signature", status="pass")
        return _failed(error)
    return ProbeResult(name="signature", status="fail", code="bot.forged")


def form(channel: Channel) -> ProbeResult:
    """A message with everything in it, cut for this vendor: every part must fit as it is."""
    try:
        parts = channel.split(Outgoing(kind="answer", text=SAMPLE * LONG))
        again = [len(channel.split(part)) for part in parts[:MOST_PARTS]]
    except AppError as error:
        return replace(_failed(error), name="format")
    if not parts or any(count != 1 for count in again):
        return ProbeResult(name="format", status="fail", code="bot.format")
    return ProbeResult(name="format", status="pass")


def _failed(error: AppError) -> ProbeResult:
    params = {key: str(value) for key, value in error.params.items()}
    return ProbeResult(name="signature", status="fail", code=error.code, params=params)


def _request(
    body: bytes = b"", headers: Mapping[str, str] | None = None, query: Mapping[str, str] | None = None
) -> RawRequest:
    return RawRequest(
        method="GET" if query else "POST",
        path="/",
        query=query or {},
        headers=headers or {},
        body=body,
        ip="127.0.0.1",
    )


def _forged(request: RawRequest) -> RawRequest:
    """The same with a signature that is none."""
    bad = {name: "0" * len(request.headers[name]) for name in ("x-lark-signature", "sign") if name in request.headers}
    query = {**request.query, "msg_signature": "0" * 40} if request.query else {}
    return replace(request, headers={**request.headers, **bad}, query=query)


def _feishu(config: BotConfig, clock: Clock) -> RawRequest:
    """The address check, signed."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    from channels.feishu.seal import NONCE, SIGNATURE, TIMESTAMP, Seal

    key = config.get("encrypt_key")
    plain = json.dumps(
        {"type": "url_verification", "challenge": MADE_UP, "token": config.get("verification_token")}
    ).encode()
    pad = 16 - len(plain) % 16
    first = secrets.token_bytes(16)
    sealer = Cipher(algorithms.AES(hashlib.sha256(key.encode()).digest()), modes.CBC(first)).encryptor()
    blob = first + sealer.update(plain + bytes([pad]) * pad) + sealer.finalize()
    body = json.dumps({"encrypt": base64.b64encode(blob).decode()}).encode()
    at, nonce = str(clock.ms() // 1000), secrets.token_hex(8)
    headers = {TIMESTAMP: at, NONCE: nonce, SIGNATURE: Seal(key).sign(at, nonce, body)}
    return _request(body, headers)


def _dingtalk(config: BotConfig, clock: Clock) -> RawRequest:
    """Words of the robot itself, which nobody answers."""
    from channels.dingtalk.settings import settings_of
    from channels.dingtalk.signature import sign

    settings = settings_of(config, local=True)
    body = {
        "msgId": f"{MADE_UP}-{secrets.token_hex(6)}",
        "msgtype": "text",
        "conversationId": MADE_UP,
        "conversationType": "1",
        "senderId": MADE_UP,
        "chatbotUserId": MADE_UP,
        "chatbotCorpId": settings.corp_id,
        "robotCode": settings.robot_code,
        "createAt": clock.ms(),
        "text": {"content": MADE_UP},
    }
    at = str(clock.ms())
    headers = {"timestamp": at, "sign": sign(settings.client_secret, at)}
    return _request(json.dumps(body).encode(), headers)


def _wecom(config: BotConfig, clock: Clock) -> RawRequest:
    """The address check."""
    from channels.wecom.seal import encrypt, sign
    from channels.wecom.settings import settings_of

    settings = settings_of(config, local=True)
    at, nonce = str(clock.ms() // 1000), secrets.token_hex(8)
    echo = encrypt(settings.aes_key, MADE_UP.encode(), settings.corp_id)
    given = sign(settings.token, at, nonce, echo)
    return _request(query={"msg_signature": given, "timestamp": at, "nonce": nonce, "echostr": echo})


MAKERS: dict[tuple[str, str], Callable[[BotConfig, Clock], RawRequest]] = {
    ("feishu", "webhook"): _feishu,
    ("dingtalk", "http"): _dingtalk,
    ("wecom", "app"): _wecom,
}
