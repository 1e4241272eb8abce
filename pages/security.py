"""`/security`: am I safe, what is next? Five layers, each check with its evidence and its age, worst first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nicegui import ui

from pages.frame import Panel
from pages.parts.badge import badge, moment
from pages.parts.button import button
from pages.parts.dialog import dialog
from pages.parts.form import Form, Values
from pages.parts.markup import Markup, box, span, tag
from pages.visitor import Visitor
from security.checklist import LAYERS, ChecklistActions, CheckRow
from storage.errors import Invalid

_STATE = {"pass": "ok", "warn": "warn", "fail": "bad", "unknown": "unknown"}
Show = Callable[[Sequence[CheckRow]], None]


def mount(panel: Panel, checks: ChecklistActions[Any]) -> None:
    """Register `/security`."""

    @ui.page("/security")
    async def page() -> None:
        v = panel.enter()
        with panel.frame(v, "place.security", place="/security") as frame:
            rows = await checks.list(v.who)
            place = box("stack")

            def show(fresh: Sequence[CheckRow]) -> None:
                place.clear()
                with place:
                    _verdict(v, fresh)
                    with box("layers"):
                        for layer in LAYERS:
                            _layer(panel, v, checks, layer, [row for row in fresh if row.layer == layer], show)

            async def again() -> None:
                show(await checks.run(v.who, deep=True))

            with frame.actions:
                button(v.t("checks.run"), panel.act(v, again), "pri")
            show(rows)
            if not any(row.at for row in rows):
                ui.timer(0.1, panel.act(v, again), once=True)


def _verdict(v: Visitor, rows: Sequence[CheckRow]) -> None:
    counts = {status: sum(row.status == status and not row.hidden for row in rows) for status in _STATE}
    hidden = sum(row.hidden for row in rows)
    worst = "fail" if counts["fail"] else "warn" if counts["warn"] else "unknown" if counts["unknown"] else "pass"
    if not any(row.at for row in rows):
        with box("verdict unknown", role="status"):
            tag("b", v.t("checks.verdict.first"))
        return
    with box(f"verdict {_STATE[worst]}", role="status"):
        tag("b", v.t(f"checks.verdict.{worst}", n=counts["fail"] + counts["warn"], unknown=counts["unknown"]))
        with box("r score"):
            for status in ("pass", "fail", "warn", "unknown"):
                with box():
                    tag("b", str(counts[status]))
                    span(v.t(f"checks.{status}"))
            if hidden:
                with box():
                    tag("b", str(hidden))
                    span(v.t("checks.hidden"))


def _layer(
    panel: Panel, v: Visitor, checks: ChecklistActions[Any], layer: str, rows: Sequence[CheckRow], show: Show
) -> None:
    with box("card"):
        with tag("h2", v.t(f"checks.layer.{layer}")):
            span(v.t("checks.count", n=len(rows)), "r")
        for row in rows:
            _row(panel, v, checks, row, show)


def _row(panel: Panel, v: Visitor, checks: ChecklistActions[Any], row: CheckRow, show: Show) -> None:
    async def look() -> None:
        show(await checks.run(v.who, [row.id]))

    with box("line passed" if row.status == "pass" and not row.hidden else "line", data_check=row.id):
        if row.hidden:
            badge(v, "off", v.t("checks.hidden"))
        else:
            badge(v, _STATE[row.status], v.t(f"checks.{row.status}"))
        with box("grow"):
            box("", v.t(row.title))
            evidence = v.t(row.evidence, **row.params)
            box("small muted wrap", evidence, title=evidence if row.status == "pass" else None)
            if row.remedy and not row.hidden:
                box("small", v.t(row.remedy, **row.params))
            if row.attested_by:
                with box("small muted bar"):
                    span(v.t("checks.attested", who=row.attested_by))
                    moment(v, row.attested_until)
            if row.hidden:
                with box("small muted bar"):
                    span(v.t("checks.set_aside", who=row.hidden_by, reason=row.hidden_reason))
                    moment(v, row.hidden_until)
            if v.who.may("security.manage") and row.at:
                with box("bar acts"):
                    _acts(panel, v, checks, row, show)
        with box("age small faint"):
            if row.at:
                moment(v, row.at)
            again = panel.act(v, look)
            label = f"{v.t('checks.again')}: {v.t(row.title)}"
            button("", again, "small quiet ic ic-refresh", aria_label=label, title=v.t("checks.again"))


def _acts(panel: Panel, v: Visitor, checks: ChecklistActions[Any], row: CheckRow, show: Show) -> None:
    title = v.t(row.title)

    async def fix() -> None:
        await checks.fix(v.who, row.id)
        show(await checks.list(v.who))

    async def attest() -> None:
        _ask_attest(panel, v, checks, row, show)

    async def hide() -> None:
        _ask_hide(panel, v, checks, row, show)

    async def back() -> None:
        await checks.hide(v.who, row.id, "", 0)
        show(await checks.list(v.who))

    if row.fixable:
        _small(v, panel, "checks.fix", title, fix, "pri")
    if row.attest_days and row.status in ("unknown", "warn", "fail"):
        _small(v, panel, "checks.attest", title, attest)
    if row.hidden:
        _small(v, panel, "checks.show", title, back)
    elif row.status in ("warn", "fail", "unknown"):
        _small(v, panel, "checks.hide", title, hide, "quiet")


def _small(
    v: Visitor, panel: Panel, key: str, title: str, handler: Callable[[], Awaitable[None]], css: str = ""
) -> Markup:
    return button(v.t(key), panel.act(v, handler), f"small {css}".strip(), aria_label=f"{v.t(key)}: {title}")


def _ask_attest(panel: Panel, v: Visitor, checks: ChecklistActions[Any], row: CheckRow, show: Show) -> None:
    async def send(values: Values, _do: str) -> None:
        await checks.attest(v.who, row.id, values["note"])
        made.close()
        show(await checks.list(v.who))

    with dialog(v.t(row.title)) as made, Form(panel, v, send, css="fields") as form:
        tag("p", v.t("checks.attest.what", days=row.attest_days), "muted")
        form.text("note", v.t("checks.note"), optional=True, autofocus=True)
        with box("formend"):
            form.submit(v.t("checks.attest"))
            made.cancel(v)


def _ask_hide(panel: Panel, v: Visitor, checks: ChecklistActions[Any], row: CheckRow, show: Show) -> None:
    async def send(values: Values, _do: str) -> None:
        if not values["days"].isdecimal() or not int(values["days"][:9]) >= 1:
            raise Invalid("check.days", "days", most=365)
        await checks.hide(v.who, row.id, values["reason"], int(values["days"][:9]))
        made.close()
        show(await checks.list(v.who))

    with dialog(v.t(row.title)) as made, Form(panel, v, send, css="fields") as form:
        tag("p", v.t("checks.hide.what"), "muted")
        form.text("reason", v.t("checks.reason"), autofocus=True)
        form.text("days", v.t("checks.days"), value="30", inputmode="numeric")
        with box("formend"):
            form.submit(v.t("checks.hide"))
            made.cancel(v)
