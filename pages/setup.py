"""`/setup`: from the first admin to the first answer. Each step can be left, come back to, and redone on its own page.

The setup code and the first admin are plain forms before this page; here the person is signed in.
"""

from __future__ import annotations

from nicegui import ui

from agent.models.actions import ModelActions
from channels.actions import BotActions
from pages.frame import Panel
from pages.parts.markup import box, span, tag
from pages.setup_bot import bot_step
from pages.setup_done import done_step
from pages.setup_model import model_step
from pages.visitor import Visitor
from security.account import AccountActions
from security.setup import Progress, Setup
from storage.words import LANGS

STEPS = ("code", "admin", "model", "bot", "done")


def mount(panel: Panel, setup: Setup, account: AccountActions, models: ModelActions, bots: BotActions) -> None:
    """Register `/setup`. Right: setting.manage."""

    @ui.page("/setup")
    async def page(step: str = "", type: str = "", mode: str = "") -> None:
        v = panel.enter()
        with panel.bare(v, "setup.title", css=("panel-build.css",)):
            progress = await setup.progress(v.who)
            here = step if step in ("model", "bot", "done") else _next(progress)
            with box("wiz"):
                with box():
                    _rail(v, here, progress)
                    _languages(panel, v, account)
                with box("stack"):
                    box("stepline", v.t("setup.step", n=STEPS.index(here) + 1, name=v.t(f"setup.{here}")))
                    if here == "model":
                        await model_step(panel, v, setup, models)
                    elif here == "bot":
                        await bot_step(panel, v, setup, bots, type, mode)
                    else:
                        await done_step(panel, v, setup, account, models, bots)


def _next(progress: Progress) -> str:
    """The first step that is open; the last page once nothing is."""
    if not progress.model:
        return "model"
    return "bot" if not progress.bot else "done"


def _rail(v: Visitor, here: str, progress: Progress) -> None:
    past = {"code", "admin"}
    past |= {step for step in ("model", "bot") if getattr(progress, step)}
    past |= {"done"} if progress.finished else set()
    with box("brand"):
        tag("i", "", "logo", aria_hidden="true")
        span(v.t("product.name"), "brandname")
    with tag("nav", "", "", aria_label=v.t("setup.steps")), tag("ol", "", "steps"):
        for step in STEPS:
            css = "on" if step == here else "past" if step in past else ""
            with tag("li", "", css) as item:
                if step == here:
                    item.attr(aria_current="step")
                if step in ("code", "admin") or (step != here and step not in past):
                    span(v.t(f"setup.{step}"))
                else:
                    tag("a", v.t(f"setup.{step}"), href=f"/setup?step={step}")
    box("leave", v.t("setup.leave"))


def _languages(panel: Panel, v: Visitor, account: AccountActions) -> None:
    async def choose(lang: str) -> None:
        await account.set_language(v.who, lang)
        ui.navigate.reload()

    with box("langs"):
        for lang in LANGS:
            if lang != v.lang:
                made = tag("button", v.t(f"account.lang.{lang}"), "btn quiet small ic ic-globe", type="button")
                made.on("click", panel.act(v, choose, lang))
