"""What a browser may say on the chat page: typed, bounded, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.chat_wire import Told
from storage.errors import Invalid

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["do", "id", "text"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON)
def test_any_event_is_typed_or_refused(args: object) -> None:
    try:
        told = Told(args)
        assert isinstance(told.text("text", 20, ""), str)
        number = told.maybe("id")
    except Invalid:
        return
    assert number is None or (type(number) is int and number >= 0)


@pytest.mark.parametrize("value", [True, -1, 2**63, 1.5, "1", [], {}])
def test_ids_are_small_positive_integers(value: object) -> None:
    with pytest.raises(Invalid):
        Told({"id": value}).number("id")


def test_a_missing_id_is_told_from_a_wrong_one() -> None:
    assert Told({"id": None}).maybe("id") is None
    with pytest.raises(Invalid):
        Told({}).number("id")


def test_texts_are_refused_not_cut() -> None:
    assert Told({"text": "12345"}).text("text", 5) == "12345"
    with pytest.raises(Invalid):
        Told({"text": "123456"}).text("text", 5)
    with pytest.raises(Invalid):
        Told({"parts": ["a", 1]}).texts("parts", 5, 5)
