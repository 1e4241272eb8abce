"""A DingTalk bot's settings, complete and checked, or not at all."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from channels.base import BotConfig
from channels.dingtalk.manifest import API_BASE, MANIFEST, OAPI_BASE
from security.egress import VENDOR, Policy
from storage.errors import Invalid

BASE = re.compile(r"(https?)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(:[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class DingTalkSettings:
    """What the client and the wire need.

    Attributes:
        api_base, oapi_base: origins (scheme, host, port) without a path.
    """

    client_id: str
    client_secret: str = field(repr=False)
    robot_code: str
    corp_id: str = ""
    group_lane: str = "group"
    card_template_id: str = ""
    card_key: str = "content"
    api_base: str = API_BASE
    oapi_base: str = OAPI_BASE

    @property
    def policy(self) -> Policy:
        """What the client may reach: the bot's own two addresses, no redirect."""
        hosts = tuple({host_of(self.api_base), host_of(self.oapi_base)})
        return replace(VENDOR, hosts=hosts, most_bytes=2_000_000, seconds=10)


def settings_of(config: BotConfig, *, local: bool) -> DingTalkSettings:
    """The settings of a bot.

    Args:
        local: tests only: its addresses may be without TLS (and then only on loopback).

    Raises:
        Invalid: `dingtalk.incomplete` with the names of what is missing, or `dingtalk.base`.
    """
    missing = [spec.name for spec in MANIFEST.fields if spec.required and not config.get(spec.name).strip()]
    if missing:
        raise Invalid("dingtalk.incomplete", field=missing[0], missing=", ".join(missing))
    client_id = config.get("client_id").strip()
    return DingTalkSettings(
        client_id=client_id,
        client_secret=config.get("client_secret").strip(),
        robot_code=config.get("robot_code").strip() or client_id,
        corp_id=config.get("corp_id").strip(),
        group_lane=config.get("group_lane", "group"),
        card_template_id=config.get("card_template_id").strip(),
        card_key=config.get("card_key", "content").strip(),
        api_base=_base(config, "api_base", API_BASE, local=local),
        oapi_base=_base(config, "oapi_base", OAPI_BASE, local=local),
    )


def _base(config: BotConfig, name: str, default: str, *, local: bool) -> str:
    text = config.get(name, default).strip().rstrip("/").lower()
    found = BASE.fullmatch(text)
    if found is None or (found[1] == "http" and not local):
        raise Invalid("dingtalk.base", field=name, value=text[:100])
    return text


def host_of(origin: str) -> str:
    """The host of an origin that `BASE` matches."""
    found = BASE.fullmatch(origin)
    return found[2].strip("[]") if found else ""
