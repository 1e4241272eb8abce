"""The table of tasks as one element: its rows are data, so that a busy list costs little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui.element import Element

from agent.trace import JobRow
from pages.chat_rows import blame
from pages.parts.task import task_state
from pages.visitor import Visitor
from security.markdown import visible
from storage.settings import ROOT

OPEN = ("todo", "doing", "waiting")
_COLUMNS = ("state", "request", "from", "model", "own", "total", "time", "act")


class ActivityTable(Element, component=ROOT / "assets" / "chat" / "activity.js"):
    """Rows of tasks. `on_cancel` is called with the event whose `args` is a task's id."""

    def __init__(
        self, v: Visitor, rows: list[dict[str, Any]], *, may_cancel: bool, on_cancel: Callable[..., Any]
    ) -> None:
        super().__init__()
        words = {name: v.t(f"activity.col.{name}") for name in _COLUMNS}
        words |= {name: v.t(f"activity.{name}") for name in ("title", "cancel", "cancel_of")}  # the browser fills them
        self._props["words"] = words
        self._props["initial"] = rows
        self._props["may-cancel"] = may_cancel
        self.on("cancel", on_cancel)

    def take(self, rows: list[dict[str, Any]]) -> None:
        """Show these rows instead."""
        _ = self.run_method("take", rows)  # not awaited on purpose: nothing comes back


def row_view(v: Visitor, row: JobRow) -> dict[str, Any]:
    """A task for the browser."""
    key = f"channel.name.{row.channel}"
    source = v.t(key) if v.words.has(v.lang, key) else row.channel
    state, word = task_state(v, row.status, row.delivery)
    bad = row.status in ("failed", "refused") and row.reason
    return {
        "id": row.id,
        "state": state,
        "word": word,
        "title": visible(row.title) or v.t("activity.untitled"),
        "why": v.t(f"chat.failed.{blame(row.reason)}") if bad else "",
        "source": source if row.bot in ("", "web") else f"{source} · {row.bot}",
        "model": row.model,
        "own": row.own_ms if row.status == "done" else None,
        "total": row.ended_at - row.received_at if row.ended_at is not None else None,
        "at": row.received_at,
        "open": row.status in OPEN,
    }
