"""`/audit`: who did what, when, from where, and what was there before? And is the log itself whole?"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from nicegui import ui

from pages.frame import Panel
from pages.parts.badge import badge, moment
from pages.parts.button import button
from pages.parts.copying import copy_line
from pages.parts.download import hand_over
from pages.parts.markup import Markup, box, span, tag
from pages.parts.state import empty
from pages.visitor import Visitor
from security.audit_export import AuditExport
from security.audit_view import AuditActions, AuditEntry
from security.step_up import StepUp
from storage.anchor import Anchor
from storage.audit import ChainResult

PAGE = 50
DAY = 86_400_000
SPANS = (("", 0), ("1", 1), ("7", 7), ("30", 30), ("180", 180))


@dataclass(kw_only=True)
class Filters:
    """What is chosen; kept in the page's address."""

    action: str = ""
    by: str = ""
    days: str = ""
    entries: list[AuditEntry] = field(default_factory=list)

    def since(self, now: int) -> int | None:
        days = dict(SPANS).get(self.days, 0)
        return now - days * DAY if days else None


def mount(panel: Panel, audit: AuditActions, export: AuditExport, anchor: Anchor, step_up: StepUp) -> None:
    """Register `/audit`; `?action=bot.&by=user:1&days=7` is an address that can be sent to a colleague."""

    @ui.page("/audit")
    async def page(action: str = "", by: str = "", days: str = "") -> None:
        v = panel.enter()
        with panel.frame(v, "place.audit", place="/audit", css=("keeping.css",)) as frame:
            chosen = Filters(action=action[:100], by=by[:100], days=days if days in dict(SPANS) else "")
            nouns, people = await audit.known(v.who)
            verdict = box()
            now = audit.audit.clock.ms()

            async def verify() -> None:
                found = await audit.verify(v.who)
                verdict.clear()
                with verdict:
                    _verdict(panel, v, found, renew)

            async def renew() -> None:
                v.who.require("security.manage")
                step_up.require(v.who)
                await anchor.renew(v.who)
                await verify()

            async def take(form: str) -> None:
                hand_over(v, await export.write(v.who, form, since=chosen.since(now)))

            with frame.actions:
                button(v.t("audit.export"), panel.act(v, take, "jsonl"))
                button(v.t("audit.table"), panel.act(v, take, "csv"), "quiet")
                button(v.t("audit.verify"), panel.act(v, verify), "pri")
            await verify()
            _filters(v, chosen, nouns, people)
            await _entries(panel, v, audit, chosen, now)
            _outside(v, export, anchor)


def _verdict(panel: Panel, v: Visitor, found: ChainResult, renew: Callable[[], Awaitable[None]]) -> None:
    if found.broken_at is not None:
        state, text = "bad", v.t("audit.verdict.broken", row=found.broken_at)
    elif found.anchor in ("cut", "forged"):
        state, text = "bad", v.t(f"audit.verdict.{found.anchor}")
    elif found.anchor == "missing":
        state, text = "warn", v.t("audit.verdict.missing")
    else:
        state, text = "ok", v.t("audit.verdict.whole", n=found.rows)
    with box(f"verdict {state}", role="status"):
        tag("b", text)
        if found.anchor in ("cut", "forged", "missing") and v.who.may("security.manage"):
            with box("r"):
                button(v.t("audit.anchor.renew"), panel.act(v, renew), "small")


def _filters(v: Visitor, chosen: Filters, nouns: Sequence[str], people: Sequence[tuple[str, str]]) -> None:
    """A plain form that leads to the page's own address: it works without the server and can be sent on."""
    with tag("form", "", "bar filters", method="get", action="/audit"):
        actions = [("", v.t("audit.any.action")), *((f"{noun}.", _noun(v, noun)) for noun in nouns)]
        _choice("action", v.t("audit.action"), actions, chosen.action)
        _choice("by", v.t("audit.by"), [("", v.t("audit.any.by")), *people], chosen.by)
        spans = [(key, v.t(f"audit.days.{key or 'all'}")) for key, _ in SPANS]
        _choice("days", v.t("audit.days"), spans, chosen.days)
        tag("button", v.t("audit.filter"), "btn", type="submit")


def _choice(name: str, label: str, options: Sequence[tuple[str, str]], value: str) -> None:
    with tag("label", "", "field inline"):
        span(label, "small muted")
        with tag("select", "", "input", name=name):
            for key, text in options:
                tag("option", text, value=key).attr(selected=True if key == value else None)


def _noun(v: Visitor, noun: str) -> str:
    key = f"audit.noun.{noun}"
    return v.t(key) if v.words.has(v.lang, key) else noun


async def _entries(panel: Panel, v: Visitor, audit: AuditActions, chosen: Filters, now: int) -> None:
    place = box("card")
    foot = box("bar")

    async def more() -> None:
        last = chosen.entries[-1].id if chosen.entries else None
        found = await audit.list(
            v.who, action=chosen.action, by=chosen.by, since=chosen.since(now), before=last, limit=PAGE
        )
        chosen.entries += found
        with place:
            for entry in found:
                _entry(v, entry)
        foot.clear()
        if len(found) == PAGE:
            with foot:
                button(v.t("audit.more"), panel.act(v, more))

    await more()
    if not chosen.entries:
        with place:
            empty(v.t("audit.empty"))


def _entry(v: Visitor, entry: AuditEntry) -> Markup:
    with tag("details", "", "line entry", data_audit=str(entry.id)) as made:
        with tag("summary", "", "bar"):
            moment(v, entry.at)
            span(entry.who_name or entry.who, "strong", title=entry.who)
            span(_act(v, entry.action))
            span(entry.target, "mono small muted cut")
            if entry.result != "ok":
                badge(v, "warn", entry.result)
        with tag("dl", "", "facts small"):
            _fact(v.t("audit.fact.action"), entry.action)
            _fact(v.t("audit.fact.who"), entry.who)
            _fact(v.t("audit.fact.ip"), entry.ip or "–")
            _fact(v.t("audit.fact.number"), f"{entry.id} · {entry.hash[:16]}…")
        if entry.before is not None or entry.after is not None:
            with box("grid2"):
                for name, value in (("before", entry.before), ("after", entry.after)):
                    with box():
                        box("small muted", v.t(f"audit.{name}"))
                        tag("pre", _shown(value), "pre small")
    return made


def _act(v: Visitor, action: str) -> str:
    key = f"audit.act.{action}"
    return v.t(key) if v.words.has(v.lang, key) else action


def _shown(value: object) -> str:
    return "–" if value is None else json.dumps(value, ensure_ascii=False, indent=1)[:8000]


def _fact(name: str, value: str) -> None:
    tag("dt", name)
    tag("dd", value, "mono")


def _outside(v: Visitor, export: AuditExport, anchor: Anchor) -> None:
    """What an auditor needs to check exports without this program."""
    with box("card"):
        tag("h2", v.t("audit.outside"))
        tag("p", v.t("audit.outside.what"), "muted")
        copy_line(v, export.public_key())
        copy_line(v, "python3 verify_audit.py zhixing-audit-….jsonl " + export.public_key()[:8] + "…")
        with box("small muted bar"):
            span(v.t("audit.anchor"))
            span(str(anchor.path), "mono")
