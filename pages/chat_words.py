"""The chat page's texts for the browser: it has none of its own."""

from __future__ import annotations

from typing import Any

from pages.visitor import Visitor

_NAMES = (
    *(
        "again",
        "ask",
        "ask_no",
        "ask_other",
        "ask_yes",
        "assistant",
        "attach",
        "close",
        "conversations",
        "copy",
        "demo",
        "demo_help",
        "file_busy",
        "file_refused",
        "hello",
        "hello_help",
    ),
    *("jump", "jump_fresh", "list_empty", "list_more", "loading", "message", "message_queued"),
    *("message_sending", "messages", "model", "new", "new_title", "offline", "pane", "placeholder", "placeholder_on"),
    *("plan", "plan_doing", "plan_done", "plan_empty", "plan_failed", "plan_todo", "recalled", "recalled_kept"),
    *("recalled_source", "remove", "removed", "rename", "retry", "running", "said_cancelled", "said_done"),
    *("said_failed", "said_refused", "search", "search_none", "send", "stop", "tool_args", "tool_fail", "tool_nothing"),
    *("tool_ok", "tool_result", "tool_run", "trace", "trace_whole", "unattach", "undo", "untitled", "used"),
    *("used_calls", "used_cost", "used_first", "used_model", "used_own", "used_tokens", "used_tools", "used_way"),
    *("working", "you"),
)
EXAMPLES = ("remember", "plan", "time", "table")


def room_words(v: Visitor) -> dict[str, Any]:
    """All texts that the browser's half shows, by short name."""
    words: dict[str, Any] = {name: v.t(f"chat.{name}") for name in _NAMES}
    words["examples"] = [v.t(f"chat.example.{name}") for name in EXAMPLES]
    return words


def tool_name(v: Visitor, name: str) -> str:
    """What a tool is called for people; its own name where it has no text."""
    key = f"chat.tool.{name}"
    return v.t(key) if v.words.has(v.lang, key) else name
