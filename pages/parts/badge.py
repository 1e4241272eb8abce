"""State as icon, word and colour together, and times as a person says them."""

from __future__ import annotations

from pages.parts.markup import Markup, span, tag
from pages.visitor import Visitor

STATES = ("ok", "warn", "bad", "unknown", "run", "off")


def badge(v: Visitor, state: str, text: str = "") -> Markup:
    """A state: `ok`, `warn`, `bad`, `unknown`, `run` or `off`; `text` says more than the usual word."""
    shown = state if state in STATES else "unknown"
    return span(text or v.t(f"state.{shown}"), f"st {shown}")


def moment(v: Visitor, at: int | None, form: str = "ago") -> Markup:
    """A time in milliseconds since the epoch; the browser writes it in its own zone, exact on hover.

    Args:
        form: `ago` (kept up to date), `exact`, or `clock` (hours and minutes).
    """
    if at is None:
        return span(v.t("time.never"), "faint")
    return tag("time", "", "nowrap", data_at=str(at), data_form=form)


def duration(ms: int | None) -> str:
    """340 ms, 1.2 s, 3 min 5 s."""
    if ms is None:
        return "–"
    if ms < 1000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms // 60_000} min {ms % 60_000 // 1000} s"
