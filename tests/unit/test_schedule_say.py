"""Expressions in words and back; what a builder shows and back."""

from __future__ import annotations

import pytest

from agent.schedules.cron import parse
from agent.schedules.plain import read_plain
from agent.schedules.say import said
from agent.schedules.shape import Shape, expression_of, shape_of
from storage.errors import Invalid
from storage.words import LANGS, Words
from tests.rules.reading import ROOT
from tests.unit.test_schedule_plain import NOW, SAID

WORDS = Words(ROOT / "assets" / "locale")
EXPRESSIONS = sorted({*SAID.values(), "0 9 1,2,3 * *", "30 9 W2 * *", "0 8-20/4 * * 1-5", "15 */2 W * *", "0 9 3 3 *"})
WORDLESS = {"0 17 * * 5L", "0 14 * * 3#2"}


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_said_is_read_back_as_the_same(expression: str, lang: str) -> None:
    text = said(WORDS, lang, expression)
    if not text:
        assert expression in WORDLESS or (lang == "en" and expression == "0 18 LW 12 *")
        return
    assert shape_of(read_plain(text, NOW)) == shape_of(expression), text


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_shape_means_its_expression(expression: str) -> None:
    shape = shape_of(expression)
    if shape.every != "custom":
        assert shape_of(expression_of(shape)) == shape


@pytest.mark.parametrize(
    "shape",
    [
        Shape(every="week"),
        Shape(every="month"),
        Shape(every="year", days=("1",)),
        Shape(every="day", times=("9:00", "10:30")),
        Shape(every="day", times=("later",)),
        Shape(every="once", exact=("soon",)),
        Shape(every="custom"),
    ],
)
def test_a_builder_without_enough_is_refused(shape: Shape) -> None:
    with pytest.raises(Invalid):
        expression_of(shape)


def test_words_of_both_languages_read_well() -> None:
    assert said(WORDS, "zh_CN", "0 18 LW * *") == "每月最后一个工作日 18:00"
    assert said(WORDS, "en", "0 18 LW * *") == "on the last workday of every month at 18:00"
    assert said(WORDS, "zh_CN", "*/30 9-17 W * *") == "工作日 9 点到 18 点每 30 分钟"
    assert said(WORDS, "en", "0 9 * * 1-5") == "every Monday to Friday at 09:00"
    assert parse("0 9 * * mon").text == "0 9 * * MON"
