"""Two cards of the health page: what Prometheus reads, and the support bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nicegui import ui

from pages.frame import Panel
from pages.parts.badge import badge
from pages.parts.button import button
from pages.parts.copying import copy_line
from pages.parts.dialog import confirm, dialog
from pages.parts.markup import box, span, tag
from pages.visitor import Visitor
from security.bundle import BundleActions
from security.health.site import Ports
from security.scrape import ScrapeToken


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """What the cards use."""

    token: ScrapeToken
    bundles: BundleActions
    ports: Callable[[], Ports]

    def build(self, panel: Panel, v: Visitor) -> None:
        """Both cards, for whoever may manage the server."""
        if not v.who.may("server.manage"):
            return
        self._metrics(panel, v)
        self._bundle(panel, v)

    def _metrics(self, panel: Panel, v: Visitor) -> None:
        ports = self.ports()
        with box("card"):
            with tag("h2", v.t("watch.title")):
                if ports.listening:
                    badge(v, "ok", v.t("watch.on"))
                else:
                    badge(v, "warn" if ports.metrics else "off", v.t("watch.closed" if ports.metrics else "watch.off"))
            if ports.listening:
                tag("p", v.t("watch.local"), "small muted")
                copy_line(v, f"http://127.0.0.1:{ports.metrics}/metrics")
            elif ports.refusal is not None:
                what, remedy = v.explain(ports.refusal)
                tag("p", f"{what} {remedy}", "small")
            else:
                tag("p", v.t("watch.off.hint"), "small muted")
            place = box()

            def show() -> None:
                place.clear()
                with place:
                    self._remote(panel, v, show)

            show()

    def _remote(self, panel: Panel, v: Visitor, show: Callable[[], None]) -> None:
        async def make() -> None:
            token = await self.token.make(v.who)
            with dialog(v.t("watch.token"), broad=True) as made:
                tag("p", v.t("watch.token.once"), "muted")
                copy_line(v, token)
                tag("p", v.t("watch.token.how"), "small muted")
                tag("pre", _scrape(v), "pre")
                with box("formend"):
                    made.cancel(v)
            show()  # takes the pressed button away, and with it the place of this handler

        async def drop() -> None:
            await self.token.drop(v.who)
            show()

        async def ask() -> None:
            confirm(
                panel,
                v,
                title=v.t("watch.drop"),
                text=v.t("watch.drop.text"),
                act=v.t("watch.drop"),
                handler=panel.act(v, drop),
            )

        open_ = bool(self.token.digest())
        tag("p", v.t("watch.remote.open" if open_ else "watch.remote.closed"), "small muted")
        with box("bar"):
            button(v.t("watch.again" if open_ else "watch.make"), panel.act(v, make), "small")
            if open_:
                button(v.t("watch.drop"), panel.act(v, ask), "small danger")

    def _bundle(self, panel: Panel, v: Visitor) -> None:
        async def make() -> None:
            name, content = await self.bundles.make(v.who)
            with v.client:
                ui.download.content(content, name, "application/zip")

        with box("card"):
            tag("h2", v.t("bundle.title"))
            tag("p", v.t("bundle.what"), "small muted")
            with box("bar"):
                button(v.t("bundle.make"), panel.act(v, make), "small ic ic-download", data_testid="bundle")
                span(v.t("bundle.console"), "small mono faint")


def _scrape(v: Visitor) -> str:
    host = v.client.request.headers.get("host", "zhixing.example.com")[:200]
    return (
        "scrape_configs:\n  - job_name: ai-agent\n    scheme: https\n    metrics_path: /metrics\n"
        f"    authorization:\n      credentials_file: /etc/prometheus/zhixing.token\n"
        f"    static_configs:\n      - targets: ['{host}']"
    )
