"""The panel's map: every page of the rail, its group, its letter and the right to see it."""

from __future__ import annotations

from dataclasses import dataclass

from nicegui import Client

from storage.principal import Principal

GROUPS = ("use", "build", "run", "protect")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A page in the rail. Its name is the catalogue key `place.<name>`; `g` and `letter` lead there."""

    name: str
    path: str
    icon: str
    group: str
    letter: str
    right: str


def _place(name: str, icon: str, group: str, letter: str, right: str, path: str | None = None) -> Place:
    return Place(name=name, path=path or f"/{name}", icon=icon, group=group, letter=letter, right=right)


PLACES = (
    _place("overview", "overview", "use", "o", "overview.view", "/"),
    _place("chat", "chat", "use", "c", "chat.use"),
    _place("bots", "bot", "build", "b", "bot.view"),
    _place("models", "model", "build", "m", "model.view"),
    _place("memory", "memory", "build", "e", "memory.own"),
    _place("schedules", "clock", "build", "t", "schedule.view"),
    _place("skills", "skill", "build", "k", "skill.view"),
    _place("activity", "activity", "run", "a", "trace.view"),
    _place("health", "health", "run", "h", "health.view"),
    _place("logs", "log", "run", "l", "log.view"),
    _place("security", "shield", "protect", "s", "security.view"),
    _place("audit", "audit", "protect", "u", "audit.view"),
    _place("backup", "backup", "protect", "d", "backup.view"),
    _place("people", "people", "protect", "p", "people.view"),
    _place("server", "server", "protect", "r", "server.manage"),
    _place("settings", "settings", "protect", "i", "setting.manage"),
)


def places(who: Principal) -> list[Place]:
    """The pages that exist in this process and that the person may see, in the rail's order."""
    there = set(Client.page_routes.values())
    return [place for place in PLACES if place.path in there and who.may(place.right)]
