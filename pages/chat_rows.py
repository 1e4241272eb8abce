"""Conversations and messages in the form that the browser shows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from agent.actions import ConversationRow, MessageRow, StepRow
from agent.models.actions import ModelRef
from agent.trace import TraceView
from pages.chat_models import is_demo, short
from pages.chat_steps import parsed, plan_of, recalled_of, step_lines
from pages.parts.badge import duration
from pages.visitor import Visitor
from security.markdown import render, visible

OPEN = ("todo", "doing", "waiting")
BAD = ("failed", "refused")


@lru_cache(maxsize=256)
def html_of(text: str) -> str:
    """Rendered for good, with coloured code. CPU: call it in a thread."""
    return render(text, highlight=True)


def conversation_view(row: ConversationRow) -> dict[str, Any]:
    """A conversation in the sidebar."""
    return {"id": row.id, "title": visible(row.title), "at": row.updated_at, "running": row.running}


async def message_views(
    v: Visitor, rows: Sequence[MessageRow], steps: Mapping[int, Sequence[StepRow]], choices: Sequence[ModelRef]
) -> list[dict[str, Any]]:
    """Messages, oldest first; what was done for an answer stands with the first message that answers."""
    views = await asyncio.to_thread(_views, v, rows, steps)
    for view, row in zip(views, by_task(rows), strict=True):
        if not view.get("mine"):
            view["demo"] = is_demo(row.model, choices)
    return views


def _views(v: Visitor, rows: Sequence[MessageRow], steps: Mapping[int, Sequence[StepRow]]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    answered: set[int] = set()
    for row in by_task(rows):
        if row.direction == "in":
            out.append(said_view(row))
            if not row.text and not row.parts:
                out[-1]["text"] = v.t("memory.forgotten")
            continue
        first = row.job_id is not None and row.job_id not in answered
        if row.job_id is not None:
            answered.add(row.job_id)
        out.append(_answer(v, row, steps.get(row.job_id or 0, ()) if first else (), first=first))
    return out


def by_task(rows: Sequence[MessageRow]) -> list[MessageRow]:
    """Answers behind what they answer, also where more was said before they came."""
    out: list[MessageRow] = []
    for row in rows:
        at = len(out)
        if row.direction == "out" and row.job_id is not None:
            at = next((n for n in range(len(out), 0, -1) if out[n - 1].job_id == row.job_id), at)
        out.insert(at, row)
    return out


def said_view(row: MessageRow) -> dict[str, Any]:
    """What a person said: shown as typed."""
    return {
        "key": f"m{row.id}",
        "id": row.id,
        "mine": True,
        "text": visible(row.text),
        "at": row.created_at,
        "job": row.job_id,
        "parts": [{"name": visible(part.name) or part.kind} for part in row.parts if part.kind != "text"],
        "state": "queued" if row.status == "todo" else "sent",
    }


def _answer(v: Visitor, row: MessageRow, steps: Sequence[StepRow], *, first: bool) -> dict[str, Any]:
    view: dict[str, Any] = {
        "key": f"m{row.id}",
        "id": row.id,
        "job": row.job_id,
        "at": row.created_at,
        "running": False,
        "html": html_of(row.text if row.text or row.parts else v.t("memory.forgotten")),
        "model": short(row.model),
        "failed": failure(v, row.reason) if first and row.status in BAD else None,
    }
    if first:
        view |= {
            "replaces": f"j{row.job_id}",
            "steps": step_lines(v, steps, over=True),
            "plan": plan_of(steps),
            "recalled": recalled_of(v, steps),
            "used": used_line(v, steps),
        }
    return view


# Who is to blame for an error code's beginning, most exact first.
_BLAME = (
    (("model.timeout", "model.down", "model.broken", "egress.", "net."), "network"),
    (("model.",), "model"),
    (("task.", "job.deadline", "budget.", "rate."), "limit"),
    (("step.", "tool."), "tool"),
    (("access.", "right."), "access"),
)


def blame(code: str) -> str:
    """Who failed: `network`, `model`, `limit`, `tool`, `access`, or `product`, which is us."""
    return next((who for starts, who in _BLAME if code.startswith(starts)), "product")


def failure(v: Visitor, code: str) -> dict[str, Any]:
    """The head of a failed answer: who failed, and where it can be mended."""
    who = blame(code)
    out: dict[str, Any] = {"who": v.t(f"chat.failed.{who}"), "code": code}
    if who in ("model", "network") and v.who.may("model.view"):
        out |= {"href": "/models", "act": v.t("chat.failed.models")}
    return out


def used_line(v: Visitor, steps: Sequence[StepRow]) -> str:
    """Time and tokens of an answer, in a few characters."""
    ended = [step.ended_at for step in steps if step.ended_at is not None]
    models = [raw for step in steps if step.kind == "model" and isinstance(raw := parsed(step.result), dict)]
    if not ended or not models:
        return ""
    tokens = sum(int(raw.get("tokens_in") or 0) + int(raw.get("tokens_out") or 0) for raw in models)
    spent = duration(max(ended) - min(step.started_at for step in steps))
    if not tokens:
        return spent
    about = "≈ " if any(raw.get("estimated") for raw in models) else ""
    return f"{spent} · {v.t('chat.used_short', n=f'{about}{tokens:,}')}"


def pane_view(v: Visitor, trace: TraceView) -> dict[str, Any]:
    """The right pane for one task: its plan, and what it used."""
    models = [step for step in trace.steps if step.kind == "model"]
    tools = [step for step in trace.steps if step.kind == "tool" and step.name != "plan"]
    raws = [raw for step in models if isinstance(raw := parsed(step.result), dict)]
    return {
        "job": trace.job.id,
        "plan": plan_of(trace.steps),
        "used": {
            # a step that was cut off or failed is not recorded: its time would count as ours
            "own_ms": trace.job.own_ms if trace.job.status == "done" else None,
            "calls": len(models),
            "model_ms": _spent(models),
            "first_ms": int(raws[0].get("first_token_ms") or 0) if raws else 0,
            "tools": len(tools),
            "tool_ms": _spent(tools),
            "tokens": trace.tokens_in + trace.tokens_out,
            "estimated": any(raw.get("estimated") for raw in raws),
            "cost": trace.cost,
        },
    }


def _spent(steps: Sequence[StepRow]) -> int:
    return sum(step.ended_at - step.started_at for step in steps if step.ended_at is not None)
