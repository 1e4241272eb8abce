"""A Feishu bot's settings, complete and checked, or not at all."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from channels.base import BotConfig
from channels.feishu.manifest import DOMESTIC, INTERNATIONAL, MANIFEST
from security.egress import VENDOR, Policy
from storage.errors import Invalid

ORIGIN = re.compile(r"(https?)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(:[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeishuSettings:
    """What wire and client need.

    Attributes:
        api_base: origin (scheme, host, port) without a path; domestic and international are never mixed.
        local: tests only: the base may be on loopback and without TLS.
    """

    app_id: str
    app_secret: str = field(repr=False)
    encrypt_key: str = field(default="", repr=False)
    verification_token: str = field(default="", repr=False)
    api_base: str = DOMESTIC
    group_mention: bool = True
    group_lane: str = "thread"
    stream: bool = True
    local: bool = False

    @property
    def policy(self) -> Policy:
        """What the client may reach: the bot's own address, no redirect."""
        found = ORIGIN.fullmatch(self.api_base)
        host = found[2].strip("[]") if found else ""
        return replace(VENDOR, hosts=(host,), most_bytes=31_000_000, seconds=10)

    @property
    def vendor(self) -> bool:
        """True if the base is Feishu's or Lark's own, whose limits are published."""
        return self.api_base in (DOMESTIC, INTERNATIONAL)


def origin_of(text: str, *, local: bool) -> str:
    """A vendor's base address in the one form that we use.

    Raises:
        Invalid: `feishu.base`: not an origin, or without TLS.
    """
    origin = text.strip().rstrip("/").lower()
    found = ORIGIN.fullmatch(origin)
    if found is None or (found[1] == "http" and not local):
        raise Invalid("feishu.base", field="api_base", value=text[:100])
    return origin


def settings_of(config: BotConfig, *, local: bool) -> FeishuSettings:
    """The settings of a bot in its mode.

    Raises:
        Invalid: `feishu.incomplete` with the names of what is missing, `feishu.mode` or `feishu.base`.
    """
    if config.mode not in MANIFEST.modes:
        raise Invalid("feishu.mode", field="mode", value=config.mode[:40])
    missing = [
        spec.name
        for spec in MANIFEST.fields
        if spec.required and (not spec.modes or config.mode in spec.modes) and not config.get(spec.name).strip()
    ]
    if missing:
        raise Invalid("feishu.incomplete", field=missing[0], missing=", ".join(missing))
    return FeishuSettings(
        app_id=config.get("app_id").strip(),
        app_secret=config.get("app_secret").strip(),
        encrypt_key=config.get("encrypt_key").strip(),
        verification_token=config.get("verification_token").strip(),
        api_base=origin_of(config.get("api_base", DOMESTIC), local=local),
        group_mention=config.get("group_mention", "on") != "off",
        group_lane=config.get("group_lane", "thread"),
        stream=config.get("stream", "on") != "off",
        local=local,
    )
