"""Differences of an old and a new text as hunks: exact for any content, bounded for large ones."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beray.server.workspace.history.alignment import Run, matching_runs
from beray.server.workspace.history.line_diff import MAX_LINES, NO_NEWLINE, LineHunk, compare

LINES = [b"", b"a", b"b", b"}", b"\r", b"a\r", b"  a", b"\xff\x00\x85", b"\x0b\x0c", b"\\"]
TEXTS = st.builds(
    lambda lines, end: b"\n".join(lines) + end,
    st.lists(st.sampled_from(LINES), max_size=25),
    st.sampled_from([b"", b"\n"]),
) | st.binary(max_size=40)


def lines_of(text: bytes) -> list[bytes]:
    lines = text.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def sides(hunk: LineHunk) -> tuple[list[bytes], list[bytes]]:
    """The old and the new lines of a hunk, with their newlines."""
    found: dict[bytes, list[bytes]] = {b" ": [], b"-": [], b"+": []}
    old, new = found[b"-"], found[b"+"]
    for line, following in zip(hunk.lines, [*hunk.lines[1:], b""], strict=True):
        if line == NO_NEWLINE:
            continue
        text = line[1:] + (b"" if following == NO_NEWLINE else b"\n")
        if line[:1] != b"+":
            old.append(text)
        if line[:1] != b"-":
            new.append(text)
    return old, new


def apply(text: bytes, hunks: Iterable[LineHunk]) -> bytes:
    """Apply hunks to the old text; fail if their numbers or lines do not fit."""
    lines = lines_of(text)
    result: list[bytes] = []
    position = 0
    for hunk in hunks:
        old, new = sides(hunk)
        start = hunk.old_start - (hunk.old_lines > 0)
        result += lines[position:start]
        assert (len(old), len(new)) == (hunk.old_lines, hunk.new_lines)
        assert lines[start : start + len(old)] == old
        assert len(result) == hunk.new_start - (hunk.new_lines > 0)
        result += new
        position = start + len(old)
    return b"".join(result + lines[position:])


def assert_correct(old: bytes, new: bytes, context: int = 3) -> None:
    diff = compare(old, new, context)
    hunks = list(diff.hunks())
    assert apply(old, hunks) == new
    signs = [line[:1] for hunk in hunks for line in hunk.lines]
    assert (signs.count(b"+"), signs.count(b"-")) == (diff.added, diff.deleted)


def unified(old: bytes, new: bytes) -> list[bytes]:
    return [line for hunk in compare(old, new).hunks() for line in hunk.lines]


def numbered(*parts: Iterable[int]) -> bytes:
    return b"".join(b"line %d\n" % number for part in parts for number in part)


@given(TEXTS, TEXTS, st.integers(0, 4))
@example(b"", b"", 3)
@example(b"", b"\n", 3)
@example(b"a", b"a\n", 3)
@example(b"a\r\nb\r\n", b"a\r\nb", 3)
@example(b"a\nb", b"c\nb", 0)
@example(b"x" * 70_000, b"x" * 70_000 + b"\n", 3)
def test_hunks_applied_to_the_old_text_give_the_new_one(
    old: bytes, new: bytes, context: int
) -> None:
    assert_correct(old, new, context)


@given(st.data())
def test_edits_of_a_text_with_repeated_lines(data: st.DataObject) -> None:
    lines = data.draw(st.lists(st.sampled_from(LINES), min_size=30, max_size=400))
    edited = list(lines)
    for _ in range(data.draw(st.integers(1, 8))):
        start = data.draw(st.integers(0, len(edited)))
        end = start + data.draw(st.integers(0, 5))
        edited[start:end] = data.draw(st.lists(st.sampled_from(LINES), max_size=5))
    assert_correct(b"\n".join(lines), b"\n".join(edited))


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
def test_short_sequences_have_the_longest_common_subsequence(
    old: list[int], new: list[int]
) -> None:
    lengths = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i, first in enumerate(old):
        for j, second in enumerate(new):
            lengths[i + 1][j + 1] = (
                lengths[i][j] + 1 if first == second else max(lengths[i][j + 1], lengths[i + 1][j])
            )
    runs = matching_runs(old, new)
    assert sum(run.length for run in runs) == lengths[-1][-1]
    assert_ascending(runs, old, new)


def assert_ascending(runs: list[Run], old: list[int], new: list[int]) -> None:
    old_end = new_end = 0
    for run in runs:
        assert run.length
        assert run.old >= old_end
        assert run.new >= new_end
        old_end, new_end = run.old + run.length, run.new + run.length
        assert old[run.old : old_end] == new[run.new : new_end]


def test_equal_texts_have_no_hunks() -> None:
    diff = compare(b"a\nb\n", b"a\nb\n")
    assert (diff.added, diff.deleted, list(diff.hunks())) == (0, 0, [])


def test_a_hunk_has_numbers_and_context() -> None:
    old = numbered(range(1, 21))
    (hunk,) = compare(old, old.replace(b"line 10\n", b"ten\nand a half\n")).hunks()
    assert (hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines) == (7, 7, 7, 8)
    assert hunk.lines == [
        b" line 7",
        b" line 8",
        b" line 9",
        b"-line 10",
        b"+ten",
        b"+and a half",
        b" line 11",
        b" line 12",
        b" line 13",
    ]


@pytest.mark.parametrize(("distance", "count"), [(6, 1), (7, 2)])
def test_changes_with_overlapping_context_share_a_hunk(distance: int, count: int) -> None:
    old = numbered(range(50))
    new = old.replace(b"line 20\n", b"").replace(b"line %d\n" % (21 + distance), b"")
    assert len(list(compare(old, new).hunks())) == count


def test_missing_newlines_are_stated() -> None:
    assert unified(b"a\nb", b"a\nb\n") == [b" a", b"-b", NO_NEWLINE, b"+b"]
    assert unified(b"a\nb\n", b"a\nb") == [b" a", b"-b", b"+b", NO_NEWLINE]
    assert unified(b"a\nb", b"c\nb") == [b"-a", b"+c", b" b", NO_NEWLINE]


def test_carriage_returns_belong_to_their_lines() -> None:
    assert unified(b"a\r\nb\r\n", b"a\nb\r\n") == [b"-a\r", b"+a", b" b\r"]


def test_hunks_of_empty_texts_start_at_zero() -> None:
    (hunk,) = compare(b"", b"a\nb\n").hunks()
    assert (hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines) == (0, 0, 1, 2)
    (hunk,) = compare(b"a\n", b"").hunks()
    assert (hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines) == (1, 1, 0, 0)


def test_an_added_function_starts_with_its_first_line() -> None:
    old = b"def a():\n    return 1\n\ndef c():\n    return 1\n"
    new = b"def a():\n    return 1\n\ndef b():\n    return 1\n\ndef c():\n    return 1\n"
    assert unified(old, new) == [
        b" def a():",
        b"     return 1",
        b" ",
        b"+def b():",
        b"+    return 1",
        b"+",
        b" def c():",
        b"     return 1",
    ]


def test_an_added_element_of_json_is_not_divided() -> None:
    element = b'  {\n    "id": %d,\n    "on": true\n  },\n'
    old = b"[\n" + element % 1 + element % 3 + b"]\n"
    new = b"[\n" + element % 1 + element % 2 + element % 3 + b"]\n"
    added = [line for line in unified(old, new) if line.startswith(b"+")]
    assert added == [b"+  {", b'+    "id": 2,', b'+    "on": true', b"+  },"]


def test_changes_that_can_be_moved_together_are_joined() -> None:
    assert unified(b"x\nx\nx\n", b"x\n") == [b" x", b"-x", b"-x"]


def random_lines(count: int, vocabulary: int, seed: int) -> list[bytes]:
    generator = random.Random(seed)
    return [b"%d" % generator.randrange(vocabulary) for _ in range(count)]


def edited(lines: list[bytes], count: int) -> list[bytes]:
    generator = random.Random(count)
    lines = list(lines)
    for _ in range(count):
        lines[generator.randrange(len(lines))] = b"edited"
    return lines


LARGE = 40_000  # more than a matrix of the longest common subsequence may have


@pytest.mark.parametrize(
    ("old", "new", "at_most"),
    [
        pytest.param(
            [b"%d" % number for number in range(LARGE)],
            edited([b"%d" % number for number in range(LARGE)], 5000),
            5000,
            id="unique lines",
        ),
        pytest.param(
            random_lines(LARGE, 500, 1),
            edited(random_lines(LARGE, 500, 1), 500),
            500,
            id="repeated lines",
        ),
        pytest.param(random_lines(LARGE, 500, 1), random_lines(LARGE, 500, 2), LARGE, id="random"),
        pytest.param(
            [b"%d" % number for number in range(LARGE)],
            [b"%d" % number for number in reversed(range(LARGE))],
            LARGE - 1,
            id="reversed",
        ),
        pytest.param([b"same"] * LARGE, [b"same"] * (LARGE - 1), 1, id="equal lines"),
        pytest.param([b""] * MAX_LINES, [b"", b"a", *[b""] * MAX_LINES], MAX_LINES, id="limit"),
        pytest.param([b""] * MAX_LINES + [b"a"], [b"a"] * 20, MAX_LINES, id="too many lines"),
    ],
)
def test_large_texts(old: list[bytes], new: list[bytes], at_most: int) -> None:
    old_text, new_text = b"\n".join(old), b"\n".join(new)
    diff = compare(old_text, new_text)
    assert apply(old_text, diff.hunks()) == new_text
    assert max(diff.added, diff.deleted) <= at_most


def test_parts_between_unique_lines_are_compared() -> None:
    # Blocks of lines that occur twice, around unique ones, in a different order.
    blocks = [
        [b"%d" % (number // 2) for number in range(start, start + 500)]
        for start in range(0, LARGE, 500)
    ]
    old = [line for number, block in enumerate(blocks) for line in (*block, b"unique %d" % number)]
    new = [
        line for number, block in enumerate(blocks) for line in (*block[1:], b"unique %d" % number)
    ]
    diff = compare(b"\n".join(old), b"\n".join(new))
    assert (diff.added, diff.deleted) == (0, len(blocks))
