"""A task's state in one word: how it ended at the vendor, or where it is."""

from __future__ import annotations

from pages.parts.badge import badge
from pages.parts.markup import Markup
from pages.visitor import Visitor

_TASK = {
    "todo": "run",
    "doing": "run",
    "waiting": "warn",
    "done": "ok",
    "failed": "bad",
    "refused": "warn",
    "cancelled": "off",
}
_DELIVERY = {"delivered": "ok", "failed": "bad", "unknown": "unknown"}


def task_state(v: Visitor, status: str, delivery: str = "") -> tuple[str, str]:
    """State and word of a task; once it is done, those of its answer by the vendor's receipt."""
    if status == "done" and delivery in _DELIVERY:
        return _DELIVERY[delivery], v.t(f"delivery.state.{delivery}")
    return _TASK.get(status, "unknown"), v.t(f"task.state.{status}")


def task_badge(v: Visitor, status: str, delivery: str = "") -> Markup:
    """The state of a task; once it is done, that of its answer by the vendor's receipt."""
    return badge(v, *task_state(v, status, delivery))
