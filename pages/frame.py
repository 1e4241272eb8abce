"""What every page shares: who looks, the rail, title, language, theme, and how an act's refusal is shown."""

from __future__ import annotations

import copy
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from nicegui import Client, app, ui

from pages.parts.markup import Markup, box, tag
from pages.parts.state import failed
from pages.rail import rail, script_words
from pages.visitor import HTML_LANG, THEMES, Visitor
from routes.assets import Assets
from storage.errors import AppError, Denied, Invalid, Unauthenticated
from storage.principal import SYSTEM, Principal
from storage.settings import ROOT, Settings
from storage.words import LANGS, Words

log = logging.getLogger(__name__)
SCOPE_KEY = "zhixing.principal"
THEME_KEY = "zhixing.theme"


class Gate(Protocol):
    """What the panel needs of the security gate."""

    def claim(self, client_id: str, who: Principal) -> None:
        """Bind a page's client to its session."""

    def alive(self, who: Principal) -> bool:
        """True while the session may act."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """The open page: `actions` is the place right of the title, `body` the page's content."""

    actions: Markup
    body: Markup


class Panel:
    """Opens pages. One object for the process, made by app.py."""

    def __init__(self, gate: Gate, words: Words, settings: Settings, assets: Assets | None = None) -> None:
        self.gate = gate
        self.words = words
        self.settings = settings
        self.assets = assets or Assets(ROOT / "assets")
        # asks again who it is, then does the act once more; set by pages.proof
        self.ask_again: Callable[[Visitor, Callable[..., Awaitable[None]]], Awaitable[None]] | None = None
        app.on_page_exception(self._broken)

    def enter(self) -> Visitor:
        """First line of every page builder: who looks, with the page set to their language and theme.

        Raises:
            Unauthenticated: the gate let through a request without a session, which it never does.
        """
        client = ui.context.client
        scope = client.request.scope
        who = scope.get(SCOPE_KEY)
        if not isinstance(who, Principal):
            raise Unauthenticated("session.missing")
        self.gate.claim(client.id, who)
        theme = scope.get(THEME_KEY, getattr(who, "theme", "auto"))
        v = Visitor(
            who=who,
            lang=who.lang if who.lang in LANGS else "en",
            theme=theme if theme in THEMES else "auto",
            client=client,
            words=self.words,
        )
        self._dress(v)
        return v

    def _broken(self, error: Exception) -> None:
        """What is shown where a page could not be built: a reference under which the log has the cause."""
        reference = secrets.token_hex(4)
        log.error("page failed, reference %s", reference, exc_info=error)
        client = ui.context.client
        who = client.request.scope.get(SCOPE_KEY)
        lang = who.lang if isinstance(who, Principal) and who.lang in LANGS else "en"
        v = Visitor(
            who=who if isinstance(who, Principal) else SYSTEM, lang=lang, theme="auto", client=client, words=self.words
        )
        self._dress(v)
        with box("main"):
            with box("head"):
                tag("h1", v.t("error.page"))
            tag("p", v.t("error.page.remedy", reference=reference), "lead")
            tag("a", v.t("place.overview"), "btn", href="/")

    def _dress(self, v: Visitor) -> None:
        """Give this client its own copy of the page: language, theme and head are per person."""
        page = copy.copy(v.client.page)
        page.language, page.dark = HTML_LANG[v.lang], v.dark  # type: ignore[assignment]
        page.title = v.t("product.name")
        v.client.page = page
        scheme = {None: "light dark", False: "light", True: "dark"}[v.dark]
        ui.add_head_html(
            f'<link rel="stylesheet" href="{self.assets.url("icons.css")}">'
            f'<link rel="stylesheet" href="{self.assets.url("panel.css")}">'
            f"<style>:root{{color-scheme:{scheme}}}</style>"
            f'<script defer src="{self.assets.url("panel.js")}"></script>'
        )

    def _styles(self, names: tuple[str, ...]) -> None:
        for name in names:
            ui.add_head_html(f'<link rel="stylesheet" href="{self.assets.url(name)}">')

    def title(self, v: Visitor, text: str) -> None:
        """Set the browser's title; works while the page is built and afterwards."""
        v.client.page.title = f"{text} · {v.t('product.name')}"
        if v.client.has_socket_connection:
            with v.client:
                ui.page_title(v.client.page.title)

    @contextmanager
    def frame(
        self,
        v: Visitor,
        title: str,
        *,
        place: str = "",
        wide: bool = False,
        css: tuple[str, ...] = (),
        **params: object,
    ) -> Iterator[Frame]:
        """Rail, title and the page's body; what is made inside stands in the body. An `AppError` ends the page there:
        what failed, its remedy and code are shown, and the rail goes on.

        Args:
            title: catalogue key, filled with `params`.
            place: path of the rail's entry that is lit.
            wide: the body fills the window, and the title is only read aloud.
            css: more style sheets of `assets/css/`.
        """
        text = v.t(title, **params)
        self.title(v, text)
        self._styles(css)
        rail(v, place)
        with box("main wide" if wide else "main") as main:
            if wide:
                tag("h1", text, "sr")
                actions = box("sr")
            else:
                with box("head"):
                    tag("h1", text)
                    box("sp")
                    actions = box("actions")
            with box("body") as body:
                try:
                    yield Frame(actions=actions, body=body)
                except AppError as error:
                    failed(v, error)
        main.attr(tabindex="-1")

    @contextmanager
    def bare(self, v: Visitor, title: str, *, css: tuple[str, ...] = (), **params: object) -> Iterator[Markup]:
        """A page outside the rail, such as the wizard; what is made inside stands in its `main`."""
        self.title(v, v.t(title, **params))
        self._styles(css)
        box("", hidden=True).attr(**script_words(v))
        with box("bare") as main:
            try:
                yield main
            except AppError as error:
                failed(v, error)

    def act(
        self,
        v: Visitor,
        fn: Callable[..., Awaitable[Any]],
        *args: Any,
        refused: Callable[[Invalid], bool] | None = None,
    ) -> Callable[..., Awaitable[None]]:
        """An event handler that runs `fn(*args)`, and shows a refusal as a notice in the visitor's language.

        If `fn` takes one more argument, it is given the event.

        Args:
            refused: shows an error beside its field; returns False to have it shown as a notice.
        """

        async def run(*event: Any) -> None:
            if not self.gate.alive(v.who):
                with v.client:
                    ui.navigate.to("/login")
                return
            try:
                await fn(*args, *event)
            except Invalid as error:
                if refused is None or not refused(error):
                    self.tell(v, error)
            except AppError as error:
                if error.code == "step_up.needed" and self.ask_again is not None:
                    with v.client:
                        await self.ask_again(v, partial(run, *event))
                else:
                    self.tell(v, error)
            except Exception:
                reference = secrets.token_hex(4)
                log.exception("page action failed, reference %s", reference)
                _notice(v.client, v.t("error.page"), v.t("error.page.remedy", reference=reference), "negative")

        if _wants_event(fn, len(args)):

            async def with_event(event: Any) -> None:
                await run(event)

            return with_event

        async def plain() -> None:
            await run()

        return plain

    def tell(self, v: Visitor, error: AppError) -> None:
        """Show an expected error as a notice."""
        what, remedy = v.explain(error)
        _notice(v.client, what, remedy, "negative")

    def say(self, v: Visitor, text: str) -> None:
        """Confirm the visitor's own act."""
        _notice(v.client, text, "", "positive")

    def may(self, v: Visitor, right: str) -> bool:
        """True if the visitor holds the right; else the page says so, instead of its content."""
        if v.who.may(right):
            return True
        failed(v, Denied("right.missing", right=right))
        return False


def _notice(client: Client, text: str, caption: str, kind: Literal["positive", "negative"]) -> None:
    if client.is_deleted:
        return
    with client:
        ui.notify(
            text,
            caption=caption or None,
            position="bottom",
            close_button="✕" if kind == "negative" else False,
            timeout=12000 if kind == "negative" else 4000,
            classes=f"notice notice-{kind}",
        )


def _wants_event(fn: Callable[..., Any], given: int) -> bool:
    needed = [
        p
        for p in inspect.signature(fn).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) > given
