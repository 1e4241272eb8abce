"""Translations from compiled gettext catalogues. Ids in code, words in `assets/locale/<lang>/`."""

from __future__ import annotations

import gettext
from pathlib import Path

LANGS = ("zh_CN", "en")


class Words:
    """All catalogues, read once at start."""

    def __init__(self, folder: Path) -> None:
        self._catalogues: dict[str, gettext.NullTranslations] = {
            lang: gettext.translation("zhixing", folder, [lang], fallback=True) for lang in LANGS
        }

    def say(self, lang: str, key: str, /, **params: object) -> str:
        """The text for `key`; English if the language is unknown; the key itself if there is no text."""
        catalogue = self._catalogues.get(lang) or self._catalogues["en"]
        text = catalogue.gettext(key)
        if not params:
            return text
        try:
            return text.format(**params)
        except (KeyError, IndexError, ValueError):
            return text

    def has(self, lang: str, key: str) -> bool:
        """True if the language has a text for the key."""
        return self._catalogues[lang].gettext(key) != key


def negotiate(accept_language: str) -> str:
    """`zh_CN` or `en` from an Accept-Language header; Chinese where nothing is said."""
    best, lang = -1.0, "zh_CN"
    for item in accept_language.split(",")[:20]:
        name, _, q = item.strip().partition(";q=")
        try:
            weight = float(q) if q else 1.0
        except ValueError:
            continue
        short = name.lower().split("-")[0]
        if short in ("zh", "en") and weight > best:
            best, lang = weight, "zh_CN" if short == "zh" else "en"
    return lang
