"""Parser of Server-Sent Events: examples of the standard, and arbitrary splits of the input."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beray.streaming.sse import BlockTooLarge, Parser, ServerSentEvent


def parsed(*chunks: bytes) -> list[ServerSentEvent]:
    parser = Parser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_the_examples_of_the_standard() -> None:
    stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n"
    assert parsed(stream + b"data:  third event\n\n") == [
        ServerSentEvent("first event", id="1"),
        ServerSentEvent("second event", id=""),
        ServerSentEvent(" third event", id=""),
    ]
    assert parsed(b"data\n\ndata\ndata\n\ndata:") == [ServerSentEvent(""), ServerSentEvent("\n")]
    assert parsed(b"data:test\n\ndata: test\n\n") == [ServerSentEvent("test")] * 2


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\r\n"])
def test_every_newline_split_anywhere(newline: bytes) -> None:
    text = "\ufeffid: 7\nevent: x\ndata: ä€😀\ndata: b\n\n: comment\n\nretry: 1500\ndata: c\n\n"
    stream = text.encode().replace(b"\n", newline)
    expected = [ServerSentEvent("ä€😀\nb", "x", "7"), ServerSentEvent("c", id="7")]
    for cut in range(len(stream) + 1):
        assert parsed(stream[:cut], stream[cut:]) == expected
    assert parsed(*(stream[i : i + 1] for i in range(len(stream)))) == expected


def test_an_event_is_yielded_with_its_last_byte() -> None:
    parser = Parser()
    assert list(parser.feed(b"data: a\r\n\r")) == [ServerSentEvent("a")]
    assert list(parser.feed(b"\ndata: b\n")) == []
    assert list(parser.feed(b"\n")) == [ServerSentEvent("b")]


def test_only_one_byte_order_mark_is_stripped() -> None:
    assert parsed(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n") == [ServerSentEvent("b")]


def test_an_incomplete_block_is_discarded() -> None:
    parser = Parser()
    assert list(parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")) == [
        ServerSentEvent("a", id="1")
    ]
    assert parser.last_event_id == "1"


def test_odd_fields() -> None:
    parser = Parser()
    stream = b"id: 1\n\nid: a\0b\ndata: x\nretry: 1e3\nunknown: y\n:\n\nretry: 250\n\n"
    assert list(parser.feed(stream)) == [ServerSentEvent("x", id="1")]
    assert parser.retry == 0.25


def test_invalid_utf8_is_replaced() -> None:
    assert parsed(b"data: a\xffb\xc3\n\n") == [ServerSentEvent("a\ufffdb\ufffd")]


def test_a_block_over_the_limit_is_an_error() -> None:
    parser = Parser(max_block_bytes=1000)
    with pytest.raises(BlockTooLarge):
        for _ in range(100):
            list(parser.feed(b"data: " + b"x" * 100 + b"\n"))
    with pytest.raises(BlockTooLarge):
        list(Parser(max_block_bytes=10).feed(b"data: 0123456789\n\n"))


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8))
def test_random_bytes_in_random_pieces(stream: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert parsed(*(stream[a:b] for a, b in pairwise(places))) == parsed(stream)


@given(
    st.lists(
        st.sampled_from([b"data", b"id", b"event", b"retry", b":", b": ", b"\n", b"\r", b"\r\n",
                         b"\n\n", b"1", b"x", b"\0", b"\xef\xbb\xbf", "é".encode(), b"\xff"]),
        max_size=60,
    ),
    st.lists(st.integers(0, 120), max_size=8),
)  # fmt: skip
def test_the_split_makes_no_difference(tokens: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(tokens)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(places)]
    assert parsed(*pieces) == parsed(stream)


LINES = st.sampled_from(
    ["id: 7", "id:", "id", "id: 8\0", "event: x", "event:", "event", "data: a", "data:", "data",
     "data: ä", ": comment", "retry: 5", "other: x", "id:  9"]
)  # fmt: skip


@given(st.lists(st.lists(LINES, max_size=5), max_size=4))
def test_lines_in_any_order(blocks: list[list[str]]) -> None:
    expected: list[ServerSentEvent] = []
    last_id = ""
    for block in blocks:
        data: list[str] = []
        event = ""
        for line in block:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name == "event":
                event = value
            elif name == "id" and "\0" not in value:
                last_id = value
        if data:
            expected.append(ServerSentEvent("\n".join(data), event or "message", last_id))
    stream = "".join("".join(f"{line}\n" for line in block) + "\n" for block in blocks)
    assert parsed(stream.encode()) == expected
