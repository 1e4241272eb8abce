"""The wizard's bot step: choose a vendor, follow its console step by step, see it come alive; or skip."""

from __future__ import annotations

from nicegui import ui

from channels.actions import BotActions, BotRow
from pages.botform import BotForm
from pages.botlive import bot_live
from pages.botpicks import channel_picks, free_bot_name, mode_segments, origin_of
from pages.frame import Panel
from pages.parts.button import button, link
from pages.parts.markup import box, span, tag
from pages.visitor import Visitor
from security.setup import Setup

HERE = "/setup?step=bot"
NEXT = "/setup?step=done"


async def bot_step(panel: Panel, v: Visitor, setup: Setup, bots: BotActions, type: str, mode: str) -> None:
    """Without `type` the vendors; with it the form; once a bot is there, its proof of life."""
    rows = list(await bots.list(v.who))
    manifest = next((m for m in bots.manifests() if m.type == type), None)
    if manifest is None:
        tag("h1", v.t("setup.bot.title"))
        tag("p", v.t("setup.bot.intro"), "intro")
        for row in rows[:3]:
            await _there(panel, v, bots, row)
        channel_picks(v, list(bots.manifests()), HERE)
    else:
        chosen = mode if mode in manifest.modes else manifest.modes[0]
        tag(
            "h1",
            v.t(f"setup.bot.title.{type}" if v.words.has(v.lang, f"setup.bot.title.{type}") else "setup.bot.title"),
        )
        tag("p", v.t("setup.bot.beside"), "intro")
        mode_segments(v, manifest, chosen, HERE)

        async def saved(name: str) -> None:
            await setup.mark(v.who, "bot")
            ui.navigate.to(HERE)

        name = free_bot_name(manifest, rows)
        BotForm(panel, v, bots, manifest, mode=chosen, row=None, name=name, origin=origin_of(v, panel), saved=saved)

    async def skip() -> None:
        await setup.mark(v.who, "bot", "done" if rows else "skipped")
        ui.navigate.to(NEXT)

    with box("wizend"):
        link(v.t("setup.back"), HERE if manifest is not None else "/setup?step=model")
        span("", "sp")
        if rows:
            button(v.t("setup.next"), panel.act(v, skip), "pri")
        else:
            button(v.t("setup.bot.skip"), panel.act(v, skip), "quiet")


async def _there(panel: Panel, v: Visitor, bots: BotActions, row: BotRow) -> None:
    with box("card"):
        tag("h2", row.name)
        bot_live(panel, v, bots, row, first=True)
