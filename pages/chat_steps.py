"""Recorded steps of a task, as people see them: tool calls in one line each, the plan, what was recalled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent.actions import StepRow
from pages.chat_words import tool_name
from pages.visitor import Visitor
from security.markdown import visible

WHAT = 120
INSIDE = 8_000


def parsed(text: str) -> Any:
    """Recorded JSON; None where it is none (an older form must not break the page)."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def what_for(args: Any) -> str:
    """What a call is about, from its arguments: the first texts, short."""
    if not isinstance(args, dict):
        return ""
    said = [str(value) for value in args.values() if isinstance(value, str | int | float) and str(value)]
    return visible(" · ".join(" ".join(text.split()) for text in said))[:WHAT]


def pretty(args: Any) -> str:
    """Arguments for reading: the text alone where there is only one, else a line each."""
    if not args:
        return ""
    if isinstance(args, dict):
        lines = [f"{k}: {v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}" for k, v in args.items()]
        return visible("\n".join(lines))[:INSIDE]
    return visible(json.dumps(args, ensure_ascii=False, indent=1))[:INSIDE]


def tool_steps(steps: Sequence[StepRow]) -> list[StepRow]:
    """The calls that get a line; the plan is shown as itself."""
    return [step for step in steps if step.kind == "tool" and step.name != "plan"]


def step_lines(v: Visitor, steps: Sequence[StepRow], *, over: bool) -> list[dict[str, Any]]:
    """One line for each tool call. `over`: the task has ended, so a step without a result was cut off."""
    return [_line(v, str(at), step, over=over) for at, step in enumerate(tool_steps(steps))]


def _line(v: Visitor, key: str, step: StepRow, *, over: bool) -> dict[str, Any]:
    result = parsed(step.result)
    open_ = step.status == "started" or step.ended_at is None
    good = not isinstance(result, dict) or bool(result.get("ok", True))
    return {
        "id": key,
        "label": tool_name(v, step.name),
        "what": what_for(parsed(step.request)),
        "ms": None if step.ended_at is None else step.ended_at - step.started_at,
        "state": ("fail" if over else "run") if open_ else ("ok" if good else "fail"),
    }


def step_detail(step: StepRow) -> dict[str, str]:
    """Arguments and result of one call."""
    result = parsed(step.result)
    said = result.get("text", "") if isinstance(result, dict) else step.result
    return {"args": pretty(parsed(step.request)), "result": visible(str(said))[:INSIDE]}


def plan_of(steps: Sequence[StepRow]) -> list[dict[str, str]]:
    """The newest state of the plan; empty where none was made."""
    for step in reversed(steps):
        if step.kind == "tool" and step.name == "plan":
            args = parsed(step.request)
            return plan_items(args.get("items") if isinstance(args, dict) else None)
    return []


def plan_items(items: Any) -> list[dict[str, str]]:
    """A plan's items as told by a tool call, bounded."""
    if not isinstance(items, list | tuple):
        return []
    return [
        {"text": visible(str(item.get("text", "")))[:200], "state": str(item.get("state", "todo"))}
        for item in items[:20]
        if isinstance(item, dict)
    ]


def recalled_of(v: Visitor, steps: Sequence[StepRow]) -> list[dict[str, Any]]:
    """What was recalled before the answer."""
    found = next((parsed(step.result) for step in steps if step.kind == "recall"), None)
    return recalled_items(v, found)


def source_ids(recalled: Sequence[dict[str, Any]]) -> list[int]:
    """Ids of the messages that recalled memories come from."""
    found = [item["source"].removeprefix("message:") for item in recalled if item["source"].startswith("message:")]
    return [int(number) for number in found if number.isdecimal() and len(number) < 19]


def add_sources(recalled: Sequence[dict[str, Any]], places: Mapping[int, int]) -> None:
    """Link memories to where they were said, where the visitor may look there."""
    for item in recalled:
        for message in source_ids([item]):
            if message in places:
                item["href"] = f"/chat/{places[message]}#m{message}"


def recalled_items(v: Visitor, items: Any) -> list[dict[str, Any]]:
    """Recalled memories with their sources, bounded."""
    if not isinstance(items, list):
        return []
    out = []
    for item in items[:10]:
        if not isinstance(item, dict):
            continue
        said = str(item.get("source", "")).startswith("message:") and item.get("kind") in (None, "turn", "message")
        at = item.get("at")
        out.append(
            {
                "text": visible(" ".join(str(item.get("text", "")).split()))[:300],
                "at": at if isinstance(at, int) else 0,
                "from": v.t("chat.recalled_said" if said else "chat.recalled_kept"),
                "source": str(item.get("source", ""))[:60],
            }
        )
    return out
