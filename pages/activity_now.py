"""What runs now and what waits: on top of the activity page, each task with its steps so far."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from agent.open_tasks import OpenTask, OpenTasks
from pages.frame import Panel
from pages.parts.badge import badge, duration, moment
from pages.parts.button import button
from pages.parts.markup import box, span, tag
from pages.visitor import Visitor
from security.markdown import visible

SHOWN = 10
LAST_STEPS = 8


class Now:
    """The card of one open page. It is not there while nothing runs."""

    def __init__(self, panel: Panel, v: Visitor, tasks: OpenTasks, cancel: Callable[[int], Awaitable[Any]]) -> None:
        self.panel, self.v, self.tasks, self.cancel = panel, v, tasks, cancel
        self.place = box("now")
        self._seen: object = None

    async def look(self) -> None:
        """Read, and show what changed."""
        found = await self.tasks.list(self.v.who)
        if found == self._seen or self.v.client.is_deleted:
            return
        self._seen = found
        self.place.clear()
        if found:
            with self.place:
                self._show(found)

    def _show(self, found: list[OpenTask]) -> None:
        v = self.v
        waiting = sum(task.status == "todo" for task in found)
        with box("card"):
            with tag("h2", v.t("now.title")):
                span(v.t("now.counts", running=len(found) - waiting, waiting=waiting), "r")
            for task in found[:SHOWN]:
                self._task(task)
            if len(found) > SHOWN:
                tag("p", v.t("now.more", n=len(found) - SHOWN), "small muted")

    def _task(self, task: OpenTask) -> None:
        v = self.v
        title = visible(task.title) or v.t("activity.untitled")
        with box("line", data_now=str(task.id)):
            badge(v, "run", v.t(f"task.state.{task.status}"))
            with box("grow"):
                tag("a", title, "plain", href=f"/trace/{task.id}")
                with box("steps"):
                    for step in task.done[-LAST_STEPS:]:
                        text = step.name if step.kind == "tool" else v.t(f"now.{step.kind}")
                        span(f"{text} {duration(step.ms)} ·", "bad" if not step.ok else "")
                    span(v.t(f"now.at.{task.now}", tool=task.tool), "going")
                    moment(v, task.since)
            if v.who.may("task.manage"):
                label = v.t("activity.cancel_of", title=title)
                button(v.t("activity.cancel"), self.panel.act(v, self.cancel, task.id), "small", aria_label=label)
