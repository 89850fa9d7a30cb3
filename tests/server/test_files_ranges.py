"""Ranges and validators according to RFC 9110."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beray.server.files import http_ranges

TAG = '"1-2-3"'


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-0", 10, range(1)),
        ("bytes=2-5", 10, range(2, 6)),
        ("bytes=2-", 10, range(2, 10)),
        ("bytes=-3", 10, range(7, 10)),
        ("bytes=9-9", 10, range(9, 10)),
        ("bytes=0-99999999999999999999999999", 10, range(10)),
        ("bytes=-99999999999999999999999999", 10, range(10)),
        ("Bytes = 2-5 ", 10, range(2, 6)),
        # Ignored: the whole file.
        (None, 10, None),
        ("", 10, None),
        ("bytes=", 10, None),
        ("bytes=-", 10, None),
        ("bytes=5-2", 10, None),
        ("bytes=20-12", 10, None),
        ("bytes=0-1,4-5", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes=+1-2", 10, None),
        ("bytes=1-2-3", 10, None),
        ("bytes=\u0661-\u0662", 10, None),
        ("lines=0-1", 10, None),
        ("bytes=-" + "9" * 5000, 10, None),
        ("bytes=-5", 0, None),
    ],
)
def test_a_range(header: str | None, size: int, expected: range | None) -> None:
    assert http_ranges.parse_range(header, None, TAG, size) == expected


@pytest.mark.parametrize(
    ("header", "size"),
    [("bytes=10-", 10), ("bytes=10-20", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-0", 0)],
)
def test_a_range_with_nothing_in_it_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(http_ranges.RangeNotSatisfiable):
        http_ranges.parse_range(header, None, TAG, size)


@given(st.text() | st.from_regex(r"bytes=[0-9]*-[0-9]*", fullmatch=True), st.integers(0, 2**40))
def test_any_header_gives_positions_of_the_file_or_none(header: str, size: int) -> None:
    try:
        part = http_ranges.parse_range(header, None, TAG, size)
    except http_ranges.RangeNotSatisfiable:
        return
    assert part is None or (0 <= part.start < part.stop <= size and part.step == 1)


@pytest.mark.parametrize(
    ("if_range", "honoured"),
    [
        (TAG, True),
        (f" {TAG} ", True),
        (f"W/{TAG}", False),
        ('"other"', False),
        ("Tue, 14 Nov 2023 22:13:20 GMT", False),
        ("", False),
    ],
)
def test_a_range_holds_for_the_same_bytes_alone(if_range: str, honoured: bool) -> None:
    part = http_ranges.parse_range("bytes=1-2", if_range, TAG, 10)
    assert part == (range(1, 3) if honoured else None)


@pytest.mark.parametrize(
    ("header", "current"),
    [
        (None, False),
        ("*", True),
        (TAG, True),
        (f"W/{TAG}", True),
        (f'"a", {TAG}', True),
        (f'"a,b",W/{TAG}', True),
        ('"other"', False),
        ("1-2-3", False),
        ("", False),
    ],
)
def test_whether_the_asker_has_it_already(header: str | None, current: bool) -> None:
    assert http_ranges.matches_if_none_match(header, TAG) is current


def test_an_etag_changes_with_the_bytes_whatever_mtime_says(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    before = path.stat()
    assert http_ranges.etag(before) == http_ranges.etag(path.stat())
    path.write_bytes(b"two")
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of a file system is coarse
        path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert http_ranges.etag(path.stat()) != http_ranges.etag(before)


@given(st.binary(max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_reading_gives_exactly_the_positions(data: bytes, start: int, length: int) -> None:
    part = range(start, start + length)
    blocks = http_ranges.read_range(io.BytesIO(data), part)
    if part and part.stop > len(data):
        with pytest.raises(http_ranges.IncompleteFile):
            list(blocks)
    else:
        assert b"".join(blocks) == data[part.start : part.stop]


def test_data_appended_meanwhile_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * (http_ranges.BLOCK_BYTES + 1))
    with path.open("rb", buffering=0) as file, path.open("ab") as log:
        blocks = http_ranges.read_range(file, range(http_ranges.BLOCK_BYTES + 1))
        first = next(blocks)
        log.write(b"more")
        log.flush()
        assert len(first + b"".join(blocks)) == http_ranges.BLOCK_BYTES + 1
