"""The model switch of a conversation, and which models are only a demonstration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from agent.models.actions import ModelRef
from pages.visitor import Visitor
from storage.principal import Principal

Choices = Callable[[Principal], Awaitable[Sequence[ModelRef]]]


def is_demo(ref: str, choices: Sequence[ModelRef]) -> bool:
    """True if a recorded model is a demo; by its usual name where it can no longer be chosen."""
    found = next((choice for choice in choices if choice.ref == ref), None)
    return found.demo if found is not None else ref.startswith("demo/")


def model_views(v: Visitor, choices: Sequence[ModelRef], chosen: str = "") -> list[dict[str, Any]]:
    """The default first, then each model; a chosen one that is gone stays visible as such."""
    first = next((choice for choice in choices if choice.default), choices[0] if choices else None)
    name = v.t("chat.model_none") if first is None else v.t("chat.model_default", model=short(first.ref))
    views = [{"ref": "", "label": name, "demo": first is not None and first.demo}]
    views += [{"ref": choice.ref, "label": short(choice.ref), "demo": choice.demo} for choice in choices]
    if chosen and all(choice.ref != chosen for choice in choices):
        views.append({"ref": chosen, "label": v.t("chat.model_gone", model=short(chosen)), "demo": False})
    return views


def short(ref: str) -> str:
    """A model's name without its provider's."""
    return ref.split("/", 1)[-1]
