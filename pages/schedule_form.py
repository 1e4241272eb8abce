"""The form of a schedule: what, when, who is told, and what holds if something goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from nicegui import ui

from agent.schedules.actions import ScheduleActions
from agent.schedules.cron import ZONE, zone_of
from agent.schedules.draft import METHODS, ScheduleDraft, Task
from agent.schedules.planning import MISSED, OVERLAP
from agent.schedules.scenarios import Scenario, scenarios
from agent.schedules.steps import read_steps, secrets_of, values_of
from agent.schedules.views import ScheduleView
from agent.schedules.words import moment_of, seconds_of, span_of
from pages.frame import Panel
from pages.parts.form import Form, Values
from pages.parts.markup import box, tag
from pages.parts.state import note
from pages.schedule_dry import show_dry
from pages.schedule_parts import to
from pages.schedule_when import WhenFields
from pages.visitor import Visitor
from storage.errors import Invalid

_SPANS = ("timeout", "backoff", "missed_within")
_COUNTS = ("retries", "alert_after", "pause_after")
_FIRST = "0 9 * * *"


class ScheduleForm:
    """The form in the current place.

    Args:
        bots: names and types of those that can be told.
        row: the schedule as it is, or None for a new one.
        kind, scenario: of a new one.
    """

    def __init__(
        self,
        panel: Panel,
        v: Visitor,
        schedules: ScheduleActions,
        bots: Sequence[tuple[str, str]],
        row: ScheduleView | None,
        *,
        kind: str,
        scenario: str,
    ) -> None:
        self.panel, self.v, self.schedules, self.bots, self.row = panel, v, schedules, bots, row
        self.kind = row.draft.kind if row else kind
        self._scenario = row.draft.task.scenario if row else scenario
        self._values: list[str] = []
        self._secrets: list[str] = []

    async def build(self) -> None:
        """Make the form."""
        v = self.v
        template = await asyncio.to_thread(_template, self._scenario)
        draft = self.row.draft if self.row else self._new(template)
        name = f"schedule-{self.row.id if self.row else self.kind}"
        with Form(self.panel, v, self._send, name=name, css="botform") as self.form:
            with box("card"):
                self._what(draft, template)
            with box("card"):
                tag("h2", v.t("schedules.when"))
                self.when = WhenFields(self.panel, v, self.schedules, self.form)
                await self.when.build(draft.expression, draft.zone)
            with box("card"):
                tag("h2", v.t("schedules.told"))
                self._told(draft)
            with tag("details", "", "card more"):
                tag("summary", v.t("schedules.care"))
                self._care(draft)
            with box("formend"):
                self.form.submit(v.t("frame.save"), "save")
                self.form.submit(v.t("schedules.dry"), "dry", css="")
            self.results = box("results stack", role="status")

    def _new(self, template: Scenario | None) -> ScheduleDraft:
        """What a new one begins with."""
        if template is None:
            text = self.v.t(f"schedules.first.{self.kind}") if self.kind in ("message", "prompt", "command") else ""
            task = Task(command=text) if self.kind == "command" else Task(text=text)
            return ScheduleDraft(name="", kind=self.kind, expression=_FIRST, task=task)
        lang = self.v.lang
        values = {blank.name: blank.default.get(lang, "") for blank in template.blanks if not blank.secret}
        task = Task(scenario=template.id, steps=template.steps_in(lang), values=values)
        name = template.name[lang]
        return ScheduleDraft(name=name, kind="workflow", expression=template.expression, task=task, overlap="skip")

    # ---- what

    def _what(self, draft: ScheduleDraft, template: Scenario | None) -> None:
        v, form, task = self.v, self.form, draft.task
        tag("h2", v.t(f"schedules.kind.{self.kind}"))
        what = template.what[v.lang] if template else v.t(f"schedules.kind.{self.kind}.what")
        tag("p", what, "small muted")
        form.text("name", v.t("schedules.name"), value=draft.name, autofocus=not draft.name or None)
        match self.kind:
            case "command":
                form.text(
                    "command",
                    v.t("schedules.command"),
                    value=task.command,
                    css="mono",
                    help=v.t("schedules.command.help"),
                )
                note("warn", v.t("schedules.command.allow"))
            case "http":
                self._call(task)
            case "workflow":
                self._workflow(task, template)
            case kind:
                form.area("text", v.t(f"schedules.text.{kind}"), value=task.text)

    def _call(self, task: Task) -> None:
        v, form = self.v, self.form
        with box("row-url"):
            form.choice("method", v.t("schedules.method"), [(name, name) for name in METHODS], value=task.method)
            form.text("url", v.t("schedules.url"), value=task.url, css="mono", type="url", placeholder="https://")
        tail = self.row.secrets.get("authorization") if self.row else None
        form.secret(
            "secret_authorization", v.t("schedules.authorization"), tail=tail, optional=True,
            help=v.t("schedules.authorization.help"),
        )  # fmt: skip
        lines = "\n".join(f"{name}: {value}" for name, value in task.headers.items())
        form.area("headers", v.t("schedules.headers"), value=lines, optional=True, help=v.t("schedules.headers.help"))
        form.area("body", v.t("schedules.body"), value=task.body, optional=True)

    def _workflow(self, task: Task, template: Scenario | None) -> None:
        v, form = self.v, self.form
        steps = read_steps(task.steps) if task.steps else ()
        self._values, self._secrets = values_of(steps), secrets_of(steps)
        for name in self._values:
            blank = template.blank(name) if template else None
            form.text(
                f"value_{name}",
                blank.label[v.lang] if blank else name,
                value=task.values.get(name, ""),
                help=blank.help.get(v.lang, "") if blank else "",
                optional=blank.optional if blank else True,
            )
        for name in self._secrets:
            blank = template.blank(name) if template else None
            tail = self.row.secrets.get(name) if self.row else None
            help = blank.help.get(v.lang, "") if blank else ""
            label = blank.label[v.lang] if blank else name
            form.secret(f"secret_{name}", label, tail=tail, help=help, optional=True)
        with tag("details", "", "more").attr(open=None if task.steps else True):
            tag("summary", v.t("schedules.steps"))
            form.area("steps", v.t("schedules.steps.label"), value=task.steps, help=v.t("schedules.steps.help"))

    # ---- who is told, and care

    def _told(self, draft: ScheduleDraft) -> None:
        v, form = self.v, self.form
        options = [("", v.t("schedules.told.nobody")), *((name, name) for name, _ in self.bots)]
        if draft.bot and draft.bot not in {name for name, _ in self.bots}:
            options.append((draft.bot, draft.bot))
        form.choice("bot", v.t("schedules.bot"), options, value=draft.bot, help=v.t("schedules.bot.help"))
        form.text(
            "target", v.t("schedules.target"), value=draft.target, optional=True, help=v.t("schedules.target.help")
        )

    def _care(self, draft: ScheduleDraft) -> None:
        v, form = self.v, self.form
        missed = [(key, v.t(f"schedules.missed.{key}")) for key in MISSED]
        form.choice("missed", v.t("schedules.fact.missed"), missed, value=draft.missed)
        for name in ("missed_within", "timeout"):
            value, help = span_of(getattr(draft, name)), v.t(f"schedules.{name}.help")
            form.text(name, v.t(f"schedules.{name}"), value=value, help=help)
        overlap = [(key, v.t(f"schedules.overlap.{key}")) for key in OVERLAP]
        form.choice("overlap", v.t("schedules.fact.overlap"), overlap, value=draft.overlap)
        form.text("retries", v.t("schedules.retries"), value=str(draft.retries), inputmode="numeric")
        form.text("backoff", v.t("schedules.backoff"), value=span_of(draft.backoff), help=v.t("schedules.backoff.help"))
        for name in ("alert_after", "pause_after"):
            value, help = str(getattr(draft, name)), v.t(f"schedules.{name}.help")
            form.text(name, v.t(f"schedules.{name}"), value=value, inputmode="numeric", help=help)
        until = ""
        if draft.expires_at is not None:
            until = (
                f"{datetime.fromtimestamp(draft.expires_at / 1000, UTC).astimezone(zone_of(draft.zone)):%Y-%m-%d %H:%M}"
            )
        form.text(
            "expires_at", v.t("schedules.expires"), value=until, optional=True, placeholder="2026-12-31",
            help=v.t("schedules.expires.help"),
        )  # fmt: skip

    # ---- sent

    async def _send(self, values: Values, do: str) -> None:
        draft = self._draft(values)
        self.results.clear()
        was = self.row.name if self.row else ""
        if do == "dry":
            tried = await self.schedules.dry_run(self.v.who, draft, name=was)
            with self.results:
                show_dry(self.v, tried)
            _ = self.results.run_method("scrollIntoView", {"block": "nearest"})
            return
        await self.schedules.save(self.v.who, draft, create=self.row is None, was=was)
        self.form.sent()
        ui.navigate.to(to(draft.name))

    def _draft(self, values: Values) -> ScheduleDraft:
        zone = values["zone"] or ZONE
        spans = {name: seconds_of(values[name] or "0", name) for name in _SPANS}
        counts = {name: _count(values[name], name) for name in _COUNTS}
        secrets = {name.removeprefix("secret_"): value for name, value in values.items() if name.startswith("secret_")}
        return ScheduleDraft(
            name=values["name"],
            kind=self.kind,
            expression=self.when.chosen(values),
            zone=zone,
            task=self._task(values),
            secrets={name: value for name, value in secrets.items() if value},
            bot=values["bot"],
            target=values["target"],
            missed=values["missed"],
            missed_within=spans["missed_within"],
            overlap=values["overlap"],
            retries=counts["retries"],
            backoff=spans["backoff"],
            timeout=spans["timeout"],
            alert_after=counts["alert_after"],
            pause_after=counts["pause_after"],
            expires_at=moment_of(values["expires_at"], zone, "expires_at"),
        )

    def _task(self, values: Values) -> Task:
        match self.kind:
            case "command":
                return Task(command=values["command"])
            case "http":
                return Task(
                    method=values["method"], url=values["url"], headers=_headers(values["headers"]), body=values["body"]
                )
            case "workflow":
                return Task(
                    scenario=self._scenario,
                    steps=values["steps"],
                    values={name: values[f"value_{name}"] for name in self._values},
                )
            case _:
                return Task(text=values["text"])


def _template(name: str) -> Scenario | None:
    return next((item for item in scenarios() if item.id == name), None)


def _headers(text: str) -> Mapping[str, str]:
    out: dict[str, str] = {}
    for line in text.splitlines():
        if line.strip():
            name, colon, value = line.partition(":")
            if not colon:
                raise Invalid("schedule.header", field="headers", name=line.strip()[:60])
            out[name.strip()] = value.strip()
    return out


def _count(text: str, field: str) -> int:
    if not text.isdigit() or len(text) > 6:
        raise Invalid("schedule.span", field=field, name=field, value=text[:40])
    return int(text)
