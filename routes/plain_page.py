"""Plain HTML pages without script: one template, described by values. For people who have no session yet."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

from routes.headers import COMMON, FORM, transport_headers
from security.addresses import Addresses, Peer, host_of, is_loopback
from security.gate import SCOPE_PEER, header
from storage.errors import AppError, Conflict, Invalid, Throttled
from storage.words import Words, negotiate

HTML_LANG = {"zh_CN": "zh-CN", "en": "en"}
LANG_NAMES = {"zh_CN": "中文", "en": "English"}
LANG_QUERY = {"zh": "zh_CN", "zh_CN": "zh_CN", "zh-CN": "zh_CN", "en": "en"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One input. `error` and `remedy` stand beside it."""

    name: str
    label: str
    kind: str = "text"
    value: str = ""
    help: str = ""
    autocomplete: str = ""
    inputmode: str = ""
    most: int = 256
    error: str = ""
    remedy: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One entry of the wizard's rail: `done`, `on` or empty."""

    label: str
    state: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What a page says and asks. `action` empty: nothing is asked, `link` goes on."""

    title: str
    submit: str = ""
    action: str = ""
    link: str = ""
    intro: str = ""
    fields: tuple[Field, ...] = ()
    skip: str = ""
    foot: str = ""
    notice: str = ""
    notice_more: str = ""
    notice_kind: str = "info"
    steps: tuple[Step, ...] = ()
    lead: str = ""
    svg: Any = ""
    svg_label: str = ""
    secret: str = ""
    secret_label: str = ""
    codes: Sequence[str] = ()
    focus: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """One request's language and address; says texts and writes addresses that keep the chosen language."""

    words: Words
    scope: Scope
    lang: str
    chosen: bool
    query: Mapping[str, str] = field(default_factory=dict)

    def say(self, key: str, **params: object) -> str:
        """The text of a catalogue key."""
        return self.words.say(self.lang, key, **params)

    def url(self, path: str, **query: str) -> str:
        """An address of ours, with the language if it was chosen."""
        parts = {k: v for k, v in query.items() if v}
        if self.chosen:
            parts["lang"] = self.lang
        return path + ("?" + urlencode(parts) if parts else "")

    def explain(self, error: AppError) -> tuple[str, str]:
        """What happened and how to mend it."""
        key = f"error.{error.code}"
        if not self.words.has(self.lang, key):
            return self.say(f"error.status.{error.status}", code=error.code), ""
        return self.say(key, **error.params), self.say(f"{key}.remedy", **error.params)


class PlainPages:
    """Renders forms and refusals."""

    def __init__(self, words: Words, addresses: Addresses, folder: Path) -> None:
        self.words, self.addresses, self.folder = words, addresses, folder

    @cached_property
    def _template(self) -> Any:
        from jinja2 import Environment, FileSystemLoader

        return Environment(loader=FileSystemLoader(self.folder), autoescape=True).get_template("form.html")

    @cached_property
    def _css(self) -> Any:
        from markupsafe import Markup

        return Markup((self.folder / "form.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file

    def view(self, scope: Scope, query: Mapping[str, str]) -> View:
        """The language is that of `?lang=`, else the browser's."""
        chosen = LANG_QUERY.get(query.get("lang", ""))
        lang = chosen or negotiate(header(scope, b"accept-language"))
        return View(words=self.words, scope=scope, lang=lang, chosen=chosen is not None, query=query)

    def render(self, view: View, form: Form, status: int = 200) -> HTMLResponse:
        """The page, with headers that forbid everything but its own form."""
        nonce = secrets.token_urlsafe(16)
        keep = {k: v for k, v in view.query.items() if k in ("next", "step") and v}
        languages = [
            {
                "on": lang == view.lang,
                "name": LANG_NAMES[lang],
                "html": HTML_LANG[lang],
                "url": "?" + urlencode({**keep, "lang": lang}),
            }
            for lang in LANG_NAMES
        ]
        bare = self._unencrypted(view.scope)
        first_wrong = next((f.name for f in form.fields if f.error), "")
        first_empty = next((f.name for f in form.fields if not f.value), "")
        html = self._template.render(
            form=replace(form, focus=first_wrong or first_empty),
            nonce=nonce,
            css=self._css,
            pause="：" if view.lang == "zh_CN" else ". ",
            html_lang=HTML_LANG[view.lang],
            product=view.say("product.name"),
            language_label=view.say("login.language"),
            steps_label=view.say("setup.steps"),
            languages=languages,
            plain_warning=view.say("login.plain") if bare else "",
            plain_warning_more=view.say("login.plain.more") if bare else "",
        )
        headers = {
            **COMMON,
            **transport_headers(view.scope),
            "content-security-policy": FORM.format(nonce=nonce),
            "cache-control": "no-store",
            "vary": "accept-language",
        }
        return HTMLResponse(html, status, headers=headers)

    def _unencrypted(self, scope: Scope) -> bool:
        """True if what is typed here could be read on the way."""
        peer = scope.get(SCOPE_PEER) or self.addresses.peer(scope)
        name, _ = host_of(header(scope, b"host"))
        local = name == "localhost" or name.endswith(".localhost") or is_loopback(name.strip("[]"))
        return isinstance(peer, Peer) and not peer.secure and not local

    async def refuse(self, scope: Scope, receive: Receive, send: Send, status: int, code: str) -> None:
        """A refusal of the gate as a page: what happened, what to do, the way back."""
        view = self.view(scope, {})
        name, _ = host_of(header(scope, b"host"))
        what, remedy = view.explain(_Refusal(status, code, host=name or "?"))
        form = Form(title=what, intro=remedy)
        if code != "gate.host":
            form = replace(form, link="/", submit=view.say("login.back"))
        await self.render(view, form, status)(scope, receive, send)


class _Refusal(AppError):
    """A refusal by its code, to find its words."""

    def __init__(self, status: int, code: str, **params: object) -> None:
        super().__init__(code, **params)
        self.status = status


def with_error(view: View, form: Form, error: AppError, *, fallback: str) -> Form:
    """The form with an error beside its field, or above the fields where it concerns none of them."""
    what, remedy = view.explain(error)
    name = (error.field if isinstance(error, Invalid) else None) or fallback
    if isinstance(error, (Conflict, Throttled)) or name not in {item.name for item in form.fields}:
        return replace(form, notice=what, notice_more=remedy, notice_kind="bad")
    fields = tuple(replace(item, error=what, remedy=remedy) if item.name == name else item for item in form.fields)
    return replace(form, fields=fields)
