"""`/server`: how do I put this on a server properly? Steps with texts to copy, and checks that prove them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from nicegui import ui

from pages.frame import Panel
from pages.parts.badge import badge, moment
from pages.parts.button import button
from pages.parts.copying import copy_button
from pages.parts.form import Form, Values
from pages.parts.markup import Markup, box, span, tag
from pages.parts.state import note
from pages.visitor import Visitor
from security.addresses import Addresses
from security.checklist import ChecklistActions, CheckRow
from security.server_guide import SYSTEMS, WAYS, Made, Step, Wishes, believe, read_wishes, steps
from storage.errors import Invalid

HERE = "/server"
_STATE = {"pass": "ok", "warn": "warn", "fail": "bad", "unknown": "unknown"}
Show = Callable[[], Awaitable[None]]


def mount(panel: Panel, checks: ChecklistActions[Any], addresses: Addresses) -> None:
    """Register `/server`; what was chosen is in its address, so that it can be sent to whoever does the work."""

    @ui.page(HERE)
    async def page(domain: str = "", way: str = "systemd", system: str = "debian", admin_from: str = "") -> None:
        v = panel.enter()
        with panel.frame(v, "place.server", place=HERE, css=("keeping.css",)):
            v.who.require("server.manage")
            known = domain or next(iter(addresses.lists.hosts), "") or next(iter(panel.settings.hosts), "")
            wishes: Wishes | None = None
            try:
                wishes = read_wishes(known, way, system, admin_from, panel.settings.port) if known else None
            except Invalid as error:
                panel.tell(v, error)
            tag("p", v.t("server.lead"), "muted")
            _ask(panel, v, wishes, known)
            if wishes is None:
                return
            with box("stack steps"):
                for step in steps(wishes):
                    await _step(panel, v, checks, addresses, wishes, step)


def _ask(panel: Panel, v: Visitor, wishes: Wishes | None, known: str) -> None:
    async def send(values: Values, _do: str) -> None:
        found = read_wishes(values["domain"], values["way"], values["system"], values["admin_from"], 1)
        query = {"domain": found.domain, "way": found.way, "system": found.system, "admin_from": found.admin_from}
        ui.navigate.to(f"{HERE}?{urlencode(query)}")

    with box("card"):
        tag("h2", v.t("server.ask"))
        with Form(panel, v, send, css="fields") as form:
            form.text("domain", v.t("server.domain"), value=known, placeholder="zhixing.example.com", css="mono")
            ways = [(way, v.t(f"server.way.{way}")) for way in WAYS]
            form.choice("way", v.t("server.way"), ways, value=wishes.way if wishes else "systemd")
            systems = [(name, v.t(f"server.system.{name}")) for name in SYSTEMS]
            form.choice("system", v.t("server.system"), systems, value=wishes.system if wishes else "debian")
            form.text(
                "admin_from",
                v.t("server.admin_from"),
                value=wishes.admin_from if wishes else "",
                help=v.t("server.admin_from.help"),
                optional=True,
                css="mono",
            )
            with box("formend"):
                form.submit(v.t("server.make"))


async def _step(
    panel: Panel, v: Visitor, checks: ChecklistActions[Any], addresses: Addresses, wishes: Wishes, step: Step
) -> None:
    with box("card", data_step=step.name):
        tag("h2", v.t(f"server.step.{step.name}"))
        tag("p", v.t(f"server.step.{step.name}.{wishes.way}.what"), "muted")
        for made in step.made:
            _made(v, made)
        if step.rules:
            _rules(v, step)
        if step.name == "believe":
            _believe(panel, v, addresses, wishes)
        await _checked(panel, v, checks, step)


def _made(v: Visitor, made: Made) -> None:
    if made.place:
        with box("small muted bar"):
            span(v.t("server.file"))
            span(made.place, "mono")
    with box("made"):
        tag("pre", made.text, "pre small", tabindex="0")
        copy_button(v, made.text)


def _rules(v: Visitor, step: Step) -> None:
    tag("p", v.t("server.rules"), "muted")
    with box("scroll-x", tabindex="0", role="region", aria_label=v.t("server.rules")), tag("table", "", "t"):
        with tag("thead"), tag("tr"):
            for name in ("port", "source", "why"):
                tag("th", v.t(f"server.rule.{name}"), scope="col")
        with tag("tbody"):
            for rule in step.rules:
                with tag("tr"):
                    tag("td", f"TCP {rule.port}", "mono")
                    tag("td", rule.source or v.t("server.rule.everybody"), "mono")
                    tag("td", v.t(f"server.rule.why.{rule.why}"))
    tag("p", v.t("server.rules.closed"), "small muted")


def _believe(panel: Panel, v: Visitor, addresses: Addresses, wishes: Wishes) -> None:
    place = box("result")

    def show() -> None:
        place.clear()
        with place:
            known = wishes.domain in (*addresses.lists.hosts, *panel.settings.hosts)
            badge(v, "ok" if known else "warn", v.t("server.believed" if known else "server.unbelieved"))

    async def act() -> None:
        await believe(addresses, v.who, wishes)
        show()

    show()
    button(v.t("server.believe"), panel.act(v, act), "pri")


async def _checked(panel: Panel, v: Visitor, checks: ChecklistActions[Any], step: Step) -> None:
    """The checks that prove the step, as they were seen last; the button looks now."""
    ids = [name for name in step.checks if name in checks.checks]
    place = box()

    def show(rows: Sequence[CheckRow]) -> None:
        place.clear()
        with place:
            for row in sorted(rows, key=lambda row: ids.index(row.id)):
                _line(v, row)

    async def look() -> None:
        show([row for row in await checks.run(v.who, ids) if row.id in ids])

    show([row for row in await checks.list(v.who) if row.id in ids])
    with box("bar"):
        button(v.t("server.check"), panel.act(v, look), "", data_look=step.name)
        tag("a", v.t("place.security"), "small", href="/security")
    if step.name == "host":
        note("unknown", v.t("server.host.note"))


def _line(v: Visitor, row: CheckRow) -> Markup:
    with box("line", data_check=row.id) as made:
        badge(v, _STATE[row.status], v.t(f"checks.{row.status}"))
        with box("grow"):
            box("", v.t(row.title))
            box("small muted wrap", v.t(row.evidence, **row.params))
            if row.remedy:
                box("small", v.t(row.remedy, **row.params))
        if row.at:
            with box("small faint"):
                moment(v, row.at)
    return made
