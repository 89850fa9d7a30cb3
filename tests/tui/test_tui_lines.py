"""Text as lines, lines as rows: what the previews are made of."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui import preview, sanitize, status
from tui.document import MAX_LINE_CHARACTERS, Document
from tui.wrapping import wrapped


def texts(document: Document) -> list[str]:
    return [line.text for line in document.lines]


def test_a_long_line_is_broken_into_bounded_ones() -> None:
    document = Document()
    document.append("x" * (3 * MAX_LINE_CHARACTERS + 1), "event--output", "1")
    assert [len(line.text) for line in document.lines] == [MAX_LINE_CHARACTERS] * 3 + [1]
    assert [line.mark for line in document.lines] == ["1", "", "", ""]


@given(st.text(st.characters(exclude_characters="\n")), st.integers(2, 40))
def test_rows_hold_all_of_a_line_and_fit(line: str, width: int) -> None:
    line = sanitize.printable(line).replace("\n", " ").replace("\t", " ")
    rows = wrapped(line, width)
    assert "".join(rows) == line
    assert all(cell_len(row) <= width for row in rows)


@example("éé \u200d\u200da", 3)
@given(st.text("aé日 \u200b\u200d\u0301\ufe0f👨🇩🇪", max_size=60), st.integers(2, 9))
def test_characters_without_width_are_kept(line: str, width: int) -> None:
    rows = wrapped(line, width)
    assert "".join(rows) == line
    assert all(cell_len(row) <= width for row in rows)


@given(st.text(), st.integers(0, 40))
def test_a_fitted_text_fills_its_cells_exactly(words: str, cells: int) -> None:
    assert cell_len(sanitize.fitted(words, cells)) == cells


def test_rows_break_between_words() -> None:
    assert wrapped("a few words to wrap", 10) == ["a few ", "words to ", "wrap"]


def test_a_preview_numbers_its_lines_and_knows_what_is_not_text() -> None:
    document = preview.document(b"one\r\ntwo\n", True)
    assert document is not None
    assert [(line.mark, line.text) for line in document.lines] == [("1", "one"), ("2", "two")]
    assert preview.document(b"PK\x03\x04\x00\x00", True) is None
    assert preview.document(bytes(range(128, 256)), True) is None
    cut = preview.document("é".encode()[:1], False)
    assert cut is not None and "not shown" in cut.lines[-1].text


def test_durations_and_sizes_are_short() -> None:
    task: Any = {"id": 1, "goal": "g", "status": "COMPLETED"}
    now = status.datetime.now(status.UTC)
    task |= {"started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T02:00:00Z"}
    assert status.elapsed(task, now) == "2h"
    assert status.elapsed(task | {"ended_at": None}, now) == ""
    assert status.elapsed(task | {"started_at": "yesterday"}, now) == ""
    sizes = [status.size(count) for count in (0, 999, 1000, 10_000, 10**6, 10**12, 10**18)]
    assert sizes == ["0 B", "999 B", "1.0 K", "9.8 K", "977 K", "931 G", "888 P"]
