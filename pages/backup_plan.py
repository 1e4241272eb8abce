"""The cards of `/backup` that are set once: when and how many, and where else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pages.frame import Panel
from pages.parts.form import Form, Values
from pages.parts.markup import box, tag
from pages.parts.segments import segments
from pages.visitor import Visitor
from security.backup_settings import BackupSettings
from security.backup_target import KINDS, TargetSettings
from security.backups import BackupView
from storage.errors import Invalid

Redraw = Callable[[], Awaitable[None]]
COUNTS = ("daily", "weekly", "monthly")


def plan_card(panel: Panel, v: Visitor, settings: BackupSettings, view: BackupView, show: Redraw) -> None:
    """Time of day, and how many days, weeks and months are kept."""

    async def send(values: Values, _do: str) -> None:
        counts = {name: _count(name, values[name]) for name in COUNTS}
        await settings.set_plan(v.who, at=values["at"], **counts)
        panel.say(v, v.t("backup.saved"))
        await show()

    with box("card"):
        tag("h2", v.t("backup.plan"))
        with Form(panel, v, send, css="fields") as form:
            form.text("at", v.t("backup.plan.at"), value=view.plan.at, type="time", help=v.t("backup.plan.at.help"))
            with box("counts"):
                for name in COUNTS:
                    value = str(getattr(view.plan, name))
                    form.text(name, v.t(f"backup.plan.{name}"), value=value, inputmode="numeric")
            with box("formend"):
                form.submit(v.t("backup.save"))


def _count(name: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 3:
        raise Invalid("backup.keep", name, most=366)
    return int(text)


def place_card(panel: Panel, v: Visitor, settings: BackupSettings, view: BackupView, show: Redraw) -> None:
    """Nowhere, a folder, or a store; each with its own fields, tried out before it is kept."""
    now = view.plan.target

    async def chosen(kind: str) -> None:
        place.clear()
        with place:
            fields(kind)

    def fields(kind: str) -> None:
        async def send(values: Values, _do: str) -> None:
            secret = values.get("secret", "")
            target = TargetSettings(kind=kind, **{k: v for k, v in values.items() if k != "secret"})
            await settings.set_target(v.who, target, secret)
            panel.say(v, v.t("backup.place.saved"))
            await show()

        with Form(panel, v, send, css="fields") as form:
            tag("p", v.t(f"backup.place.{kind}.what"), "small muted")
            if kind == "folder":
                form.text("path", v.t("backup.place.path"), value=now.path, css="mono", placeholder="/mnt/backup")
            if kind == "s3":
                example = "https://s3.example.com"
                form.text("endpoint", v.t("backup.place.endpoint"), value=now.endpoint, css="mono", placeholder=example)
                for name in ("region", "bucket", "prefix", "access_key"):
                    optional = name in ("region", "prefix")
                    value = getattr(now, name)
                    form.text(name, v.t(f"backup.place.{name}"), value=value, optional=optional, css="mono")
                form.secret("secret", v.t("backup.place.secret"), tail=view.secret_tail)
            with box("formend"):
                form.submit(v.t("backup.save") if kind == "none" else v.t("backup.place.try"))

    with box("card"):
        tag("h2", v.t("backup.place"))
        options = [(kind, v.t(f"backup.place.{kind}")) for kind in KINDS]
        segments(panel, v, v.t("backup.place.kind"), options, now.kind, chosen)
        place = box()
        with place:
            fields(now.kind)
