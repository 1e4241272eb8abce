"""A bot's form: the vendor's steps with the fields that are found there, a live test, and then saved.

Used by the wizard and by the Bots page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from channels.actions import BotActions, BotDraft, BotRow
from channels.base import FieldSpec, Manifest, ProbeResult
from channels.bot_draft import EVENTS
from pages.frame import Panel
from pages.guide import CALLBACK, GuideStep, guide_of
from pages.parts.badge import badge
from pages.parts.copying import copy_line
from pages.parts.form import Form, Values
from pages.parts.markup import Markup, box, span, tag
from pages.parts.probes import failed_of, probe_list
from pages.parts.state import note
from pages.visitor import Visitor

Saved = Callable[[str], Awaitable[None]]


def channel_name(v: Visitor, type: str) -> str:
    """A channel type's name for people."""
    for key in (f"channel.{type}", f"channel.name.{type}"):
        if v.words.has(v.lang, key):
            return v.t(key)
    return type


def mode_name(v: Visitor, type: str, mode: str) -> str:
    """A mode's name for people; empty where the type has only one."""
    key = f"channel.{type}.mode.{mode}"
    return v.t(key) if v.words.has(v.lang, key) else mode


PUSHED = ("push_to", "push_lang")
"""Settings that stand with the events."""


class BotForm:
    """The form of one bot in the current place.

    Args:
        row: the bot as it is, or None for a new one.
        origin: our own address as the vendor must reach it, for callbacks.
        saved: called with the bot's name after it was saved.
    """

    def __init__(
        self,
        panel: Panel,
        v: Visitor,
        bots: BotActions,
        manifest: Manifest,
        *,
        mode: str,
        row: BotRow | None,
        name: str,
        origin: str,
        saved: Saved,
    ) -> None:
        self.panel, self.v, self.bots, self.manifest = panel, v, bots, manifest
        self.mode, self.row, self.origin, self.saved = mode, row, origin, saved
        self._placed: set[str] = set()
        self._signs: list[tuple[tuple[str, ...], Markup]] = []
        with Form(panel, v, self._send, name=f"bot-{manifest.type}-{mode}", css="botform") as self.form:
            self._identity(name)
            steps = guide_of(manifest.type, mode)
            if steps:
                with tag("ol", "", "sub"):
                    for number, step in enumerate(steps, 1):
                        self._step(number, step, name)
            self._rest()
            self._events()
            self.results = box("results", role="status")
            with box("formend"):
                self.form.submit(v.t("bots.save_and_test"), "test")
                self.force = self.form.submit(v.t("bots.save_anyway"), "force", css="")
                self.force.set_visibility(False)

    # ---- the form ---------------------------------------------------------------------------------------------

    def _specs(self) -> list[FieldSpec]:
        return [f for f in self.manifest.fields if not f.modes or self.mode in f.modes]

    def _identity(self, name: str) -> None:
        with box("card"):
            if self.row is None:
                help = self.v.t("bots.name.help" if self.manifest.receives else "bots.name.help.push")
                self.form.text("name", self.v.t("bots.name"), value=name, help=help)
            else:
                self.form.text("name", self.v.t("bots.name"), value=name, readonly=True)

    def _step(self, number: int, step: GuideStep, name: str) -> None:
        with tag("li", "", "sub-step"):
            with box("n"):
                span(str(number), "no")
                span(self.v.t(f"guide.{step.key}"), "grow")
                self._signs.append((step.proof, box()))
            box("small muted", self.v.t(f"guide.{step.key}.where"))
            for spec in self._specs():
                if spec.name in step.fields:
                    self._field(spec)
            if step.paste == CALLBACK:
                self._callback(name)
            elif step.paste:
                copy_line(self.v, step.paste)

    def _callback(self, name: str) -> None:
        if self.row is not None:
            copy_line(self.v, self.origin + self.row.callback)
        else:
            start = f"{self.origin}/webhooks/{self.manifest.type}/"
            copy_line(self.v, start + name).attr(data_follow="name", data_start=start)
            box("small muted", self.v.t("bots.callback.name"))
        if not self.origin.startswith("https://"):
            note("warn", self.v.t("bots.callback.public"))

    def _rest(self) -> None:
        """Required fields first, then what has a good default, folded away."""
        rest = [spec for spec in self._specs() if spec.name not in self._placed and spec.name not in PUSHED]
        needed = [spec for spec in rest if spec.required]
        if needed:
            with box("card"):
                for spec in needed:
                    self._field(spec)
        other = [spec for spec in rest if not spec.required]
        if other:
            with tag("details", "", "card more"):
                tag("summary", self.v.t("bots.more"))
                for spec in other:
                    self._field(spec)

    def _events(self) -> None:
        start = () if self.manifest.receives else EVENTS[:3]
        chosen = self.row.events if self.row is not None else start
        with box("card"):
            tag("h2", self.v.t("bots.events"))
            for event in EVENTS:
                self.form.check(_event(event), self.v.t(f"bots.event.{event}"), value=event in chosen)
            for spec in self._specs():
                if spec.name in PUSHED:
                    self._field(spec)

    def _field(self, spec: FieldSpec) -> None:
        self._placed.add(spec.name)
        v, key = self.v, f"channel.{self.manifest.type}.{spec.name}"
        label = v.t(key)
        help = v.t(f"{key}.help") if v.words.has(v.lang, f"{key}.help") else ""
        settings = self.row.settings if self.row is not None else {}
        value = settings.get(spec.name, spec.default)
        optional = not spec.required
        if spec.kind == "secret":
            tails = self.row.secrets if self.row is not None else {}
            self.form.secret(spec.name, label, tail=tails.get(spec.name), help=help, optional=optional)
        elif spec.kind == "choice":
            options = [(choice, v.t(f"{key}.{choice}")) for choice in spec.choices]
            self.form.choice(spec.name, label, options, value=value, help=help)
        elif spec.kind == "list":
            self.form.area(spec.name, label, value=value.replace(",", "\n"), help=help, optional=optional)
        else:
            self.form.text(spec.name, label, value=value, help=help, optional=optional, css="mono")

    # ---- acts -------------------------------------------------------------------------------------------------

    def _draft(self, values: Values) -> BotDraft:
        secrets = {f.name for f in self._specs() if f.kind == "secret"}
        given = {f.name: values.get(f.name, "") for f in self._specs()}
        return BotDraft(
            name=values["name"],
            type=self.manifest.type,
            mode=self.mode,
            settings={key: text for key, text in given.items() if key not in secrets},
            secrets={key: text for key, text in given.items() if key in secrets and text},
            events=tuple(e for e in EVENTS if values.get(_event(e)) == "1"),
        )

    async def _send(self, values: Values, do: str) -> None:
        draft = self._draft(values)
        if do != "force":
            found = await self.bots.probe(self.v.who, draft)
            self._show(found)
            if failed_of(found):
                self.force.set_visibility(True)
                return
        row = await self.bots.save(self.v.who, draft, create=self.row is None)
        self.form.sent()
        await self.saved(row.name)

    def _show(self, found: Sequence[ProbeResult]) -> None:
        for names, sign in self._signs:
            states = {result.status for result in found if result.name in names}
            sign.clear()
            with sign:
                if "fail" in states:
                    badge(self.v, "bad", self.v.t("probe.status.fail"))
                elif states == {"pass"}:
                    badge(self.v, "ok", self.v.t("bots.proof"))
        self.results.clear()
        with self.results:
            probe_list(self.v, found)


def _event(name: str) -> str:
    """A form field's name for an event."""
    return f"event-{name}"
