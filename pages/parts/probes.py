"""The result of a live test, step by step, with what to do where a step failed."""

from __future__ import annotations

from collections.abc import Sequence

from channels.base import ProbeResult
from pages.parts.badge import badge, duration
from pages.parts.markup import Markup, box, span
from pages.visitor import Visitor

_STATE = {"pass": "ok", "warn": "warn", "fail": "bad", "unknown": "unknown"}


def failed_of(results: Sequence[ProbeResult]) -> list[ProbeResult]:
    """The steps that failed."""
    return [result for result in results if result.status == "fail"]


def probe_list(v: Visitor, results: Sequence[ProbeResult]) -> Markup:
    """All steps in their order."""
    with box("card probes") as made:
        for result in results:
            with box("line"):
                badge(v, _STATE.get(result.status, "unknown"), v.t(f"probe.status.{result.status}"))
                with box("grow"):
                    box("", _name(v, result.name))
                    _why(v, result)
                if result.ms:
                    span(duration(result.ms), "faint small nowrap")
    return made


def _name(v: Visitor, name: str) -> str:
    return v.t(f"probe.{name}") if v.words.has(v.lang, f"probe.{name}") else name


def _why(v: Visitor, result: ProbeResult) -> None:
    if not result.code:
        return
    for key in (f"error.{result.code}", result.code):
        if v.words.has(v.lang, key):
            box("small", v.t(key, **result.params))
            if v.words.has(v.lang, f"{key}.remedy"):
                box("small muted", v.t(f"{key}.remedy", **result.params))
            return
    box("small mono faint", result.code)
