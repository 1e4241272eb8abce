"""Choosing a vendor and a mode, and the first things a new bot needs."""

from __future__ import annotations

from collections.abc import Sequence

from channels.actions import BotRow
from channels.base import Manifest
from pages.botform import channel_name, mode_name
from pages.frame import Panel
from pages.parts.markup import box, span, tag
from pages.parts.views import views
from pages.visitor import Visitor


def channel_picks(v: Visitor, manifests: Sequence[Manifest], to: str) -> None:
    """The vendors as cards; each leads to `to` with its type."""
    with box("picks"):
        for manifest in manifests:
            with tag("a", "", "pick", href=_with(to, type=manifest.type)):
                tag("b", channel_name(v, manifest.type))
                key = f"bots.what.{manifest.type}"
                span(v.t(key) if v.words.has(v.lang, key) else "", "small")


def mode_segments(v: Visitor, manifest: Manifest, mode: str, to: str) -> None:
    """The modes of a vendor side by side, where there are several."""
    if len(manifest.modes) < 2:
        return
    with tag("nav", "", "segments", aria_label=v.t("bots.mode")):
        for item in manifest.modes:
            made = tag("a", mode_name(v, manifest.type, item), "seg", href=_with(to, type=manifest.type, mode=item))
            if item == mode:
                made.attr(aria_current="true")


def _with(to: str, **query: str) -> str:
    sign = "&" if "?" in to else "?"
    return to + sign + "&".join(f"{key}={value}" for key, value in query.items())


def bot_views(v: Visitor, here: str) -> None:
    """Bots, who may talk with them, what went through them, what they push, and what other systems send."""
    items = [
        ("/bots", v.t("place.bots")),
        ("/bots/access", v.t("access.title")),
        ("/bots/log", v.t("botlog.title")),
        ("/bots/events", v.t("events.title")),
        ("/bots/hooks", v.t("hooks.title")),
    ]
    views(v.t("place.bots"), items, here)


def free_bot_name(manifest: Manifest, rows: Sequence[BotRow]) -> str:
    """`feishu-bot`, or with a number if that is taken."""
    taken = {row.name for row in rows}
    base = f"{manifest.type}-bot"
    return next(name for n in range(1, len(taken) + 2) if (name := base if n == 1 else f"{base}-{n}") not in taken)


def origin_of(v: Visitor, panel: Panel) -> str:
    """Our own address as this browser reached it: what a vendor would call, if it can reach it too."""
    scope = v.client.request.scope
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    return f"{scope['scheme']}://{host or f'{panel.settings.host}:{panel.settings.port}'}"
