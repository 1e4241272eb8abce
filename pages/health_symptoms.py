"""The three symptoms on the health page: pick one, read the likely causes with their remedies and traces."""

from __future__ import annotations

from nicegui import ui

from agent.symptoms.actions import SYMPTOMS, Diagnosis, SymptomActions, Verdict
from pages.frame import Panel
from pages.parts.badge import badge, duration, moment
from pages.parts.markup import Markup, box, span, tag
from pages.parts.segments import segments
from pages.visitor import Visitor, explain

SPANS = ("1", "24", "168")
MOST = 6
_TIMES = ("first", "total")


class Symptoms:
    """The card of one open page."""

    def __init__(self, panel: Panel, v: Visitor, symptoms: SymptomActions) -> None:
        self.panel, self.v, self.symptoms = panel, v, symptoms
        self.symptom, self.hours = "", 24

    async def build(self, symptom: str = "") -> None:
        """The choice, and the causes of the one that the address names."""
        v = self.v
        with box("card symptoms"):
            with tag("h2", v.t("symptom.title")):
                span(v.t("symptom.hint"), "r hide-phone")
            with box("bar"):
                options = [(name, v.t(f"symptom.{name}")) for name in SYMPTOMS]
                segments(self.panel, v, v.t("symptom.which"), options, symptom, self.pick)
                spans = [(hours, v.t(f"symptom.span.{hours}")) for hours in SPANS]
                segments(self.panel, v, v.t("symptom.span"), spans, "24", self.span)
            self.place = box("causes", role="region", aria_live="polite", aria_label=v.t("symptom.causes"))
        if symptom in SYMPTOMS:
            await self.pick(symptom)

    async def pick(self, symptom: str) -> None:
        """Look for the causes of one."""
        self.symptom = symptom
        ui.navigate.history.replace(f"/health?symptom={symptom}")
        await self.look()

    async def span(self, hours: str) -> None:
        """Look back so far."""
        self.hours = int(hours)
        if self.symptom:
            await self.look()

    async def look(self) -> None:
        """Ask, and show."""
        found = await self.symptoms.diagnose(self.v.who, self.symptom, hours=self.hours)
        if self.v.client.is_deleted:
            return
        self.place.clear()
        with self.place:
            self._show(found)

    def _show(self, found: Diagnosis) -> None:
        v = self.v
        if not found.verdicts:
            state = "ok" if found.looked else "unknown"
            with box("line"):
                badge(v, state)
                box("grow", v.t("symptom.none" if found.looked else "symptom.nothing", n=found.looked))
            return
        tag("p", v.t("symptom.found", cases=found.cases, looked=found.looked), "small muted")
        for verdict in found.verdicts[:MOST]:
            self._cause(found, verdict)

    def _cause(self, found: Diagnosis, verdict: Verdict) -> Markup:
        v = self.v
        key = f"symptom.{found.symptom}.{verdict.name}"
        params = {name: duration(int(value)) if name in _TIMES else value for name, value in verdict.params.items()}
        with box("line cause", data_cause=verdict.name) as made:
            badge(v, "bad" if verdict is found.verdicts[0] else "warn", v.t("symptom.times", n=verdict.count))
            with box("grow"):
                text = v.t(key, **params)
                box("", f"{text} · {verdict.subject}" if verdict.subject else text)
                if verdict.code:
                    what, remedy = explain(v.words, v.lang, verdict.code, dict(verdict.params))
                    box("small muted wrap", f"{what} ({verdict.code})")
                    if remedy:
                        box("small muted wrap", remedy)
                box("small wrap", v.t(f"{key}.remedy"))
                if verdict.jobs and v.who.may("trace.view"):
                    with box("small bar"):
                        span(v.t("symptom.examples"), "muted")
                        for number in verdict.jobs:
                            tag("a", f"#{number}", "mono", href=f"/trace/{number}")
            with box("age small faint"):
                if verdict.last:
                    moment(v, verdict.last)
        return made
