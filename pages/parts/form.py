"""A form whose fields are the browser's own: label above, help below, the error beside the field.

Values are read when the form is sent, so typing needs no round trip and no answer of the server can
overwrite it. What arrives is from outside: only fields that this form has, only text, only so much.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from pages.frame import Panel
from pages.parts.markup import Markup, box, span, tag
from pages.visitor import Visitor
from storage.errors import Invalid

Values = Mapping[str, str]
Submit = Callable[[Values, str], Awaitable[Any]]

_LONGEST = 20_000
_SEND = """(e) => { e.preventDefault();
  const values = {}; for (const [k, v] of new FormData(e.target)) if (typeof v === 'string') values[k] = v;
  emit([values, e.submitter?.value ?? '']); }"""


class Form:
    """A form in the current place. Build its fields inside `with form:`.

    Args:
        send: called with the values and the pressed button's `do`; an `Invalid` it raises is shown at its field.
        name: names the form within its page; typed text, but no secret, is kept there over a reload.
    """

    def __init__(self, panel: Panel, v: Visitor, send: Submit, *, name: str = "", css: str = "form") -> None:
        self.panel, self.v = panel, v
        self._send = send
        self._fields: dict[str, tuple[Markup, Markup]] = {}
        self._buttons: dict[str, Markup] = {}
        self.root = tag("form", "", css, novalidate=True, autocomplete="off", data_keep=name or None)
        self.root.on("submit", self._submitted, js_handler=_SEND)

    def __enter__(self) -> Form:
        self.root.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if "data-keep" in self.root.props:
            with tag("p", "", "kept small muted", hidden=True):
                span(self.v.t("frame.kept"))
                tag("button", self.v.t("frame.kept.drop"), "btn quiet small", type="button", data_forget=True)
        self.root.__exit__(*error)

    # ---- fields -----------------------------------------------------------------------------------------------

    def text(
        self,
        name: str,
        label: str,
        *,
        value: str = "",
        help: str = "",
        optional: bool = False,
        css: str = "",
        **attrs: object,
    ) -> Markup:
        """One line of text. `attrs` are attributes of the input: `type`, `placeholder`, `autocomplete`, `inputmode`."""
        with self._field(name, label, help, optional) as ids:
            made = tag("input", "", f"input {css}".strip(), **{"type": "text", **attrs}, name=name, **ids)
            made.attr(defaultValue=value, spellcheck="false", autocapitalize="none")
        return self._keep(name, made)

    def area(
        self, name: str, label: str, *, value: str = "", help: str = "", optional: bool = False, **attrs: object
    ) -> Markup:
        """Several lines of text."""
        with self._field(name, label, help, optional) as ids:
            made = tag("textarea", "", "input", **attrs, name=name, **ids).attr(defaultValue=value)
        return self._keep(name, made)

    def choice(
        self, name: str, label: str, options: Sequence[tuple[str, str]], *, value: str = "", help: str = ""
    ) -> Markup:
        """One of a few: `(value, text)`."""
        with self._field(name, label, help, False) as ids, tag("select", "", "input", name=name, **ids) as made:
            for key, text in options:
                tag("option", text, value=key).attr(selected=True if key == value else None)
        return self._keep(name, made)

    def check(self, name: str, label: str, *, value: bool = False, help: str = "") -> Markup:
        """Yes or no; sent as `1` or not at all."""
        with box("field"):
            with tag("label", "", "choice"):
                made = tag("input", type="checkbox", name=name, value="1").attr(defaultChecked=value)
                with box():
                    span(label)
                    if help:
                        box("help", help)
            error = box("error", role="alert")
        self._fields[name] = (made, error)
        return made

    def secret(self, name: str, label: str, *, tail: str | None = None, help: str = "", optional: bool = False) -> None:
        """A value that is written and never shown again. Sent empty where the old one is to stay.

        Args:
            tail: its last characters, which may be empty for a short one; None where nothing is set.
        """
        if tail is None:
            self._password(name, label, help, optional)
            return
        place = box("field")

        def shown() -> None:
            place.clear()
            with place, self._field(name, label, help, optional) as ids, box("secretline"):
                text = self.v.t("secret.set", tail=tail) if tail else self.v.t("secret.set.short")
                made = tag("input", "", "input mono", type="text", readonly=True, value=text, **ids)
                tag("button", self.v.t("secret.replace"), "btn", type="button").on("click", replaced)
            self._keep(name, made)

        def replaced() -> None:
            place.clear()
            with place:
                made = self._password(name, label, help, optional)
                tag("button", self.v.t("secret.keep"), "btn quiet small", type="button").on("click", shown)
            _focus(made)

        shown()

    def _password(self, name: str, label: str, help: str, optional: bool) -> Markup:
        shown = help or self.v.t("secret.help")
        return self.text(
            name, label, help=shown, optional=optional, css="mono", type="password", autocomplete="new-password"
        )

    @contextmanager
    def _field(self, name: str, label: str, help: str, optional: bool) -> Iterator[dict[str, object]]:
        with box("field") as whole:
            key = f"f{whole.id}"
            with tag("label", label, for_=key):
                if optional:
                    span(f" {self.v.t('frame.optional')}", "opt")
            yield {"id": key, "aria_describedby": f"{key}h {key}e"}
            box("error", id=f"{key}e", role="alert")
            if help:
                box("help", help, id=f"{key}h")

    def _keep(self, name: str, made: Markup) -> Markup:
        """Remember a field with its error's place; in the place of an earlier field of the name."""
        error = next(c for c in _whole(made).descendants() if isinstance(c, Markup) and "error" in c.classes)
        self._fields[name] = (made, error)
        return made

    # ---- acts -------------------------------------------------------------------------------------------------

    def submit(self, text: str, do: str = "", css: str = "pri") -> Markup:
        """A button that sends the form; `do` tells the handler which one it was."""
        made = tag("button", text, f"btn {css}".strip(), type="submit", value=do)
        self._buttons[do] = made
        return made

    def has(self, name: str) -> bool:
        """True if this form has the field."""
        return name in self._fields

    def refuse(self, error: Invalid) -> bool:
        """Show the error at its field and take the cursor there; False if this form has no such field."""
        if error.field is None or error.field not in self._fields:
            return False
        self.fail(error.field, self.v.sentence(*self.v.explain(error)))
        return True

    def fail(self, name: str, text: str, *, focus: bool = True) -> None:
        """Show a text at a field. `focus` False leaves the cursor where somebody types."""
        made, error = self._fields[name]
        made.attr(aria_invalid="true")
        error.set_text(text)
        if focus:
            _focus(made)

    def clear_errors(self) -> None:
        """Take all errors away, before the next try."""
        for made, error in self._fields.values():
            if not made.is_deleted and error.text:
                made.attr(aria_invalid=None)
                error.set_text("")

    def sent(self) -> None:
        """The values are kept by now: forget what the browser remembers of them."""
        if not self.root.is_deleted:
            _ = self.root.client.run_javascript(f"window.zhixingKept?.('{self.root.html_id}')")

    async def _submitted(self, event: GenericEventArguments) -> None:
        values, do = self._read(event.args)
        if any("aria-busy" in pressed.props for pressed in self._buttons.values()):
            return
        self.clear_errors()
        pressed = self._buttons.get(do)
        if pressed is not None:
            pressed.attr(aria_busy="true", disabled=True)
        try:
            await self.panel.act(self.v, self._send, values, do, refused=self.refuse)()
        finally:
            if pressed is not None and not pressed.is_deleted:
                pressed.attr(aria_busy=None, disabled=None)

    def _read(self, args: object) -> tuple[dict[str, str], str]:
        """What the browser sent, cut down to what this form has."""
        raw, do = (args[0], args[1]) if isinstance(args, list) and len(args) == 2 else ({}, "")
        raw = raw if isinstance(raw, dict) else {}
        values = {name: "" for name in self._fields}
        for name in values:
            text = raw.get(name, "")
            values[name] = text[:_LONGEST].strip() if isinstance(text, str) else ""
        return values, do if isinstance(do, str) else ""


def _focus(made: Markup) -> None:
    """Take the cursor there; the browser's answer is not waited for."""
    _ = made.run_method("focus")


def _whole(made: Markup) -> Element:
    """The `field` around an input."""
    return next(e for e in made.ancestors() if "field" in e.classes)
