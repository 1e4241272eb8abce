"""Makes the running bot of a WeCom configuration, by its mode."""

from __future__ import annotations

from channels.base import Accept, BotConfig, Channel
from channels.hooks import Hooks
from channels.wecom.app import WeComApp
from channels.wecom.bot import WeComBot
from security.egress import Egress
from storage.clock import Clock


def build(config: BotConfig, egress: Egress, clock: Clock, accept: Accept, hooks: Hooks) -> Channel:
    """The manifest's runtime. Raises `Invalid` if the configuration is incomplete."""
    if config.mode == "app":
        return WeComApp(config, egress, clock, accept, hooks)
    return WeComBot(config, egress, clock, accept, hooks)
