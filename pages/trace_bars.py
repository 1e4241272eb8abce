"""A task's way as bars of a waterfall: each stretch with its beginning, its length and what is known about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.actions import StepRow
from agent.trace import DeliveryRow, TraceView
from pages.chat_steps import parsed, plan_of, recalled_of, step_detail, what_for
from pages.chat_words import tool_name
from pages.parts.badge import duration
from pages.visitor import Visitor
from security.markdown import visible

OPEN = ("todo", "doing")
STORED = ("web", "api")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One stretch.

    Attributes:
        kind: `received`, `claimed`, `recall`, `model`, `tool`, `plan`, `approval`, `reply`, `written`, `delivered`,
            `failed`, `unknown`.
        ms: None while it lasts.
        first_ms: for a model, how long until its first token.
        facts: lines for who opens it, the last of them perhaps long texts: (heading, text).
    """

    kind: str
    label: str
    note: str
    at: int
    ms: int | None
    ok: bool = True
    first_ms: int = 0
    facts: tuple[tuple[str, str], ...] = ()


def is_over(view: TraceView) -> bool:
    """True if nothing more will happen to this task by itself."""
    if view.job.status in (*OPEN, "waiting"):
        return False
    return all(row.status not in ("pending", "sending") for row in view.deliveries)


def bars(v: Visitor, view: TraceView) -> list[Bar]:
    """All stretches in order."""
    received = view.job.received_at
    out = [Bar(kind="received", label=v.t("trace.stage.received"), note="", at=received, ms=0)]
    claimed = next((stage.ms for stage in view.stages if stage.name == "claimed"), None)
    if claimed is not None or view.job.status in OPEN:
        out.append(Bar(kind="claimed", label=v.t("trace.stage.claimed"), note="", at=received, ms=claimed))
    over = view.job.status not in (*OPEN, "waiting")
    out += [_step(v, step, over=over) for step in view.steps]
    ends = [bar.at + (bar.ms or 0) for bar in out]
    for row in view.deliveries:
        out += _delivery(v, row, max(ends), stored=view.job.channel in STORED)
    return out


def total(found: Sequence[Bar], received: int, now: int) -> int:
    """Milliseconds from receiving to the last thing that happened; to now while something lasts."""
    return max([0, *((now if bar.ms is None else bar.at + bar.ms) - received for bar in found)])


def _step(v: Visitor, step: StepRow, *, over: bool) -> Bar:
    ms = None if step.ended_at is None else step.ended_at - step.started_at
    if ms is None and over:
        label, note = v.t(f"trace.stage.{_kind(step)}"), v.t("trace.cut_off")
        return Bar(kind=_kind(step), label=label, note=note, at=step.started_at, ms=0, ok=False)
    if step.kind == "recall":
        found = recalled_of(v, [step])
        note = v.t("trace.recalled", n=len(found)) if found else v.t("trace.recalled.none")
        facts = tuple((item["from"], item["text"]) for item in found)
        label = v.t("trace.stage.recall")
        return Bar(kind="recall", label=label, note=note, at=step.started_at, ms=ms, facts=facts)
    if step.kind == "model":
        return _model(v, step, ms)
    if step.kind == "approval":
        raw = parsed(step.result)
        raw = raw if isinstance(raw, dict) else {}
        word = raw.get("word") if raw.get("word") in ("approved", "refused", "expired") else "changed"
        note = v.t(f"trace.approval.{word}", who=visible(str(raw.get("by") or "–")))
        ok = word == "approved"
        return Bar(kind="approval", label=v.t("trace.stage.approval"), note=note, at=step.started_at, ms=ms, ok=ok)
    return _tool(v, step, ms)


def _kind(step: StepRow) -> str:
    if step.kind == "tool" and step.name == "plan":
        return "plan"
    return step.kind if step.kind in ("recall", "model", "tool") else "tool"


def _model(v: Visitor, step: StepRow, ms: int | None) -> Bar:
    raw = parsed(step.result)
    raw = raw if isinstance(raw, dict) else {}
    first = int(raw.get("first_token_ms") or 0)
    notes = [str(raw.get("ref") or step.request)]
    if first:
        notes.append(v.t("trace.model.first", first=duration(first), total=duration(ms)))
    facts = []
    if raw.get("tokens_in") or raw.get("tokens_out"):
        said = v.t("trace.model.tokens", n_in=f"{raw.get('tokens_in', 0):,}", n_out=f"{raw.get('tokens_out', 0):,}")
        facts.append((v.t("trace.fact.tokens"), said + (v.t("trace.model.estimated") if raw.get("estimated") else "")))
    names = ", ".join(str(call.get("name", "")) for call in raw.get("calls") or () if isinstance(call, dict))
    if names:
        facts.append(("", v.t("trace.model.calls", names=visible(names)[:300])))
    if raw.get("text"):
        facts.append((v.t("chat.tool_result"), visible(str(raw["text"]))[:4000]))
    return Bar(
        kind="model",
        label=v.t("trace.stage.model"),
        note=visible(" · ".join(notes)),
        at=step.started_at,
        ms=ms,
        first_ms=first,
        facts=tuple(facts),
    )


def _tool(v: Visitor, step: StepRow, ms: int | None) -> Bar:
    raw, kind = parsed(step.result), _kind(step)
    if kind == "plan":
        items = plan_of([step])
        done = sum(item["state"] == "done" for item in items)
        facts = tuple((v.t(f"chat.plan_{_state(item)}"), item["text"]) for item in items)
        label = v.t("trace.stage.plan")
        return Bar(kind="plan", label=label, note=f"{done}/{len(items)}", at=step.started_at, ms=ms, facts=facts)
    detail = step_detail(step)
    return Bar(
        kind="tool",
        label=tool_name(v, step.name),
        note=what_for(parsed(step.request)),
        at=step.started_at,
        ms=ms,
        ok=not isinstance(raw, dict) or bool(raw.get("ok", True)),
        facts=((v.t("chat.tool_args"), detail["args"]), (v.t("chat.tool_result"), detail["result"])),
    )


def _state(item: dict[str, str]) -> str:
    return item["state"] if item["state"] in ("todo", "doing", "done", "failed") else "todo"


def _delivery(v: Visitor, row: DeliveryRow, last: int, *, stored: bool) -> list[Bar]:
    out = [
        Bar(kind="reply", label=v.t("trace.stage.reply"), note="", at=last, ms=max(0, row.committed_at - last)),
    ]
    if stored:
        return out
    written, ended = row.written_at, row.ended_at
    if written is not None or row.status in ("pending", "sending"):
        ms = None if written is None else max(0, written - row.committed_at)
        out.append(Bar(kind="written", label=v.t("trace.stage.written"), note="", at=row.committed_at, ms=ms))
    if ended is not None and row.status in ("delivered", "failed", "unknown"):
        begin = written if written is not None else row.committed_at
        label = v.t(f"trace.stage.{row.status}")
        note = row.vendor_id if row.status == "delivered" else row.error
        ok = row.status == "delivered"
        out.append(Bar(kind=row.status, label=label, note=note, at=begin, ms=max(0, ended - begin), ok=ok))
    return out
