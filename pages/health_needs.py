"""What the overview tells of health tests and the security checklist: what was red when it was last looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pages.overview import Need
from pages.visitor import Visitor
from security.checklist import ChecklistActions
from security.health.actions import HealthActions
from security.health.console import texts, title
from security.health.row import HealthRow

# models, bots and deliveries tell of themselves
GROUPS = ("server", "network", "data")
FRESH = 24 * 3_600_000
MOST = 3
Source = Callable[[Visitor], Awaitable[list[Need]]]


def health_needs(health: HealthActions, checks: ChecklistActions[Any]) -> Source:
    """Red health tests of the last day, and red critical checks."""

    async def needs(v: Visitor) -> list[Need]:
        found: list[Need] = []
        if v.who.may("health.view"):
            now = health.clock.ms()
            red = [
                row
                for row in await health.list(v.who)
                if row.status == "fail" and row.group in GROUPS and now - row.at < FRESH
            ]
            found += [_need(v, row) for row in red[:MOST]]
        failing = checks.critical_failures() if v.who.may("security.view") else []
        if failing:
            names = ", ".join(v.t(f"check.{name}") for name in failing[:MOST])
            found.append(
                Need(
                    rank=7,
                    state="bad",
                    word=v.t("need.check.word"),
                    what=v.t("need.check", n=len(failing)),
                    why=names,
                    act=v.t("need.check.act"),
                    to="/security",
                )
            )
        return found

    return needs


def _need(v: Visitor, row: HealthRow) -> Need:
    what, remedy = texts(v.words, v.lang, row)
    return Need(
        rank=12,
        state="bad",
        word=v.t("need.health.word"),
        what=f"{title(v.words, v.lang, row)}: {what}",
        why=remedy,
        act=v.t("need.health.act"),
        to="/health",
    )
