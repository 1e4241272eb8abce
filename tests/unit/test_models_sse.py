"""The event-stream parser: whatever way the bytes are cut, the same events."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.models.sse import SseParser
from storage.errors import Unavailable

STREAM = (
    '\ufeff: hello\n\ndata: {"a": "中\u2028文"}\n\nevent: delta\r\ndata: one\r\ndata: two\r\n\r\n'
    "id: 7\rdata:three\r\rretry: 5\n\ndata: 四\n\n"
).encode()
EVENTS = [("", '{"a": "中\u2028文"}'), ("delta", "one\ntwo"), ("", "three"), ("", "四")]


def parsed(chunks: list[bytes]) -> list[tuple[str, str]]:
    parser = SseParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()
    return [(event.name, event.data.decode()) for event in events]


def feed_all(parser: SseParser, chunks: list[bytes]) -> None:
    for chunk in chunks:
        parser.feed(chunk)


def test_whole_stream() -> None:
    assert parsed([STREAM]) == EVENTS


def test_byte_by_byte() -> None:
    assert parsed([STREAM[i : i + 1] for i in range(len(STREAM))]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_cut_anywhere(cuts: list[int]) -> None:
    points = [0, *sorted(cuts), len(STREAM)]
    assert parsed([STREAM[a:b] for a, b in itertools.pairwise(points)]) == EVENTS


def test_last_event_without_empty_line() -> None:
    assert parsed([b"data: [DONE]"]) == [("", "[DONE]")]


@pytest.mark.parametrize("size", [1, 1000])
def test_line_is_bounded(size: int) -> None:
    parser = SseParser(most_line=10_000)
    parser.feed(b"data: ")
    with pytest.raises(Unavailable) as caught:
        feed_all(parser, [b"x" * size] * (20_000 // size))
    assert caught.value.code == "model.broken"


def test_event_is_bounded() -> None:
    parser = SseParser(most_event=10_000)
    with pytest.raises(Unavailable):
        feed_all(parser, [b"data: 123456789\n"] * 2000)


def test_json_error_in_place_of_events_is_kept() -> None:
    parser = SseParser()
    assert parser.feed(b'{"error": {"message": "no"}}\n') == []
    assert parser.finish() == []
    assert parser.events == 0
    assert parser.stray == b'{"error": {"message": "no"}}'


@given(st.binary(max_size=400), st.integers(1, 40))
def test_any_bytes(data: bytes, size: int) -> None:
    parser = SseParser(most_line=300, most_event=300)
    try:
        for i in range(0, len(data), size):
            parser.feed(data[i : i + size])
        parser.finish()
    except Unavailable:
        pass
