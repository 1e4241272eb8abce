"""Templates: values by dotted path, and nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.webhook.template import MOST_TEXT, check, fill
from storage.errors import Invalid

DOC = {
    "alert": {
        "name": "磁盘满",
        "labels": [{"host": "db-1"}, {"host": "db-2"}],
        "value": 97.5,
        "ok": False,
        "none": None,
    },
    "a-b": "dash",
    "用户": "王",
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{alert.name}} 在 {{ alert.labels.1.host }}", "磁盘满 在 db-2"),
        ("{{alert.value}} {{alert.ok}} [{{alert.none}}]", "97.5 false []"),
        ("{{alert.labels}}", '[{"host": "db-1"}, {"host": "db-2"}]'),
        ("{{a-b}} {{用户}}", "dash 王"),
        ("no placeholder {x}", "no placeholder {x}"),
    ],
)
def test_paths(template: str, text: str) -> None:
    check(template)
    assert fill(template, DOC).text == text


def test_the_whole_document() -> None:
    assert json.loads(fill("{{.}}", DOC).text) == DOC


def test_what_is_missing_is_named() -> None:
    filled = fill("{{alert.gone}}{{alert.labels.9.host}}{{alert.name.x}}{{alert.gone}}", DOC)
    assert filled.text == ""
    assert filled.missing == ("alert.gone", "alert.labels.9.host", "alert.name.x")


def test_values_are_not_read_again() -> None:
    assert fill("{{a}}", {"a": "{{b}} {% x %} ${b} {b}", "b": "secret"}).text == "{{b}} {% x %} ${b} {b}"


@pytest.mark.parametrize(
    "template",
    [
        "",
        "   ",
        "{{a.b()}}",
        "{{a|upper}}",
        "{{a + b}}",
        "{{a",
        "a}}",
        "{% if a %}",
        "{{}}",
        "{{a..b}}",
        "{{.a}}",
        "{{a[0]}}",
        "x" * 5000,
    ],
)
def test_what_is_no_path_is_refused(template: str) -> None:
    with pytest.raises(Invalid) as error:
        check(template)
    assert error.value.field == "template"


@pytest.mark.parametrize("path", ["__class__", "alert.__class__", "alert.labels.__len__", "alert.labels.-1", "a.٣"])
def test_attributes_of_python_are_not_reached(path: str) -> None:
    assert fill("{{" + path + "}}", DOC).text == ""


def test_a_text_is_bounded() -> None:
    assert len(fill("{{a}}" * 100, {"a": "x" * 100_000}).text) == MOST_TEXT


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=80),
    st.recursive(
        st.none() | st.text(max_size=5) | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(max_size=5), x)
    ),
)
def test_nothing_breaks_it(template: str, document: object) -> None:
    filled = fill(template, document)
    assert isinstance(filled.text, str)
