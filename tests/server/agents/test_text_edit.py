"""Edits of text files with different line endings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beray.server.runners.model import text_edit
from tests.server.agents.model_bench import Bench


def edited(data: bytes, old: bytes, new: bytes) -> bytes:
    return text_edit.replace(data, text_edit.find(data, old), new)


@pytest.mark.parametrize(
    ("data", "old", "new", "expected"),
    [
        (b"a\r\nb\r\nc\r\n", b"a\nb", b"x\ny\nz", b"x\r\ny\r\nz\r\nc\r\n"),
        (b"a\r\nb\r\nc\r\n", b"b", b"x\ny", b"a\r\nx\r\ny\r\nc\r\n"),
        (b"a\r\nb", b"b", b"x\ny", b"a\r\nx\r\ny"),
        (b"a\r\nb\r\n", b"a\r\nb", b"x\ny", b"x\r\ny\r\n"),
        (b"a\r\nb\r\n", b"\nb", b"\nx", b"a\r\nx\r\n"),
        (b"a\nb\n", b"a\r\nb", b"x\ny", b"x\ny\n"),
        (b"a\nb\n", b"a\nb\n", b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\nb\r\nc\n", b"b\nc", b"x\ny", b"a\nx\r\ny\n"),
        (b"a\nb\r\na\r\nb\r\n", b"a\nb", b"x\ny", b"x\ny\r\na\r\nb\r\n"),
        (b"a\r\nb\r\na\r\nb\r\n", b"a\nb\n", b"c\n", b"c\r\nc\r\n"),
        (b"one", b"one", b"1\n2", b"1\n2"),
        (b"\r\n", b"\n", b"\n\n", b"\r\n\r\n"),
    ],
)
def test_the_replacement_has_the_line_endings_around_it(
    data: bytes, old: bytes, new: bytes, expected: bytes
) -> None:
    assert edited(data, old, new) == expected


LINES = st.lists(st.sampled_from([b"a", b"b", b"", b"a b"]), min_size=1, max_size=8)


@given(LINES, LINES, LINES)
def test_edits_of_crlf_files_equal_edits_of_lf_files(
    data: list[bytes], old: list[bytes], new: list[bytes]
) -> None:
    wanted = b"\n".join(old)
    if not wanted:
        return
    content = b"\n".join(data)
    expected = content.replace(wanted, b"\n".join(new))
    if b"\n" in content:
        crlf = content.replace(b"\n", b"\r\n")
        assert edited(crlf, wanted, b"\n".join(new)) == expected.replace(b"\n", b"\r\n")
    assert edited(content, wanted, b"\n".join(new)) == expected


async def test_tools_edit_and_find_lines_of_crlf_files(tmp_path: Path) -> None:
    bench = await Bench.make(
        tmp_path,
        [("edit_file", {"path": "a.txt", "old_text": "one\ntwo", "new_text": "1\n2\n3"})],
        [("search_files", {"pattern": "2$"})],
        "done",
    )
    (bench.work_dir / "a.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")
    await bench.run()
    assert (bench.work_dir / "a.txt").read_bytes() == b"1\r\n2\r\n3\r\nthree\r\n"
    assert bench.answers() == ["a.txt: replaced 1 time", "a.txt:2:2"]


@pytest.mark.parametrize("line_end", [b"", b"\n", b"\r\n"])
def test_many_places_in_one_line_take_linear_time(line_end: bytes) -> None:
    data = b"ab" * 1_000_000 + line_end
    assert edited(data, b"a", b"c") == b"cb" * 1_000_000 + line_end
