"""What a dry run found: each act that would be done, and whom it would tell."""

from __future__ import annotations

from agent.schedules.trying import DryRun
from pages.parts.markup import box, span, tag
from pages.parts.state import note
from pages.visitor import Visitor


def show_dry(v: Visitor, tried: DryRun) -> None:
    """The acts in order; nothing of it was done but calls that only read."""
    with box("card"):
        tag("h2", v.t("schedules.dry.title"))
        tag("p", v.t("schedules.dry.hint"), "small muted")
        for name, kind, what in tried.steps:
            with box("dry-step"):
                with box("bar"):
                    span(v.t(f"schedules.dry.{kind}"), "tag")
                    span(name, "mono small muted")
                tag("pre", what, "pre")
        if tried.boxed is not None:
            if tried.boxed:
                note("ok", v.t("schedules.dry.boxed"))
            else:
                note("warn", v.t("schedules.dry.unboxed"))
        if tried.error is not None:
            what, remedy = v.explain(tried.error)
            note("bad", v.sentence(what, remedy))
        told = tried.tells or v.t("schedules.told.nobody")
        tag("p", v.t("schedules.dry.tells", told=told), "small muted")
