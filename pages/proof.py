"""The small dialog that asks again who it is, before an act that could hurt. The act goes on by itself afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pages.frame import Panel
from pages.parts.dialog import dialog
from pages.parts.form import Form, Values
from pages.parts.markup import box, tag
from pages.visitor import Visitor
from security.step_up import StepUp


def mount(panel: Panel, step_up: StepUp) -> None:
    """Let every page's acts ask again where their use case wants it."""

    async def ask(v: Visitor, again: Callable[..., Awaitable[None]]) -> None:
        wants_code = await step_up.wants_code(v.who)

        async def send(values: Values, _do: str) -> None:
            await step_up.prove(v.who, values["password"], values.get("code", ""))
            made.close()
            await again()

        with dialog(v.t("proof.title")) as made:
            tag("p", v.t("proof.why"), "muted")
            with Form(panel, v, send, css="fields") as form:
                tag("input", type="text", name="", autocomplete="username", value=v.who.name, hidden=True)
                form.text(
                    "password", v.t("proof.password"), type="password", autocomplete="current-password", autofocus=True
                )
                if wants_code:
                    form.text("code", v.t("proof.code"), autocomplete="one-time-code", inputmode="numeric")
                with box("formend"):
                    form.submit(v.t("proof.go"))
                    made.cancel(v)

    panel.ask_again = ask
