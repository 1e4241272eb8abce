"""`/settings`: who may connect, which inner networks may be reached, and the master key."""

from __future__ import annotations

from nicegui import ui

from pages.frame import Panel
from pages.keys import settings_views
from pages.parts.button import button
from pages.parts.dialog import confirm
from pages.parts.form import Form, Values
from pages.parts.markup import box, span, tag
from pages.visitor import Visitor
from security.addresses import LISTS, Addresses, Lists
from security.key_rotation import KeyRotation
from security.outgoing import Outgoing


def mount(panel: Panel, addresses: Addresses, outgoing: Outgoing, rotation: KeyRotation) -> None:
    """Register `/settings`."""

    @ui.page("/settings")
    async def page() -> None:
        v = panel.enter()
        with panel.frame(v, "place.settings", place="/settings", css=("keeping.css",)):
            settings_views(v, "/settings")
            v.who.require("setting.manage")
            with box("form stack"):
                _connect(panel, v, addresses)
                _reach(panel, v, outgoing)
                _key(panel, v, rotation)


def _connect(panel: Panel, v: Visitor, addresses: Addresses) -> None:
    async def send(values: Values, _do: str) -> None:
        sources = {name: _entries(values[name]) for name in LISTS}
        lists = Lists(hosts=_entries(values["hosts"]), proxies=_entries(values["proxies"]), sources=sources)
        await addresses.save(v.who, lists, from_ip=v.who.ip or "")
        form.sent()
        panel.say(v, v.t("settings.saved"))

    lists = addresses.lists
    with box("card"):
        tag("h2", v.t("settings.connect"))
        tag("p", v.t("settings.connect.what"), "muted")
        with Form(panel, v, send, name="connect", css="fields") as form:
            form.area("hosts", v.t("settings.hosts"), value="\n".join(lists.hosts), help=v.t("settings.hosts.help"))
            help_proxies = v.t("settings.proxies.help")
            form.area("proxies", v.t("settings.proxies"), value="\n".join(lists.proxies), help=help_proxies)
            for name in LISTS:
                value = "\n".join(lists.sources.get(name, ()))
                label, help = v.t(f"settings.sources.{name}"), v.t("settings.sources.help")
                form.area(name, label, value=value, help=help, optional=True)
            with box("formend"):
                form.submit(v.t("settings.save"))
                span(v.t("settings.you", ip=v.who.ip or "–"), "small muted")


def _reach(panel: Panel, v: Visitor, outgoing: Outgoing) -> None:
    async def send(values: Values, _do: str) -> None:
        await outgoing.save(v.who, _entries(values["ranges"]))
        panel.say(v, v.t("settings.saved"))

    with box("card"):
        tag("h2", v.t("settings.reach"))
        tag("p", v.t("settings.reach.what"), "muted")
        with Form(panel, v, send, css="fields") as form:
            value, help = "\n".join(outgoing.ranges), v.t("settings.ranges.help")
            form.area("ranges", v.t("settings.ranges"), value=value, help=help, optional=True)
            with box("formend"):
                form.submit(v.t("settings.save"))


def _key(panel: Panel, v: Visitor, rotation: KeyRotation) -> None:
    async def ask() -> None:
        confirm(
            panel,
            v,
            title=v.t("settings.key.rotate"),
            text=v.t("settings.key.ask"),
            act=v.t("settings.key.rotate"),
            handler=panel.act(v, rotate),
        )

    async def rotate() -> None:
        count = await rotation.rotate(v.who)
        name.set_text(rotation.vault.key_id)
        panel.say(v, v.t("settings.key.rotated", n=count))

    with box("card"):
        tag("h2", v.t("settings.key"))
        tag("p", v.t("settings.key.what"), "muted")
        with tag("dl", "", "facts"):
            tag("dt", v.t("settings.key.file"))
            tag("dd", str(rotation.path), "mono")
            tag("dt", v.t("settings.key.name"))
            name = tag("dd", rotation.vault.key_id, "mono")
        if v.who.may("server.manage"):
            with box("formend"):
                button(v.t("settings.key.rotate"), panel.act(v, ask))


def _entries(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for item in text.replace(",", " ").split() if item))
