"""A hook's form: how it proves itself, what a call becomes, and a sample to try it on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from channels.webhook.actions import TURNS, HookActions, HookDraft, HookRow, TryOut
from channels.webhook.proof import SCHEMES
from pages.frame import Panel
from pages.parts.form import Form, Values
from pages.parts.markup import box, tag
from pages.visitor import Visitor

Saved = Callable[[str, str], Awaitable[None]]
Tried = Callable[[Visitor, TryOut], None]
_SAMPLE = '{\n  "title": "disk almost full",\n  "host": "db-1",\n  "id": "alert-42"\n}'


class HookForm:
    """The form in the current place.

    Args:
        row: the hook as it is, or None for a new one.
        saved: called with its name, and its secret if that was made just now.
        tried: shows what a sample becomes.
    """

    def __init__(
        self, panel: Panel, v: Visitor, hooks: HookActions, row: HookRow | None, *, saved: Saved, tried: Tried
    ) -> None:
        self.v, self.hooks, self.row, self.saved, self.tried = v, hooks, row, saved, tried
        with Form(panel, v, self._send, name=f"hook-{row.name if row else 'new'}", css="botform") as self.form:
            with box("card"):
                self._what()
            with box("card"):
                tag("h2", v.t("hooks.try"))
                self.form.area("sample", v.t("hooks.try.sample"), value=_SAMPLE, spellcheck="false")
                with box("formend"):
                    self.form.submit(v.t("hooks.try.go"), "try", css="")
                self.results = box("results stack", role="status")
            with box("formend"):
                self.form.submit(v.t("frame.save"), "save")

    def _what(self) -> None:
        v, form, row = self.v, self.form, self.row
        name = row.name if row is not None else ""
        fixed = True if row is not None else None
        form.text("name", v.t("hooks.name"), value=name, help=v.t("hooks.name.help"), css="mono", readonly=fixed)
        schemes = [(scheme, v.t(f"hooks.scheme.{scheme}")) for scheme in SCHEMES]
        form.choice("scheme", v.t("hooks.scheme"), schemes, value=row.scheme if row else "hmac")
        tail = row.secret if row is not None else None
        form.secret("secret", v.t("hooks.secret"), tail=tail, help=v.t("hooks.secret.help"), optional=True)
        turns = [(turn, v.t(f"hooks.turns.{turn}.long")) for turn in TURNS]
        form.choice("turns", v.t("hooks.turns"), turns, value=row.turns if row else "task")
        template = row.template if row is not None else v.t("hooks.template.example")
        form.area("template", v.t("hooks.template"), value=template, help=v.t("hooks.template.help"))
        with tag("details", "", "more"):
            tag("summary", v.t("bots.more"))
            bot, target = (row.bot, row.target) if row is not None else ("", "")
            form.text("bot", v.t("hooks.bot"), value=bot, help=v.t("hooks.bot.help"), optional=True)
            form.text("target", v.t("hooks.target"), value=target, help=v.t("hooks.target.help"), optional=True)
            event = row.id_path if row is not None else ""
            form.text("id_path", v.t("hooks.id_path"), value=event, help=v.t("hooks.id_path.help"), optional=True)

    def _draft(self, values: Values) -> HookDraft:
        fields = ("name", "scheme", "turns", "template", "id_path", "bot", "target", "secret")
        return HookDraft(**{field: values[field] for field in fields})

    async def _send(self, values: Values, do: str) -> None:
        draft = self._draft(values)
        self.results.clear()
        if do == "try":
            result = await self.hooks.try_out(self.v.who, draft, values["sample"])
            with self.results:
                self.tried(self.v, result)
            return
        made = await self.hooks.save(self.v.who, draft)
        self.form.sent()
        await self.saved(made.row.name, made.secret)
