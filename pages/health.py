"""`/health`: what is broken and how do I mend it? One button, then verdicts worst first, each with its remedy."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import Client, ui

from agent.symptoms.actions import SymptomActions
from pages.frame import Panel
from pages.health_symptoms import Symptoms
from pages.health_watch import Watch
from pages.parts.badge import badge, duration, moment
from pages.parts.button import button, link
from pages.parts.folds import Folds
from pages.parts.markup import box, span, tag
from pages.visitor import Visitor
from security.health.actions import HealthActions
from security.health.console import texts, title
from security.health.row import GROUPS, HealthRow, Progress

SECONDS = 0.6
IDLE_SECONDS = 10.0
STATE = {"pass": "ok", "warn": "warn", "fail": "bad", "unknown": "unknown", "off": "off"}
QUIET = ("pass", "off")
LOUD = ("fail", "warn", "unknown", "pass")


def mount(panel: Panel, health: HealthActions, symptoms: SymptomActions, watch: Watch) -> None:
    """Register `/health`. Called once with what the page uses."""

    @ui.page("/health")
    async def page(symptom: str = "") -> None:
        v = panel.enter()
        with panel.frame(v, "place.health", place="/health", css=("operations.css",)) as frame:
            if not panel.may(v, "health.view"):
                return
            shown = HealthPage(panel, v, health)
            with frame.actions:
                shown.pressed = button(
                    v.t("healthpage.run"), panel.act(v, shown.begin), "pri", data_testid="health-run"
                )
            shown.begin_with()
            await Symptoms(panel, v, symptoms).build(symptom)
            await shown.build()
            with box("grid2 halves"):
                watch.build(panel, v)


class HealthPage:
    """One open page. While tests run it is looked at twice a second, else now and then."""

    def __init__(self, panel: Panel, v: Visitor, health: HealthActions) -> None:
        self.panel, self.v, self.health = panel, v, health
        self.pressed, self.folds = tag("span"), Folds()
        self._seen: object = None

    def begin_with(self) -> None:
        """The place of the verdict, above all else."""
        self.head = box("", role="status", aria_live="polite")

    async def build(self) -> None:
        """A card a group, the worst first."""
        self.place = box("layers health")
        await self.look()
        ui.timer(SECONDS, self.tick)

    async def begin(self) -> None:
        """Test everything."""
        self.health.start(self.v.who)
        await self.look()

    async def again(self, name: str) -> None:
        """Test one thing again."""
        self.health.start(self.v.who, [name])
        await self.look()

    async def fix(self, row: HealthRow) -> None:
        """Mend what can be mended safely, and test it again."""
        rows = await self.health.fix(self.v.who, row.id, row.subject)
        left = any(r.id == row.id and r.subject == row.subject and r.status == "fail" for r in rows)
        await self.look()
        self.panel.say(self.v, self.v.t("healthpage.not_fixed" if left else "healthpage.fixed"))

    async def tick(self) -> None:
        """Follow a run, also one that somebody else began."""
        if self.panel.gate.alive(self.v.who):
            await self.look()

    async def look(self) -> None:
        """Show what changed."""
        v = self.v
        rows, progress = await self.health.list(v.who), self.health.progress(v.who)
        seen = (progress, max((row.at for row in rows), default=0), len(rows))
        if v.client.is_deleted or seen == self._seen:
            return
        fresh = self._seen is None or seen[1:] != getattr(self, "_rows_seen", None)
        self._seen, self._rows_seen = seen, seen[1:]
        busy = progress.total > 0
        self.pressed.attr(aria_busy="true" if busy else None, disabled=busy)
        self.head.clear()
        with self.head:
            self._progress(progress) if busy else self._verdict(rows)
        if fresh:
            self.place.clear()
            with self.place:
                groups = {group: [row for row in rows if row.group == group] for group in GROUPS}
                for group in sorted(groups, key=lambda name: LOUD.index(_worst(groups[name]))):
                    self._group(group, groups[group])

    def _progress(self, progress: Progress) -> None:
        v = self.v
        with box("verdict unknown"), box("grow"):
            tag("b", v.t("healthpage.running", done=progress.done, total=progress.total))
            names = ", ".join(v.t(f"health.{name}") for name in progress.now)
            box("small muted", names or v.t("healthpage.ending"))
            tag("progress", "", "bar-line", value=progress.done, max=progress.total).attr(
                aria_label=v.t("healthpage.running", done=progress.done, total=progress.total)
            )

    def _verdict(self, rows: Sequence[HealthRow]) -> None:
        v = self.v
        if not any(row.at for row in rows):
            with box("verdict unknown"), box("grow"):
                tag("b", v.t("healthpage.first"))
                box("small muted", v.t("healthpage.first.hint"))
            return
        counts = {status: sum(row.status == status for row in rows) for status in STATE}
        worst = next((status for status in ("fail", "warn", "unknown") if counts[status]), "pass")
        with box(f"verdict {STATE[worst]}"):
            with box("grow"):
                n = counts[worst]
                tag("b", v.t(f"healthpage.verdict.{worst}", n=n))
                with box("small muted bar"):
                    span(v.t("healthpage.tested"))
                    moment(v, max(row.at for row in rows))
            with box("r score"):
                for status in ("pass", "fail", "warn", "unknown"):
                    with box():
                        tag("b", str(counts[status]))
                        span(v.t(f"healthpage.{status}"))

    def _group(self, group: str, rows: Sequence[HealthRow]) -> None:
        if not rows:
            return
        v = self.v
        loud, quiet = [r for r in rows if r.status not in QUIET], [r for r in rows if r.status in QUIET]
        with box("card", data_group=group):
            with tag("h2", v.t(f"health.group.{group}")):
                worst = _worst(rows)
                badge(v, STATE[worst], v.t(f"healthpage.{worst}"))
            for row in loud:
                self._row(row)
            if quiet:
                with self.folds.fold(group, "quiet-rows"):
                    tag("summary", v.t("healthpage.fine", n=len(quiet)))
                    for row in quiet:
                        self._row(row)

    def _row(self, row: HealthRow) -> None:
        v, act = self.v, self.panel.act
        what, remedy = texts(v.words, v.lang, row)
        name = title(v.words, v.lang, row)
        with box("line", data_test=row.id, data_subject=row.subject or None):
            badge(v, STATE[row.status], v.t(f"healthpage.{row.status}"))
            with box("grow"):
                box("", name)
                box("small muted wrap", what)
                if remedy:
                    box("small wrap", remedy)
                fixes = row.fixable and v.who.may("server.manage")
                leads = row.to and row.status not in QUIET and row.to.partition("?")[0] in Client.page_routes.values()
                if fixes or leads:
                    with box("bar acts"):
                        if fixes:
                            label = f"{v.t('healthpage.fix')}: {name}"
                            button(v.t("healthpage.fix"), act(v, self.fix, row), "small pri", aria_label=label)
                        if leads:
                            link(v.t("healthpage.go"), row.to, "small").attr(
                                aria_label=f"{v.t('healthpage.go')}: {name}"
                            )
            with box("age small faint"):
                if row.at:
                    span(duration(row.ms), "nowrap hide-phone")
                    moment(v, row.at)
                label = f"{v.t('healthpage.again')}: {name}"
                button("", act(v, self.again, row.id), "small quiet ic ic-refresh", aria_label=label)


def _worst(rows: Sequence[HealthRow]) -> str:
    return next((status for status in LOUD if any(row.status == status for row in rows)), "pass")
