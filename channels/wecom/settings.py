"""A WeCom bot's settings, complete and checked, or not at all."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field, replace

from channels.base import BotConfig
from channels.wecom.manifest import API_BASE, MANIFEST, SOCKET
from security.egress import VENDOR, Policy
from storage.errors import Invalid

ORIGIN = re.compile(r"(https?|wss?)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(:[0-9]{1,5})?", re.ASCII)
AES_KEY = re.compile(r"[A-Za-z0-9+/]{43}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class WeComSettings:
    """What wire and clients need. `aes_key` is the decoded 32 bytes."""

    mode: str
    bot_id: str = ""
    bot_secret: str = field(default="", repr=False)
    corp_id: str = ""
    corp_secret: str = field(default="", repr=False)
    agent_id: str = ""
    token: str = field(default="", repr=False)
    aes_key: bytes = field(default=b"", repr=False)
    group_lane: str = "group"
    api_base: str = API_BASE
    socket: str = SOCKET.replace("https", "wss", 1)

    def policy(self, origin: str) -> Policy:
        """What may be reached: this one host, no redirect."""
        found = ORIGIN.fullmatch(origin)
        host = found[2].strip("[]") if found else ""
        return replace(VENDOR, hosts=(host,), most_bytes=2_000_000, seconds=10)


def settings_of(config: BotConfig, *, local: bool) -> WeComSettings:
    """The settings of a bot in its mode.

    Args:
        local: tests only: its addresses may be without TLS (and then only on loopback).

    Raises:
        Invalid: `wecom.mode`, `wecom.incomplete` with the names of what is missing, `wecom.base` or `wecom.aes_key`.
    """
    if config.mode not in MANIFEST.modes:
        raise Invalid("wecom.mode", field="mode", value=config.mode[:40])
    specs = [spec for spec in MANIFEST.fields if not spec.modes or config.mode in spec.modes]
    missing = [spec.name for spec in specs if spec.required and not config.get(spec.name).strip()]
    if missing:
        raise Invalid("wecom.incomplete", field=missing[0], missing=", ".join(missing))
    key = b""
    if config.mode == "app":
        text = config.get("aes_key").strip()
        if not AES_KEY.fullmatch(text):
            raise Invalid("wecom.aes_key", field="aes_key")
        key = base64.b64decode(text + "=")
    return WeComSettings(
        mode=config.mode,
        bot_id=config.get("bot_id").strip(),
        bot_secret=config.get("bot_secret").strip(),
        corp_id=config.get("corp_id").strip(),
        corp_secret=config.get("corp_secret").strip(),
        agent_id=config.get("agent_id").strip(),
        token=config.get("token").strip(),
        aes_key=key,
        group_lane=config.get("group_lane", "group"),
        api_base=_origin(config, "api_base", API_BASE, local=local),
        socket=_origin(config, "socket", SOCKET, local=local),
    )


def _origin(config: BotConfig, name: str, default: str, *, local: bool) -> str:
    text = config.get(name, default).strip().rstrip("/").lower()
    found = ORIGIN.fullmatch(text)
    if found is None or (found[1] in ("http", "ws") and not local):
        raise Invalid("wecom.base", field=name, value=text[:100])
    secure = found[1] in ("https", "wss")
    scheme = ("https" if secure else "http") if name == "api_base" else ("wss" if secure else "ws")
    return f"{scheme}://{text.partition('://')[2]}"
