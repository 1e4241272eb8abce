"""An act that waits for a word, in the form that people see."""

from __future__ import annotations

from typing import Any

from pages.chat_steps import pretty
from pages.chat_words import tool_name
from pages.visitor import Visitor
from storage.approvals import ApprovalView, may_decide


def ask_view(v: Visitor, view: ApprovalView) -> dict[str, Any]:
    """What would be done, and whether the visitor may decide about it."""
    return {
        "id": view.id,
        "label": tool_name(v, view.tool),
        "act": pretty(view.arguments()),
        "may": may_decide(v.who, view),
    }
