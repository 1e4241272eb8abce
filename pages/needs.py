"""What needs a person, as the overview lists it: models that are missing or fail, bots that are not alive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from agent.models.actions import ModelActions
from channels.actions import BotActions
from pages.overview import Need
from pages.visitor import Visitor
from storage.errors import AppError
from storage.provision import Provisioning

_PAGE = {"llm.yaml": "/models", "channels.yaml": "/bots", "scheduler.yaml": "/schedules"}
Source = Callable[[Visitor], Awaitable[list[Need]]]


def model_needs(models: ModelActions) -> Source:
    """No model at all, only the demo model, or one that keeps failing."""

    async def needs(v: Visitor) -> list[Need]:
        if not v.who.may("model.manage"):
            return []
        rows = await models.list(v.who)
        if not rows:
            return [_need(v, 0, "bad", "no_model", "/setup?step=model")]
        found = []
        if all(row.type == "demo" for row in rows):
            found.append(_need(v, 50, "warn", "demo", "/models?add=1"))
        for row in rows:
            if row.resting:
                why = v.explain(AppError(row.resting_code))[0]
                found.append(_need(v, 10, "bad", "model", "/models", why=why, name=row.name))
        return found

    return needs


def bot_needs(bots: BotActions) -> Source:
    """Bots that could not start or lost their connection."""

    async def needs(v: Visitor) -> list[Need]:
        if not v.who.may("bot.view"):
            return []
        found = []
        for row in await bots.list(v.who):
            broken = row.connection == "lost" or (row.connection == "off" and row.last_error)
            if broken and not row.paused:
                why = v.explain(AppError(row.last_error, **row.error_params))[0] if row.last_error else ""
                found.append(_need(v, 5, "bad", "bot", "/bots", why=why, name=row.name))
            if row.asking and v.who.may("bot.manage"):
                to = f"/bots/access?bot={quote(row.name)}"
                found.append(_need(v, 15, "warn", "asking", to, name=row.name, n=row.asking))
        return found

    return needs


def file_needs(files: Provisioning) -> Source:
    """Files under `config/` that were refused; what they said before is still in force."""

    async def needs(v: Visitor) -> list[Need]:
        if not v.who.may("setting.manage"):
            return []
        found = []
        for name, state in files.states.items():
            if state.error is not None:
                what, remedy = v.explain(state.error)
                where = v.t("need.file.line", line=state.line) if state.line else ""
                why = f"{where} {v.sentence(what, remedy)}".strip()
                found.append(_need(v, 8, "bad", "file", _PAGE.get(name, "/"), why=why, name=name))
        return found

    return needs


def _need(
    v: Visitor, rank: int, state: str, name: str, to: str, /, *, why: str | None = None, **params: object
) -> Need:
    return Need(
        rank=rank,
        state=state,
        word=v.t(f"need.{name}.word"),
        what=v.t(f"need.{name}", **params),
        why=v.t(f"need.{name}.why") if why is None else why,
        act=v.t(f"need.{name}.act"),
        to=to,
    )
