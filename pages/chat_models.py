"""The model switch of a conversation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from pages.chat_rows import is_demo
from pages.visitor import Visitor
from storage.principal import Principal


class Choice(Protocol):
    """A model that may answer, as the models' own room names it."""

    @property
    def ref(self) -> str: ...


Choices = Callable[[Principal], Awaitable[Sequence[Choice]]]


def model_views(v: Visitor, choices: Sequence[Choice], chosen: str = "") -> list[dict[str, Any]]:
    """The default first, then each model; a chosen one that is gone stays visible as such."""
    refs = [choice.ref for choice in choices]
    first = refs[0] if refs else ""
    name = v.t("chat.model_default", model=_short(first)) if first else v.t("chat.model_none")
    views = [{"ref": "", "label": name, "demo": is_demo(first)}]
    views += [{"ref": ref, "label": _short(ref), "demo": is_demo(ref)} for ref in refs]
    if chosen and chosen not in refs:
        views.append({"ref": chosen, "label": v.t("chat.model_gone", model=_short(chosen)), "demo": False})
    return views


def _short(ref: str) -> str:
    return ref.split("/", 1)[-1]
