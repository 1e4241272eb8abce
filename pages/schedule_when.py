"""When a schedule runs: in plain words, by fields, as an expression; whichever is changed, the others follow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from nicegui.events import GenericEventArguments

from agent.schedules.actions import ScheduleActions
from agent.schedules.cron import ZONE, parse, zone_of
from agent.schedules.plain import read_plain
from agent.schedules.say import said
from agent.schedules.shape import DAYS_OF_MONTH, EVERY, HOUR_STEPS, STEPS, Shape, expression_of, shape_of
from pages.frame import Panel
from pages.parts.form import Form
from pages.parts.markup import Markup, box, span, tag
from pages.parts.state import note
from pages.schedule_parts import time_list
from pages.visitor import Visitor
from storage.errors import AppError, Invalid

TIMES = 10
MONTHS = ("", "1,4,7,10", "3,6,9,12")
_FIELDS = ("every", "minutes", "hours", "start", "end", "minute", "times", "day", "months", "month", "exact")
_LONGEST = 1_000
# waits until nobody has typed for a moment, then sends what all fields hold
_CHANGED = """(e) => { const form = e.target.form; if (!form || !e.target.name) return;
  clearTimeout(form.zxWhen); form.zxWhen = setTimeout(() => { const values = {};
  for (const [k, v] of new FormData(form)) if (typeof v === 'string')
    values[k] = k in values ? values[k] + ',' + v : v;
  emit([e.target.name, values]); }, 250); }"""
# fills fields, but not the one that is being typed in
_FILL = """((id, values) => { const form = document.getElementById(id); if (!form) return;
  for (const [name, value] of Object.entries(values)) {
    const all = form.querySelectorAll(`[name="${name}"]`);
    for (const e of all) {
      if (e === document.activeElement && e.tagName !== 'SELECT' && e.type !== 'checkbox') continue;
      if (e.type === 'checkbox') { e.checked = value.split(',').includes(e.value); continue; }
      if (e.tagName === 'SELECT' && ![...e.options].some(o => o.value === value)) e.add(new Option(value, value));
      e.value = value; } } })"""


class WhenFields:
    """The card's content, inside a form. Its form fields are `plain`, `expression`, `zone` and the builder's `b_…`."""

    def __init__(self, panel: Panel, v: Visitor, schedules: ScheduleActions, form: Form) -> None:
        self.panel, self.v, self.schedules, self.form = panel, v, schedules, form
        self._plain = self._known = ""

    async def build(self, expression: str, zone: str) -> None:
        """Make the fields."""
        v, form = self.v, self.form
        shape = shape_of(expression)
        with box("when", data_every=shape.every) as self.root:
            form.text(
                "plain",
                v.t("schedules.plain"),
                value=said(v.words, v.lang, expression),
                help=v.t("schedules.plain.help"),
                placeholder=v.t("schedules.plain.example"),
            )
            with box("builder"):
                self._builder(shape)
            with box("row2"):
                form.text("expression", v.t("schedules.expression"), value=expression, css="mono")
                form.text("zone", v.t("schedules.zone"), value=zone, css="mono")
            tag("p", v.t("schedules.expression.help"), "small muted")
            box("label small muted", v.t("schedules.next"))
            self.times = box("times-place", role="status")
        self._plain, self._known = said(v.words, v.lang, expression), expression
        self.root.on("input", self._changed, js_handler=_CHANGED)
        await self._show(expression, zone)

    def chosen(self, values: Mapping[str, str]) -> str:
        """The expression of a form that is sent, even if the words were typed a moment ago. Raises `Invalid`."""
        plain, expression = values.get("plain", ""), values.get("expression", "")
        if expression == self._known and plain and plain != self._plain:
            return self._expression("plain", values, values.get("zone") or ZONE) or expression
        return expression

    # ---- the fields of the builder

    def _builder(self, shape: Shape) -> None:
        v = self.v
        with tag("label", "", "b-field"):
            span(v.t("schedules.b.every"))
            self._select("every", [(key, v.t(f"schedules.every.{key}")) for key in EVERY], shape.every)
        self._picker("minutes", "minutes", [(str(n), v.t("when.minutes", n=n)) for n in STEPS], str(shape.step))
        self._picker("hours", "hours", [(str(n), v.t("when.hours", n=n)) for n in HOUR_STEPS], str(shape.step))
        with box("b-field b-hours", data_for="hours"):
            span(v.t("schedules.b.minute"))
            tag("input", "", "input", type="number", name="b_minute", min="0", max="59").attr(
                defaultValue=str(shape.minute), aria_label=v.t("schedules.b.minute")
            )
        hours = [("", v.t("schedules.b.all_day")), *((str(n), f"{n}:00") for n in range(24))]
        with box("b-field b-window"):
            span(v.t("schedules.b.window"))
            self._select("start", hours, "" if shape.start is None else str(shape.start), v.t("schedules.b.from"))
            span("–")
            self._select("end", hours, "" if shape.end is None else str(shape.end), v.t("schedules.b.to"))
        with box("b-field b-times"):
            span(v.t("schedules.b.times"))
            tag("input", "", "input", type="text", name="b_times", placeholder="09:00, 18:00").attr(
                defaultValue=", ".join(shape.times), aria_label=v.t("schedules.b.times")
            )
        with tag("fieldset", "", "b-field b-weekdays"):
            tag("legend", v.t("schedules.b.weekdays"))
            for day in range(1, 8):
                with tag("label", "", "b-day"):
                    tag("input", type="checkbox", name="b_weekday", value=str(day)).attr(
                        defaultChecked=day in shape.weekdays
                    )
                    span(v.t(f"when.weekday.{day}"))
        with tag("label", "", "b-field b-working"):
            tag("input", type="checkbox", name="b_working", value="1").attr(defaultChecked=shape.working)
            span(v.t("schedules.b.working"))
        days = [(day, self._day(day)) for day in DAYS_OF_MONTH]
        mine = ",".join(shape.days) or "1"
        days += [] if mine in DAYS_OF_MONTH else [(mine, mine)]
        with box("b-field b-monthday"):
            span(v.t("schedules.b.day"))
            self._select("day", days, mine, v.t("schedules.b.day"))
        months = ",".join(str(n) for n in shape.months)
        several = [(key, v.t(f"schedules.b.months.{n}")) for n, key in enumerate(MONTHS)]
        several += [] if months in MONTHS else [(months, months)]
        with box("b-field b-months"):
            span(v.t("schedules.b.months"))
            self._select("months", several, months, v.t("schedules.b.months"))
        self._picker("month", "year", [(str(n), v.t(f"when.month.{n}").strip()) for n in range(1, 13)], months)
        with box("b-field b-once"):
            span(v.t("schedules.b.exact"))
            tag("input", "", "input", type="datetime-local", name="b_exact").attr(
                defaultValue=shape.exact[0].replace(" ", "T") if shape.exact else "",
                aria_label=v.t("schedules.b.exact"),
            )

    def _day(self, day: str) -> str:
        v = self.v
        if day in ("L", "LW"):
            return v.t("when.last_day" if day == "L" else "when.last_workday")
        if day == "W-2":
            return v.t("schedules.b.day_back", n=2)
        return v.t("schedules.b.day_work", n=day[1:]) if day.startswith("W") else v.t("schedules.b.day_n", n=day)

    def _picker(self, name: str, group: str, options: list[tuple[str, str]], value: str) -> None:
        with box(f"b-field b-{group}"):
            span(self.v.t(f"schedules.b.{name}"))
            self._select(name, options, value, self.v.t(f"schedules.b.{name}"))

    def _select(self, name: str, options: list[tuple[str, str]], value: str, label: str = "") -> Markup:
        with tag("select", "", "input", name=f"b_{name}", aria_label=label or None) as made:
            for key, text in options:
                tag("option", text, value=key).attr(selected=True if key == value else None)
        return made

    # ---- keeping them in step

    async def _changed(self, event: GenericEventArguments) -> None:
        await self.panel.act(self.v, self._follow, event.args)()

    async def _follow(self, args: object) -> None:
        name, values = _read(args)
        self.form.clear_errors()
        zone = values.get("zone", "") or ZONE
        place = "plain" if name == "plain" else "expression" if name in ("expression", "zone") else "builder"
        try:
            zone_of(zone)
            expression = self._expression(place, values, zone)
            if expression is None:
                return
            shape = shape_of(expression)
        except Invalid as error:
            self._wrong(error, place)
            return
        self._fill(expression, shape, place)
        self._known = expression if place != "expression" else values.get("expression", "")
        self._plain = values.get("plain", "") if place == "plain" else said(self.v.words, self.v.lang, expression)
        self.root.attr(data_every=shape.every)
        await self._show(expression, zone)

    def _expression(self, place: str, values: Mapping[str, str], zone: str) -> str | None:
        if place == "plain":
            if not values.get("plain", "").strip():
                return None
            now = datetime.fromtimestamp(self.schedules.clock.ms() / 1000, UTC).astimezone(zone_of(zone))
            return read_plain(values["plain"], now)
        if place == "expression":
            return parse(values.get("expression", "")).text
        if values.get("b_every") == "custom":
            self.root.attr(data_every="custom")
            return None
        self.root.attr(data_every=values.get("b_every", "day"))
        return expression_of(_shape(values))

    def _fill(self, expression: str, shape: Shape, place: str) -> None:
        words = said(self.v.words, self.v.lang, expression)
        values: dict[str, str] = {}
        if place != "expression":
            values["expression"] = expression
        if place != "plain":
            values["plain"] = words
        if place != "builder":
            values |= _fields(shape)
        root = self.form.root
        _ = root.client.run_javascript(f"{_FILL}({json.dumps(root.html_id)}, {json.dumps(values)})")

    def _wrong(self, error: Invalid, place: str) -> None:
        field = error.field if error.field in ("plain", "expression", "zone") else place
        what, remedy = self.v.explain(error)
        if field in ("plain", "expression", "zone"):
            self.form.fail(field, self.v.sentence(what, remedy), focus=False)
            return
        self.times.clear()
        with self.times:
            note("warn", self.v.sentence(what, remedy))

    async def _show(self, expression: str, zone: str) -> None:
        """The next times."""
        try:
            found = await self.schedules.views.preview(self.v.who, expression, zone, count=TIMES)
        except AppError as error:
            what, remedy = self.v.explain(error)
            self.times.clear()
            with self.times:
                note("warn", self.v.sentence(what, remedy))
            return
        self.times.clear()
        with self.times:
            if not found:
                note("warn", self.v.t("schedules.next.over"))
            time_list(self.v, found, zone)


def _read(args: object) -> tuple[str, dict[str, str]]:
    """What the browser sent: text only, and only so much."""
    if not (isinstance(args, list) and len(args) == 2 and isinstance(args[0], str) and isinstance(args[1], dict)):
        return "", {}
    return args[0][:40], {str(k)[:40]: v[:_LONGEST] for k, v in args[1].items() if isinstance(v, str)}


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.strip().isdigit() and len(text) < 4 else otherwise


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted({int(item) for item in text.split(",") if item.strip().isdigit() and len(item) < 4}))


def _shape(values: Mapping[str, str]) -> Shape:
    """What the builder's fields hold. What does not make sense is refused by `expression_of`."""
    get = {name: values.get(f"b_{name}", "").strip() for name in _FIELDS}
    every = get["every"]
    window = bool(get["start"] and get["end"])
    step = get["hours"] if every == "hours" else get["minutes"]
    return Shape(
        every=every,
        step=_number(step, 1),
        start=_number(get["start"], 0) if window else None,
        end=_number(get["end"], 23) if window else None,
        minute=_number(get["minute"], 0),
        times=tuple(item.strip() for item in get["times"].replace("，", ",").split(",") if item.strip()),
        weekdays=_numbers(values.get("b_weekday", "")) if every in ("week", "minutes", "hours") else (),
        working=bool(values.get("b_working")) and every in ("minutes", "hours"),
        days=tuple(item for item in get["day"].split(",") if item),
        months=_numbers(get["month"] if every == "year" else get["months"]),
        exact=(get["exact"].replace("T", " ")[:16],) if get["exact"] else (),
    )


def _fields(shape: Shape) -> dict[str, str]:
    """The builder's fields for a shape; those that it does not use stay as they are."""
    made = {"b_every": shape.every}
    if shape.every in ("minutes", "hours"):
        made |= {f"b_{shape.every}": str(shape.step), "b_minute": str(shape.minute)}
        made |= {"b_start": "" if shape.start is None else str(shape.start)}
        made |= {"b_end": "" if shape.end is None else str(shape.end), "b_working": "1" if shape.working else ""}
    elif shape.every == "once":
        made |= {"b_exact": shape.exact[0].replace(" ", "T")}
    elif shape.every != "custom":
        made |= {"b_times": ", ".join(shape.times)}
    if shape.every in ("week", "minutes", "hours"):
        made["b_weekday"] = ",".join(str(day) for day in shape.weekdays)
    if shape.every in ("month", "year"):
        made["b_day"] = ",".join(shape.days)
        made["b_month" if shape.every == "year" else "b_months"] = ",".join(str(n) for n in shape.months)
    return made
