"""Events as Feishu would post them: encrypted, signed, with the platform's spacing."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

_count = itertools.count(1)


@dataclass(kw_only=True)
class Posted:
    """One callback: what stands in the HTTP request."""

    body: bytes
    headers: dict[str, str]
    event_id: str = ""
    message_id: str = ""


@dataclass(kw_only=True)
class FeishuEvents:
    """Makes callbacks of one app. `now` is read in milliseconds."""

    app_id: str = "cli_test"
    encrypt_key: str = "encrypt-key-of-the-test"
    verification_token: str = "verification-token"
    bot_open_id: str = "ou_bot"
    now: Any = None
    prefix: str = field(default_factory=lambda: os.urandom(4).hex())

    def ms(self) -> int:
        import time

        return int(self.now()) if self.now is not None else int(time.time() * 1000)

    def encrypt(self, raw: object) -> bytes:
        """`{"encrypt": …}` with AES-256-CBC, the IV in front."""
        plain = raw if isinstance(raw, bytes) else json.dumps(raw, ensure_ascii=False).encode()
        pad = 16 - len(plain) % 16
        iv = os.urandom(16)
        sealer = Cipher(AES(hashlib.sha256(self.encrypt_key.encode()).digest()), CBC(iv)).encryptor()
        blob = iv + sealer.update(plain + bytes([pad]) * pad) + sealer.finalize()
        return json.dumps({"encrypt": base64.b64encode(blob).decode()}).encode()

    def sign(self, body: bytes, *, at_ms: int | None = None, nonce: str = "") -> dict[str, str]:
        """The three headers over the raw body."""
        timestamp = str((self.ms() if at_ms is None else at_ms) // 1000)
        nonce = nonce or os.urandom(8).hex()
        digest = hashlib.sha256((timestamp + nonce + self.encrypt_key).encode() + body).hexdigest()
        return {
            "Content-Type": "application/json; charset=utf-8",
            "X-Lark-Request-Timestamp": timestamp,
            "X-Lark-Request-Nonce": nonce,
            "X-Lark-Signature": digest,
        }

    def posted(self, raw: object, *, at_ms: int | None = None) -> Posted:
        body = self.encrypt(raw)
        header = raw.get("header", {}) if isinstance(raw, dict) else {}
        message = (raw.get("event") or {}).get("message", {}) if isinstance(raw, dict) else {}
        return Posted(
            body=body,
            headers=self.sign(body, at_ms=at_ms),
            event_id=str(header.get("event_id", "")),
            message_id=str(message.get("message_id", "")),
        )

    def envelope(self, event_type: str, event: dict[str, Any], **header: Any) -> dict[str, Any]:
        return {
            "schema": "2.0",
            "header": {
                "event_id": f"ev-{self.prefix}-{next(_count)}",
                "event_type": event_type,
                "create_time": str(self.ms()),
                "token": self.verification_token,
                "app_id": self.app_id,
                "tenant_key": "tk_test",
            }
            | header,
            "event": event,
        }

    def raw_message(
        self,
        text: str = "你好",
        *,
        person: str = "ou_alice",
        chat: str = "",
        chat_type: str = "p2p",
        kind: str = "text",
        content: object = None,
        mentions: list[dict[str, Any]] | None = None,
        message: dict[str, Any] | None = None,
        sender_type: str = "user",
        **header: Any,
    ) -> dict[str, Any]:
        """The plain envelope of a message."""
        body = content if content is not None else {"text": text}
        inner: dict[str, Any] = {
            "message_id": f"om_{self.prefix}_{next(_count)}",
            "create_time": str(self.ms()),
            "chat_id": chat or f"oc_p2p_{person}",
            "chat_type": chat_type,
            "message_type": kind,
            "content": body if isinstance(body, str) else json.dumps(body, ensure_ascii=False),
        }
        if mentions:
            inner["mentions"] = mentions
        inner |= message or {}
        event = {
            "sender": {
                "sender_id": {"open_id": person, "union_id": f"on_{person}", "user_id": ""},
                "sender_type": sender_type,
                "tenant_key": "tk_test",
            },
            "message": inner,
        }
        return self.envelope("im.message.receive_v1", event, **header)

    def message(self, text: str = "你好", *, at_ms: int | None = None, **more: Any) -> Posted:
        """A signed and encrypted message callback."""
        return self.posted(self.raw_message(text, **more), at_ms=at_ms)

    def group(self, text: str, *, chat: str = "oc_group", mention_bot: bool = True, **more: Any) -> Posted:
        """A message in a group, the bot mentioned or not."""
        mentions = [{"key": "@_user_1", "id": {"open_id": self.bot_open_id}, "name": "Bot", "tenant_key": "tk_test"}]
        said = f"@_user_1 {text}" if mention_bot else text
        return self.message(said, chat=chat, chat_type="group", mentions=mentions if mention_bot else None, **more)

    def challenge(self, value: str = "challenge-value", *, token: str | None = None, signed: bool = False) -> Posted:
        """The address check, which the platform sends without a signature."""
        given = self.verification_token if token is None else token
        body = self.encrypt({"type": "url_verification", "challenge": value, "token": given})
        return Posted(body=body, headers=self.sign(body) if signed else {"Content-Type": "application/json"})
