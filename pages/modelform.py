"""A model provider's form: address, key, models, a test that really asks, and then saved.

Used by the wizard and by the Models page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from agent.models.actions import ModelActions
from agent.models.presets import Preset
from agent.models.provider import ModelSpec, ProviderDraft, split_keys, split_models
from agent.models.provider_view import ProviderRow
from agent.models.trial import TestResult
from pages.frame import Panel
from pages.parts.form import Form, Values
from pages.parts.markup import box, span, tag
from pages.parts.state import note
from pages.visitor import Visitor, explain
from storage.errors import Invalid

Saved = Callable[[ProviderRow], Awaitable[None]]

FIELD_OF = {
    "model.key": "keys",
    "model.quota": "keys",
    "model.unknown": "models",
    "model.address": "endpoint",
    "model.not_api": "endpoint",
    "model.dns": "endpoint",
    "model.connect": "endpoint",
    "model.tls": "endpoint",
}
LISTED = 40


def test_note(v: Visitor, result: TestResult) -> None:
    """What a test found, in the current place."""
    if result.ok:
        with note("ok", v.t("model.test.ok", first=result.first_token_ms, total=result.total_ms)):
            pass
        if result.text:
            box("answer-said", v.t("model.test.said", text=result.text))
        return
    what, remedy = explain(v.words, v.lang, result.code, result.params)
    with box("note bad", role="alert"):
        span("", "st bad", aria_hidden="true")
        with box("grow"):
            box("strong", what)
            box("small", remedy)
            box("small mono", result.code)


class ModelForm:
    """The form of one provider in the current place.

    Args:
        row: the provider as it is, or None for a new one made from `preset`.
        name: its name to begin with.
    """

    def __init__(
        self,
        panel: Panel,
        v: Visitor,
        models: ModelActions,
        preset: Preset,
        *,
        row: ProviderRow | None,
        name: str,
        saved: Saved,
    ) -> None:
        self.v, self.models, self.preset, self.row, self.saved = v, models, preset, row, saved
        start = row.draft if row is not None else _draft_of(preset, name)
        with Form(panel, v, self._send, name=f"model-{row.name if row else preset.name}", css="modelform") as self.form:
            with box("card"):
                tag("p", v.t(f"preset.{preset.name}.where"), "small muted")
                if preset.console:
                    tag("a", preset.console, "small", href=preset.console, target="_blank", rel="noopener noreferrer")
                self._fields(start)
            self._more(start)
            self.results = box("results", role="status")
            with box("formend"):
                self.form.submit(v.t("models.save_and_test"), "save")
                if preset.type != "demo":
                    self.form.submit(v.t("models.list"), "list", css="")
                self.force = self.form.submit(v.t("models.save_anyway"), "force", css="")
                self.force.set_visibility(False)

    def _fields(self, start: ProviderDraft) -> None:
        v, form = self.v, self.form
        if self.preset.type == "demo":
            return
        form.text(
            "endpoint",
            v.t("models.endpoint"),
            value=start.endpoint,
            help=v.t("models.endpoint.help"),
            css="mono",
            placeholder="https://api.example.com/v1",
            inputmode="url",
        )
        if self.preset.key != "none":
            tail = self.row.key_tail if self.row is not None else None
            form.secret("keys", v.t("models.key"), tail=tail, optional=self.preset.key == "optional")
        suggestions = f"models-{self.form.root.id}"
        form.text(
            "models",
            v.t("models.models"),
            value=", ".join(spec.name for spec in start.models),
            help=v.t("models.models.help"),
            css="mono",
            list=suggestions,
        )
        with tag("datalist", id=suggestions):
            for spec in self.preset.models:
                tag("option", value=spec.name)

    def _more(self, start: ProviderDraft) -> None:
        v, form = self.v, self.form
        with tag("details", "", "card more"):
            tag("summary", v.t("models.more"))
            fixed = self.row is not None
            help = "" if fixed else v.t("models.name.help")
            form.text("name", v.t("models.name"), value=start.name, help=help, readonly=fixed or None)
            if self.preset.type == "demo":
                return
            form.text(
                "temperature",
                v.t("models.temperature"),
                value="" if start.temperature is None else f"{start.temperature:g}",
                help=v.t("models.temperature.help"),
                optional=True,
                inputmode="decimal",
            )
            form.text(
                "max_tokens",
                v.t("models.max_tokens"),
                value=str(start.max_tokens or ""),
                help=v.t("models.max_tokens.help"),
                optional=True,
                inputmode="numeric",
            )
            form.text(
                "timeout",
                v.t("models.timeout"),
                value=f"{start.timeout:g}" if start.timeout else "",
                help=v.t("models.timeout.help"),
                optional=True,
                inputmode="numeric",
            )
            prices = [f"{m.name} = {m.price_in:g} / {m.price_out:g}" for m in start.models if m.price_in or m.price_out]
            help = v.t("models.price.help")
            form.area("price", v.t("models.price"), value="\n".join(prices), help=help, optional=True)
            form.check("fallback", v.t("models.fallback"), value=start.fallback, help=v.t("models.fallback.help"))

    # ---- acts -------------------------------------------------------------------------------------------------

    def _draft(self, values: Values) -> ProviderDraft:
        base = self.row.draft if self.row is not None else _draft_of(self.preset, values["name"])
        draft = replace(base, name=values["name"] or base.name, keys=split_keys(values.get("keys", "")) or None)
        if self.preset.type == "demo":
            return draft
        known = {spec.name: spec for spec in (*self.preset.models, *base.models)}
        named = _priced(tuple(known.get(m.name, m) for m in split_models(values["models"])), values["price"])
        return replace(
            draft,
            endpoint=values["endpoint"],
            models=named,
            temperature=_number(values["temperature"], "temperature", "model.temperature"),
            max_tokens=_whole(values["max_tokens"]),
            timeout=_number(values["timeout"], "timeout", "model.timeout_form") or 0.0,
            fallback=values["fallback"] == "1",
        )

    async def _send(self, values: Values, do: str) -> None:
        draft = self._draft(values)
        self.results.clear()
        if do == "list":
            self._list(await self.models.models(self.v.who, draft))
            return
        if do != "force":
            result = await self.models.test(self.v.who, draft)
            self._show(result)
            if not result.ok:
                self.force.set_visibility(True)
                return
        row = await self.models.save(self.v.who, draft, create=self.row is None)
        self.form.sent()
        await self.saved(row)

    def _show(self, result: TestResult) -> None:
        with self.results:
            test_note(self.v, result)
        field = FIELD_OF.get(result.code)
        if not result.ok and field is not None and self.form.has(field):
            self.form.fail(field, self.v.sentence(*explain(self.v.words, self.v.lang, result.code, result.params)))
            self.results.clear()

    def _list(self, names: object) -> None:
        found = [str(name) for name in names][:LISTED] if isinstance(names, list | tuple) else []
        with self.results, box("card"):
            if not found:
                tag("p", self.v.t("models.list.none"), "muted")
                return
            tag("p", self.v.t("models.list.pick"), "small muted")
            with box("bar chips"):
                for name in found:
                    tag("button", name, "btn small mono", type="button", data_fill="models", data_value=name)


def _draft_of(preset: Preset, name: str) -> ProviderDraft:
    """A new provider as the preset has it, with its first model."""
    first: tuple[ModelSpec, ...] = preset.models[:1]
    return ProviderDraft(name=name, type=preset.type, preset=preset.name, endpoint=preset.endpoint, models=first)


def _number(text: str, field: str, code: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise Invalid(code, field=field) from error


def _whole(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise Invalid("model.max_tokens", field="max_tokens")
    return int(text)


def _priced(models: tuple[ModelSpec, ...], text: str) -> tuple[ModelSpec, ...]:
    """The models with prices from lines such as `model = 2 / 8`; without a line a model has none."""
    prices: dict[str, tuple[float, float]] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        name, _, amounts = line.rpartition("=")
        left, _, right = amounts.partition("/")
        price_in = _number(left.strip(), "price", "model.price")
        price_out = _number(right.strip(), "price", "model.price")
        if price_in is None or price_out is None or name.strip() not in {model.name for model in models}:
            raise Invalid("model.price", field="price")
        prices[name.strip()] = (price_in, price_out)
    none = (0.0, 0.0)
    return tuple(
        replace(model, price_in=prices.get(model.name, none)[0], price_out=prices.get(model.name, none)[1])
        for model in models
    )
