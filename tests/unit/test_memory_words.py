"""Words of both languages, and dates."""

from __future__ import annotations

from datetime import date

import pytest

from agent.memory.dates import Named, Span, named_dates, named_terms, spans
from agent.memory.tokens import QUESTION, TIME_WORD, asks_when, pack, traits, unpack, words

NOW = date(2026, 11, 24)  # a Tuesday


def test_chinese_gives_characters_and_bigrams() -> None:
    assert words("我的生日") == ["生", "日", "的生", "生日"]


def test_latin_and_digits_are_split_off_chinese() -> None:
    assert {"2008", "北京", "@y2008"} <= set(words("2008年在北京"))


def test_english_is_stemmed_and_freed_of_stop_words() -> None:
    assert words("What were the cats running after?") == ["cat", "run"]


def test_full_width_is_the_same_word() -> None:
    assert words("ＡＢＣ") == words("abc")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("on May 8th, 2023", [Named(2023, 5, 8)]),
        ("8 May 2023", [Named(2023, 5, 8)]),
        ("5月8号", [Named(0, 5, 8)]),
        ("二〇二三年五月八日", [Named(2023, 5, 8)]),
        ("十二月二十五日", [Named(0, 12, 25)]),
        ("2023-05-08", [Named(2023, 5, 8)]),
        ("in 2022", [Named(2022)]),
        ("2008年在北京", [Named(2008)]),
        ("last May", [Named(0, 5)]),
        ("I may go", []),
        ("13月40日", []),
    ],
)
def test_dates_in_a_text(text: str, named: list[Named]) -> None:
    assert named_dates(text) == named


def test_a_date_is_the_same_word_in_both_languages() -> None:
    assert named_terms("May 8th") == named_terms("5月8日") == ["@m5", "@d8"]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("昨天说了什么", Span(date(2026, 11, 23), date(2026, 11, 23), "day")),
        ("what did I say yesterday", Span(date(2026, 11, 23), date(2026, 11, 23), "day")),
        ("上个月", Span(date(2026, 10, 1), date(2026, 10, 31), "month")),
        ("last month", Span(date(2026, 10, 1), date(2026, 10, 31), "month")),
        ("上周", Span(date(2026, 11, 16), date(2026, 11, 22), "week")),
        ("上周五", Span(date(2026, 11, 20), date(2026, 11, 20), "day")),
        ("last Friday", Span(date(2026, 11, 20), date(2026, 11, 20), "day")),
        ("去年", Span(date(2025, 1, 1), date(2025, 12, 31), "year")),
        ("去年5月", Span(date(2025, 5, 1), date(2025, 5, 31), "month")),
        ("last May", Span(date(2026, 5, 1), date(2026, 5, 31), "month")),
        ("last December", Span(date(2025, 12, 1), date(2025, 12, 31), "month")),
        ("三天前", Span(date(2026, 11, 21), date(2026, 11, 21), "day")),
        ("two weeks ago", Span(date(2026, 11, 9), date(2026, 11, 15), "week")),
        ("12月25日", Span(date(2025, 12, 25), date(2025, 12, 25), "day")),
    ],
)
def test_the_span_that_is_asked_about(text: str, span: Span) -> None:
    assert span in spans(text, NOW)


def test_an_impossible_day_is_no_span() -> None:
    assert spans("2月30日", NOW) == []


def test_packing_keeps_repeats() -> None:
    assert len(unpack(pack(["a", "b", "a"]))) == 3


def test_traits() -> None:
    assert traits("你喜欢吃辣吗？") & QUESTION
    assert traits("上周五我去了上海") & TIME_WORD
    assert not traits("我喜欢吃辣。") & QUESTION
    assert asks_when("我的生日是哪天?")
    assert asks_when("When did we meet?")
    assert not asks_when("我住在哪里")
