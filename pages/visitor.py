"""Whoever looks at a page: who they are, and the words and theme they want."""

from __future__ import annotations

from dataclasses import dataclass

from nicegui import Client

from storage.errors import AppError
from storage.principal import Principal
from storage.words import Words

THEMES = ("auto", "light", "dark")
HTML_LANG = {"zh_CN": "zh-CN", "en": "en-US"}


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """One browser tab for the life of its page.

    Attributes:
        client: the tab; `with v.client:` gives a place for notices in code that has none.
    """

    who: Principal
    lang: str
    theme: str
    client: Client
    words: Words

    @property
    def dark(self) -> bool | None:
        """True or False where the person chose, None where the system decides."""
        return {"light": False, "dark": True}.get(self.theme)

    def t(self, key: str, /, **params: object) -> str:
        """The text for a catalogue key in the visitor's language."""
        return self.words.say(self.lang, key, **params)

    def sentence(self, what: str, remedy: str) -> str:
        """What happened and what to do as one text, for a place beside a field."""
        return self.t("frame.error", what=what, remedy=remedy) if remedy else what

    def explain(self, error: AppError) -> tuple[str, str]:
        """What happened and what to do, in the visitor's language; the remedy may be empty."""
        return explain(self.words, self.lang, error.code, error.params, error.status)


def explain(words: Words, lang: str, code: str, params: dict[str, object], status: int = 500) -> tuple[str, str]:
    """The texts of an error code, with a text for its status where the code has none."""
    key = f"error.{code}"
    if not words.has(lang, key):
        return words.say(lang, f"error.status.{status}", code=code), ""
    remedy = words.say(lang, f"{key}.remedy", **params) if words.has(lang, f"{key}.remedy") else ""
    return words.say(lang, key, **params), remedy
