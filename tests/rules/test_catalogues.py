"""Catalogues: complete in both languages, alike, used, and compiled as committed."""

from __future__ import annotations

from pathlib import Path

from assets.build import LOCALE, compiled
from storage.words import LANGS
from tests.rules.reading import ROOT, Module, sources
from tests.rules.words import Wanted, placeholders, read, wanted

CATALOGUES = {lang: read(LOCALE / lang) for lang in LANGS}


def missing(want: Wanted, texts: dict[str, str]) -> list[str]:
    """Uses without a text; for an error its remedy too."""
    found = [f"{use.where} {use.key}" for use in want.uses if not texts.get(use.key)]
    for use in want.errors:
        found += [f"{use.where} {key}" for key in (use.key, f"{use.key}.remedy") if not texts.get(key)]
    return sorted(set(found))


def unfilled(want: Wanted, texts: dict[str, str]) -> list[str]:
    """Texts with a placeholder that the place of use does not fill."""
    found = []
    pairs = [(use, use.key) for use in [*want.uses, *want.errors]]
    pairs += [(use, f"{use.key}.remedy") for use in want.errors]
    for use, key in pairs:
        lacking = placeholders(texts.get(key, "")) - (use.params or set())
        if lacking and use.params is not None:
            found.append(f"{use.where} {key} lacks {', '.join(sorted(lacking))}")
    return sorted(set(found))


def different(one: dict[str, str], two: dict[str, str]) -> list[str]:
    """Keys that one language lacks, leaves empty, or fills with other placeholders."""
    found = [f"{key} stands in one language only" for key in sorted(one.keys() ^ two.keys())]
    for key in sorted(one.keys() & two.keys()):
        if not (one[key] and two[key]):
            found.append(f"{key} is empty")
        elif placeholders(one[key]) != placeholders(two[key]):
            found.append(f"{key} has other placeholders")
    return found


def unused(want: Wanted, texts: dict[str, str]) -> list[str]:
    """Keys that no source can ask for: neither written out, nor of a family that is put together."""
    # `error.{code}` alone would cover every error: their codes must stand somewhere instead
    families = [p for p in want.patterns if not p.pattern.startswith(r"error\.[")]
    whole = {key for key in texts if key in want.constants or any(p.fullmatch(key) for p in families)}
    found = []
    for key in texts:
        code = key.removeprefix("error.").removesuffix(".remedy")
        of_error = key.startswith("error.") and (code in want.constants or any(p.fullmatch(code) for p in families))
        ended = any(key.endswith(end) and key.removesuffix(end) in whole for end in want.endings)
        if not (key in whole or of_error or ended):
            found.append(key)
    return found


def test_every_use_has_a_text_in_both_languages() -> None:
    want = wanted(sources(ROOT))
    assert {lang: missing(want, texts) for lang, texts in CATALOGUES.items()} == {lang: [] for lang in LANGS}


def test_every_placeholder_is_filled_where_the_text_is_used() -> None:
    want = wanted(sources(ROOT))
    assert {lang: unfilled(want, texts) for lang, texts in CATALOGUES.items()} == {lang: [] for lang in LANGS}


def test_both_languages_have_the_same_keys_and_placeholders() -> None:
    assert different(CATALOGUES["zh_CN"], CATALOGUES["en"]) == []


def test_no_text_is_left_over() -> None:
    assert unused(wanted(sources(ROOT)), CATALOGUES["en"]) == []


def test_compiled_catalogues_are_those_of_the_sources() -> None:
    for lang in LANGS:
        path = LOCALE / lang / "LC_MESSAGES" / "zhixing.mo"
        assert path.read_bytes() == compiled(lang), f"run: python -m assets.build ({path.name} of {lang} is stale)"


def test_breaches_are_found(tmp_path: Path) -> None:
    source = '''
class Odd(Conflict): pass
class Conflict(AppError): pass
def f(v, words, lang, state):
    """Not a key: doc.string"""
    v.t("chat.send")
    v.t("chat.gone")
    words.say(lang, "chat.count", n=1)
    head = "chat.count"
    v.t(f"{head}.hint")
    v.t(f"state.{state}")
    raise Odd("bot.odd", name=1)
'''
    (tmp_path / "a.po").write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
        + "".join(
            f'msgid "{key}"\nmsgstr "{text}"\n\n'
            for key, text in {
                "chat.send": "Send {what}",
                "chat.count": "{n} messages",
                "state.open": "open",
                "error.bot.odd": "{name} is odd",
                "doc.string": "never used",
                "chat.empty": "",
                "chat.count.hint": "of all time",
            }.items()
        )
    )
    want, texts = wanted([Module("pages.a", "pages/a.py", source)]), read(tmp_path)
    assert missing(want, texts) == ["pages/a.py:12 error.bot.odd.remedy", "pages/a.py:7 chat.gone"]
    assert unfilled(want, texts) == ["pages/a.py:6 chat.send lacks what"]
    assert unused(want, texts) == ["doc.string", "chat.empty"]
    other = {
        "chat.send": "发送",
        "chat.count": "{n} 条",
        "chat.empty": "空",
        "state.open": "打开",
        "error.bot.odd": "{name}",
        "chat.count.hint": "全部",
    }
    assert different(texts, other) == [
        "doc.string stands in one language only",
        "chat.empty is empty",
        "chat.send has other placeholders",
    ]
