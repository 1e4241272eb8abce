"""All channel types, by their manifests. Loads no vendor code."""

from __future__ import annotations

from importlib import import_module

from channels.base import Accept, BotConfig, Channel, Manifest
from channels.dingtalk.manifest import MANIFEST as DINGTALK
from channels.feishu.manifest import MANIFEST as FEISHU
from channels.hooks import Hooks
from channels.webhook.manifest import MANIFEST as WEBHOOK
from channels.wecom.manifest import MANIFEST as WECOM
from security.egress import Egress
from storage.clock import Clock
from storage.errors import Invalid

MANIFESTS: dict[str, Manifest] = {m.type: m for m in (FEISHU, DINGTALK, WECOM, WEBHOOK)}


def manifest_of(type: str) -> Manifest:
    """Raises `Invalid` `bot.type` for a type that does not exist."""
    manifest = MANIFESTS.get(type)
    if manifest is None:
        raise Invalid("bot.type", field="type", type=type[:40])
    return manifest


def build(config: BotConfig, egress: Egress, clock: Clock, accept: Accept, hooks: Hooks) -> Channel:
    """A channel that is not started. Raises `Invalid` if a setting is missing or wrong."""
    module, _, function = manifest_of(config.type).runtime.partition(":")
    channel: Channel = getattr(import_module(module), function)(config, egress, clock, accept, hooks)
    return channel
