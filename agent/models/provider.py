"""A model provider as an admin enters it: its fields, their rules, and the row that keeps them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from agent.models.address import checked as checked_address
from storage.errors import Invalid

TYPES = ("openai", "anthropic", "ollama", "demo")
ALIASES = {"api": "openai", "openai-compatible": "openai"}
NAME = re.compile(r"[^\W_](?:[\w.\- ]{0,38}[\w.\-])?")
MODEL = re.compile(r"[^\s\x00-\x1f\"'<>\\]{1,200}")
KEY = re.compile(r"[\x21-\x7e]{1,2000}")
MOST_MODELS, MOST_KEYS = 100, 20
MOST_TOKENS = 1_000_000
AUTO = "auto"
ENTRY = ("name", "type", "endpoint", "api_key", "models", "max_tokens", "temperature", "timeout", "fallback", "price")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """One model of a provider.

    Attributes:
        context: tokens that it can read at once; 0 if unknown.
        price_in, price_out: CNY for a million tokens; 0 if unknown.
    """

    name: str
    context: int = 0
    price_in: float = 0.0
    price_out: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderDraft:
    """What is to be saved or tested, from a form or a file.

    Attributes:
        keys: API keys; None keeps those that are kept already.
        models: empty asks the service itself for its first model at the first call.
        timeout: seconds for one whole answer; 0 for the default.
        patience: seconds to the first word while another model could take over; 0 for the default.
        fallback: may take over when another provider fails.
    """

    name: str
    type: str = "openai"
    preset: str = ""
    endpoint: str = ""
    keys: tuple[str, ...] | None = None
    models: tuple[ModelSpec, ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    timeout: float = 0.0
    patience: float = 0.0
    fallback: bool = True
    enabled: bool = True


def split_keys(text: str) -> tuple[str, ...]:
    """Keys from a form field: one a line, or parted by commas."""
    return tuple(dict.fromkeys(part.strip() for part in re.split(r"[\n,，]+", text) if part.strip()))


def split_models(text: str) -> tuple[ModelSpec, ...]:
    """Models from a form field: one a line, or parted by commas."""
    names = dict.fromkeys(part.strip() for part in re.split(r"[\n,，]+", text) if part.strip())
    return tuple(ModelSpec(name=name) for name in names)


def checked(draft: ProviderDraft) -> ProviderDraft:
    """The draft with all rules kept.

    Raises:
        Invalid: with the field that is wrong.
    """
    name = draft.name.strip()
    if not NAME.fullmatch(name):
        raise Invalid("model.name_form", field="name")
    kind = ALIASES.get(draft.type, draft.type)
    if kind not in TYPES:
        raise Invalid("model.type", field="type", value=draft.type[:40])
    endpoint = draft.endpoint.strip()
    if kind != "demo":
        checked_address(endpoint)
    _check_keys(draft.keys)
    _check_models(draft.models)
    if draft.temperature is not None and not _within(draft.temperature, 0, 2):
        raise Invalid("model.temperature", field="temperature")
    if draft.max_tokens is not None and not (_whole(draft.max_tokens) and 1 <= draft.max_tokens <= MOST_TOKENS):
        raise Invalid("model.max_tokens", field="max_tokens")
    for field, seconds in (("timeout", draft.timeout), ("patience", draft.patience)):
        if seconds and not _within(seconds, 1, 600):
            raise Invalid("model.timeout_form", field=field)
    return replace(draft, name=name, type=kind, endpoint=endpoint)


def _check_keys(keys: tuple[str, ...] | None) -> None:
    if keys is None:
        return
    if len(keys) > MOST_KEYS or any(not KEY.fullmatch(key) for key in keys):
        raise Invalid("model.key_form", field="keys")


def _check_models(models: tuple[ModelSpec, ...]) -> None:
    names = [model.name for model in models]
    if len(names) > MOST_MODELS or len(set(names)) != len(names) or any(not MODEL.fullmatch(name) for name in names):
        raise Invalid("model.models_form", field="models")
    for model in models:
        if not (_whole(model.context) and 0 <= model.context <= 100_000_000):
            raise Invalid("model.models_form", field="models")
        if not (_within(model.price_in, 0, 1e6) and _within(model.price_out, 0, 1e6)):
            raise Invalid("model.price", field="price")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _within(value: object, low: float, high: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and low <= value <= high  # type: ignore[arg-type,operator]


# --- the file's form


def read_entry(raw: Mapping[str, object]) -> ProviderDraft:
    """One item of `providers` in `llm.yaml`.

    Raises:
        Invalid: with the field; unknown entries are refused, so that a slip is seen.
    """
    for key in raw:
        if key not in ENTRY:
            raise Invalid("model.field", field=str(key)[:60], name=str(key)[:60])
    name, kind, endpoint = (_text(raw, key) for key in ("name", "type", "endpoint"))
    if not name:
        raise Invalid("model.name_form", field="name")
    given = raw.get("api_key")
    listed = given if isinstance(given, list) else [_text(raw, "api_key")] if given is not None else []
    keys = tuple(key for item in listed for key in split_keys(str(item)))
    fallback = raw.get("fallback", True)
    if not isinstance(fallback, bool):
        raise Invalid("model.field_kind", field="fallback", name="fallback")
    if kind == "ollama" and not endpoint:
        endpoint = "http://127.0.0.1:11434"
    draft = ProviderDraft(
        name=name,
        type=kind or "openai",
        endpoint=endpoint,
        keys=keys,
        models=_models(raw.get("models"), raw.get("price")),
        temperature=_number(raw, "temperature"),
        max_tokens=_int(raw, "max_tokens"),
        timeout=_number(raw, "timeout") or 0.0,
        fallback=fallback,
    )
    return checked(draft)


def write_entry(draft: ProviderDraft) -> dict[str, object]:
    """The same form back, for export. Keys are left to the environment, never written out."""
    entry: dict[str, object] = {"name": draft.name, "type": draft.type}
    if draft.type != "demo":
        variable = re.sub(r"\W", "_", draft.name.upper(), flags=re.ASCII)
        entry |= {"endpoint": draft.endpoint, "api_key": f"${{{variable}_API_KEY}}"}
    if draft.models:
        entry["models"] = [
            {k: v for k, v in asdict(model).items() if v} if any(list(asdict(model).values())[1:]) else model.name
            for model in draft.models
        ]
    entry |= {k: v for k, v in (("max_tokens", draft.max_tokens), ("temperature", draft.temperature)) if v is not None}
    if draft.timeout:
        entry["timeout"] = draft.timeout
    if not draft.fallback:
        entry["fallback"] = False
    return entry


def _text(raw: Mapping[str, object], key: str) -> str:
    value = raw.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Invalid("model.field_kind", field=key, name=key)
    return value.strip()


def _number(raw: Mapping[str, object], key: str) -> float | None:
    value = raw.get(key)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Invalid("model.field_kind", field=key, name=key)
    return float(value)


def _int(raw: Mapping[str, object], key: str) -> int | None:
    value = raw.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise Invalid("model.field_kind", field=key, name=key)
    return value


def _models(raw: object, price: object) -> tuple[ModelSpec, ...]:
    """`models: [a, {name: b, context: …, price_in: …, price_out: …}]`; `price: {in: 2, out: 8}` is for all of them."""
    items = [] if raw is None else raw if isinstance(raw, list) else [raw]
    base = ModelSpec(name=AUTO)
    if price is not None:
        if not isinstance(price, Mapping) or not set(price) <= {"in", "out"}:
            raise Invalid("model.field_kind", field="price", name="price")
        base = replace(base, price_in=_number(price, "in") or 0.0, price_out=_number(price, "out") or 0.0)
    out: list[ModelSpec] = []
    for item in items:
        if isinstance(item, str):
            out.append(replace(base, name=item.strip()))
            continue
        if not isinstance(item, Mapping) or not set(item) <= {"name", "context", "price_in", "price_out"}:
            raise Invalid("model.field_kind", field="models", name="models")
        out.append(
            ModelSpec(
                name=_text(item, "name"),
                context=_int(item, "context") or 0,
                price_in=_number(item, "price_in") or base.price_in,
                price_out=_number(item, "price_out") or base.price_out,
            )
        )
    return tuple(out) or ((base,) if price is not None else ())


# --- the row's form


def packed(draft: ProviderDraft) -> dict[str, Any]:
    """Columns of the row, without name and key."""
    settings = {
        "temperature": draft.temperature,
        "max_tokens": draft.max_tokens,
        "timeout": draft.timeout,
        "patience": draft.patience,
        "fallback": draft.fallback,
    }
    return {
        "type": draft.type,
        "preset": draft.preset[:40],
        "endpoint": draft.endpoint,
        "models": json.dumps([asdict(model) for model in draft.models], ensure_ascii=False),
        "settings": json.dumps(settings),
    }


def unpacked(row: Any) -> ProviderDraft:
    """The draft that a row was made from; without keys."""
    settings = json.loads(row.settings or "{}")
    return ProviderDraft(
        name=row.name,
        type=row.type,
        preset=row.preset,
        endpoint=row.endpoint,
        models=tuple(ModelSpec(**item) for item in json.loads(row.models or "[]")),
        temperature=settings.get("temperature"),
        max_tokens=settings.get("max_tokens"),
        timeout=settings.get("timeout") or 0.0,
        patience=settings.get("patience") or 0.0,
        fallback=settings.get("fallback", True),
        enabled=row.disabled_at is None,
    )
