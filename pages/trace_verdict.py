"""One sentence about a task: how it ended, why, and where its time went."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.trace import TraceView
from pages.parts.badge import duration
from pages.trace_bars import Bar
from pages.visitor import Visitor, explain

SLOW = 5_000
MOST = 0.5

_PARAM = re.compile(r"(\w+)=(.*?)(?=, \w+=|\)\Z)", re.DOTALL)


def params_of(code: str, detail: str) -> dict[str, object]:
    """The parameters of a recorded error, from its recorded form `code (a=1, b=two)`."""
    if not detail.startswith(f"{code} ("):
        return {}
    return {name: value for name, value in _PARAM.findall(detail[len(code) + 2 :])}


def reason(v: Visitor, code: str, detail: str) -> tuple[str, str]:
    """What a recorded error code says, and its remedy."""
    return explain(v.words, v.lang, code, params_of(code, detail))


def verdict(v: Visitor, view: TraceView, total: int) -> tuple[str, str, str]:
    """State (`ok`, `warn`, `bad`, `unknown`, `run`), the sentence, and what to do, which may be empty."""
    job, shown = view.job, duration(total)
    if job.status in ("failed", "refused"):
        what, remedy = reason(v, job.reason, view.detail)
        state = "bad" if job.status == "failed" else "warn"
        return state, v.t(f"trace.verdict.{job.status}", reason=what), remedy
    if job.status == "cancelled":
        return "unknown", v.t("trace.verdict.cancelled", total=shown), ""
    if job.status == "waiting":
        return "warn", v.t("trace.verdict.waiting"), ""
    if job.status in ("todo", "doing"):
        return "unknown", v.t("trace.verdict.todo" if job.status == "todo" else "trace.verdict.open", total=shown), ""
    bad = next((row for row in view.deliveries if row.status in ("failed", "unknown")), None)
    if bad is not None:
        what, remedy = reason(v, bad.error, bad.detail) if bad.error else ("", "")
        if bad.status == "failed":
            return "bad", v.t("trace.verdict.undelivered"), f"{what} {remedy}".strip()
        return "warn", v.t("trace.verdict.unknown"), v.t("trace.delivery.unknown.help")
    if any(row.status in ("pending", "sending") for row in view.deliveries):
        return "unknown", v.t("trace.verdict.sending"), ""
    return "ok", v.t("trace.verdict.done", total=shown, own=duration(job.own_ms)), ""


def slow(v: Visitor, found: Sequence[Bar], total: int) -> str:
    """Why a slow task was slow, where one part took most of the time; else nothing."""
    if total < SLOW:
        return ""
    models = [bar for bar in found if bar.kind == "model"]
    parts = [
        (sum(bar.ms or 0 for bar in models), "model", models[0].first_ms if models else 0),
        (sum(bar.ms or 0 for bar in found if bar.kind == "claimed"), "queue", 0),
    ]
    tools: dict[str, int] = {}
    for bar in found:
        if bar.kind == "tool":
            tools[bar.label] = tools.get(bar.label, 0) + (bar.ms or 0)
    tool, spent = max(tools.items(), key=lambda item: item[1], default=("", 0))
    most = max([*parts, (spent, "tool", 0)])
    if most[0] < MOST * total:
        return ""
    share = f"{most[0] / total:.0%}"
    return v.t(f"trace.verdict.slow_{most[1]}", share=share, first=duration(most[2]), tool=tool)
