"""Tests of the rows of a diff, without an application."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style

from beray.history_schema import DiffHunk
from tests.tui.diff_parts import hunk_of
from tests.tui.hostile_text import HOSTILE
from tui.diff import line_text
from tui.diff.alignment import AlignmentBudget, aligned
from tui.diff.drawing import DiffPainter
from tui.diff.intraline import MAX_COMPARED_CHARS, changed_spans
from tui.diff.layout import DiffLayout, columns, text_rows
from tui.diff.lines import MAX_LINES, DiffRow, LineKind, diff_rows, hunk_lines

LINES = st.lists(st.text("ab \té日\u200d", max_size=12), max_size=12)


def texts(rows: list[DiffRow], side: str) -> list[tuple[int, str]]:
    found: list[Any] = [getattr(row, side) for row in rows]
    return [(getattr(line, side), line.text) for line in found if line is not None]


# Lines and rows


@given(LINES, LINES, st.booleans())
def test_rows_contain_every_line_once_and_in_order(
    old: list[str], new: list[str], side_by_side: bool
) -> None:
    rows = diff_rows([hunk_of(old, new)], side_by_side=side_by_side)
    assert texts(rows, "old") == list(enumerate(old, 1))
    assert texts(rows, "new") == list(enumerate(new, 1))
    for row in rows:
        both = row.old is not None and row.new is not None
        assert not both or side_by_side or row.old is row.new
    changes = [row for row in rows if row.starts_change]
    assert bool(changes) == (old != new)


@given(st.lists(st.text("ab ", max_size=6), max_size=8), st.lists(st.text("ab ", max_size=6)))
def test_aligned_sides_keep_their_order(deleted: list[str], added: list[str]) -> None:
    pairs = aligned(deleted, added, AlignmentBudget())
    assert [left for left, _ in pairs if left is not None] == list(range(len(deleted)))
    assert [right for _, right in pairs if right is not None] == list(range(len(added)))
    assert all(pair != (None, None) for pair in pairs)


def test_similar_lines_are_on_one_row() -> None:
    deleted = ["total = add(a, b)"]
    added = ["# The sum of both.", "", "total = add(a, b, c)"]
    assert aligned(deleted, added, AlignmentBudget()) == [(None, 0), (None, 1), (0, 2)]
    # Lines without similar ones are paired in order, which needs fewer rows.
    assert aligned(["a b", "c d"], ["e f", "g h"], AlignmentBudget()) == [(0, 0), (1, 1)]


def test_lines_of_large_changes_are_paired_in_order() -> None:
    lines = [f"line {number}" for number in range(300)]
    assert aligned(lines, lines[1:], AlignmentBudget())[0] == (0, 0)
    budget = AlignmentBudget(comparisons=5)
    assert aligned(["x y", "a b"], ["a b"], budget) == [(0, None), (1, 0)]
    assert budget.comparisons == 3


def test_lines_of_a_hunk_are_numbered() -> None:
    hunk = DiffHunk(
        old_start=7,
        old_lines=2,
        new_start=8,
        new_lines=2,
        lines=[" same", "-old", "\\ No newline at end of file", "+new"],
    )
    same, old, new = hunk_lines(hunk)
    assert (same.kind, same.old, same.new) == (LineKind.CONTEXT, 7, 8)
    assert (old.kind, old.old, old.new, old.unended) == (LineKind.DELETED, 8, 0, True)
    assert (new.kind, new.old, new.new, new.unended) == (LineKind.ADDED, 0, 9, False)
    assert diff_rows([hunk], side_by_side=False)[0].note == "@@ -7,2 +8,2 @@"


def test_a_very_long_file_is_shown_in_part() -> None:
    hunk = hunk_of([], [])
    hunk["lines"] = ["+x"] * (MAX_LINES + 5)
    rows = diff_rows([hunk, hunk], side_by_side=False)
    assert len(rows) == MAX_LINES + 2
    assert rows[-1].note == "… 5 more lines of this change are not shown"


# Text


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        ("\tx", "    x"),
        ("ab\tx", "ab  x"),
        ("日\tx", "日  x"),
        ("a\r", "a␍"),
        ("\x1b[31mred", "␛[31mred"),
        ("a\u202eb\u200bc\U000e0041", "a\ufffdb\ufffdc\ufffd"),
        ("a\u2028b\x85c", "a␤b␤c"),
    ],
)
def test_characters_that_hide_a_difference_are_visible(line: str, shown: str) -> None:
    assert line_text.display_text(line) == shown


@given(st.text())
@example(HOSTILE)
def test_displayed_text_is_one_printable_line(line: str) -> None:
    shown = line_text.display_text(line)
    assert not set(shown) & {chr(code) for code in [*range(0x20), *range(0x7F, 0xA0)]}
    assert "\u202e" not in shown and "\u2028" not in shown


def test_a_very_long_line_is_shown_around_its_first_difference() -> None:
    line = "".join(f"{number}," for number in range(20_000))
    other = line.replace("15000,", "changed,")
    start = line_text.excerpt_start(line, other)
    shown = line_text.excerpt(line, start)
    assert shown.startswith("… ") and "15000" in shown[:600] and "more characters" in shown
    assert line_text.excerpt_start(line, None) == 0
    assert line_text.excerpt_start("short", "other") == 0
    assert line_text.excerpt_start(line, "x" + line) == 0
    assert line_text.excerpt_start(line, line + "x") == len(line) - line_text.MAX_LINE_CHARS // 2


@given(st.text("ab", max_size=20), st.text("ab", max_size=20))
def test_common_ends_are_counted(one: str, other: str) -> None:
    prefix = line_text.common_prefix(one, other)
    assert one[:prefix] == other[:prefix]
    assert one[prefix : prefix + 1] != other[prefix : prefix + 1] or prefix == len(one)
    limit = min(len(one), len(other)) - prefix
    suffix = line_text.common_suffix(one, other, limit)
    assert suffix <= limit and one[len(one) - suffix :] == other[len(other) - suffix :]


# Changed words


def changed(old: str, new: str) -> tuple[list[str], list[str]]:
    olds, news = changed_spans(old, new)
    return [old[a:b] for a, b in olds], [new[a:b] for a, b in news]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("return add(a, b)", "return add(a, c)", (["b"], ["c"])),
        ("one two", "one big two", ([], ["big "])),
        ("x = 1 + y", "x = 2 + z", (["1", "y"], ["2", "z"])),
        ("set the old value", "set a new value", (["the old"], ["a new"])),
        ("nothing in common", "1 2 3 4 5 6", ([], [])),
        ("same", "same", ([], [])),
        ("", "new", ([], [])),
        ("cafe\u0301 one two", "cafe two one two", (["e\u0301"], ["e two"])),
    ],
)
def test_changed_words_are_found(old: str, new: str, words: tuple[list[str], list[str]]) -> None:
    if "\u0301" in old:  # a combining character is drawn with the letter before it
        olds, _ = changed(old, new)
        assert any("\u0301" in one for one in olds)
        assert all(not one.startswith("\u0301") for one in olds)
    else:
        assert changed(old, new) == words


def test_long_lines_are_compared_at_their_ends_only() -> None:
    words = "word " * MAX_COMPARED_CHARS
    assert changed(words + "a x b y c", words + "a 1 b 2 c") == (["x b y"], ["1 b 2"])


@given(st.text(max_size=40), st.text(max_size=40))
def test_unchanged_characters_are_equal(old: str, new: str) -> None:
    olds, news = changed_spans(old, new)
    for text, spans in ((old, olds), (new, news)):
        ends = [0, *(index for span in spans for index in span), len(text)]
        assert ends == sorted(ends)
        assert all(start < end for start, end in spans)


def test_lines_of_many_changed_words_are_compared_at_their_ends_only() -> None:
    old, new = "a b " * 100, "b a " * 100
    assert changed(f"{'x ' * 300}{old}", f"{'x ' * 300}{new}") == (
        [old.rstrip()],
        [new.rstrip()],
    )


# Layout and drawing


def style_of(name: str) -> Style:
    return Style(color="red") if name.endswith("-words") else Style()


@given(LINES, LINES, st.integers(20, 90), st.booleans())
def test_every_row_fills_its_width(
    old: list[str], new: list[str], width: int, side_by_side: bool
) -> None:
    rows = diff_rows([hunk_of(old, new)], side_by_side=side_by_side)
    made = columns(width, 12, side_by_side=side_by_side)
    layout = DiffLayout(rows, made)
    painter = DiffPainter(layout, style_of)
    painted = []
    for number in range(layout.total):
        strip = painter.strip(number, range(0))
        assert strip is not None
        located = layout.locate(number)
        assert located is not None
        if not rows[located[0]].note:
            painted.append(sum(cell_len(segment.text) for segment in strip))
    if width >= 40:
        assert set(painted) <= {width}
    assert painter.strip(layout.total, range(0)) is None
    assert [layout.locate(layout.first_row(index)) for index in range(len(rows))] == [
        (index, 0) for index in range(len(rows))
    ]


def painted(layout: DiffLayout) -> list[str]:
    painter = DiffPainter(layout, style_of)
    strips = [painter.strip(number, range(0)) for number in range(layout.total)]
    return [strip.text.rstrip() for strip in strips if strip is not None]


def test_versions_of_a_line_are_side_by_side() -> None:
    hunk = hunk_of(["one", "two words", "three"], ["one", "two new words", "three", "日本"], 9)
    rows = diff_rows([hunk], side_by_side=True)
    assert painted(DiffLayout(rows, columns(47, 12, side_by_side=True))) == [
        " @@ -9,3 +9,4 @@",
        "  9   one              │  9   one",
        " 10 - two words        │ 10 + two new words",
        " 11   three            │ 11   three",
        "                       │ 12 + 日本",
    ]


def test_versions_of_a_line_are_below_each_other_in_a_narrow_view() -> None:
    hunk = hunk_of(["one", "two words of a long line"], ["one", "two words"])
    rows = diff_rows([hunk], side_by_side=False)
    layout = DiffLayout(rows, columns(26, 12, side_by_side=False))
    assert painted(layout) == [
        " @@ -1,2 +1,2 @@",
        "  1   1   one",
        "  2     - two words of a",
        "          long line",
        "      2 + two words",
    ]
    assert layout.changes == [2]
    assert [layout.next_change(number, 1) for number in (0, 2)] == [0, None]
    assert [layout.next_change(number, -1) for number in (2, 3)] == [None, 0]


def test_wide_rows_are_divided_like_their_text() -> None:
    text = "日本語 " * 2000
    rows = text_rows(text, 10)
    assert "".join(rows) == text and max(map(cell_len, rows)) <= 10
