"""Changes between two texts, applied to a third one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beray.apply.text_merge import MergeConflict, is_merged, merge
from beray.history_schema import DiffHunk
from tests.apply.trees import hunks

OLD = b"".join(b"line %d\n" % number for number in range(1, 41))
NEW = OLD.replace(b"line 20\n", b"line 20, changed\nand one more\n")


def merged(local: bytes, old: bytes, new: bytes) -> bytes:
    return merge(local, old, new, hunks(old, new))


def test_a_text_without_other_changes_becomes_the_new_one() -> None:
    assert merged(OLD, OLD, NEW) == NEW


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"line 1\n", b"new\n" * 7 + b"line 1\n"),
        (b"line 1\nline 2\nline 3\n", b""),
        (b"line 40\n", b"line 40"),
        (b"line 30\n", b""),
    ],
)
def test_other_changes_are_kept(before: bytes, after: bytes) -> None:
    local = OLD.replace(before, after)
    assert merged(local, OLD, NEW) == NEW.replace(before, after)


def test_hunks_move_with_the_lines_around_them() -> None:
    new = NEW.replace(b"line 5\n", b"").replace(b"line 35\n", b"line 35, changed\n")
    local = b"first\n" * 50 + OLD
    assert merged(local, OLD, new) == b"first\n" * 50 + new


def test_the_nearest_of_equal_positions_is_changed() -> None:
    block = b"a\nb\nc\nX\nd\ne\nf\n"
    old = block * 5
    new = block * 2 + block.replace(b"X", b"Y") + block * 2
    assert merged(b"top\n" + old, old, new) == b"top\n" + new


@pytest.mark.parametrize(
    "local",
    [
        OLD.replace(b"line 20\n", b"line 20, changed here\n"),
        OLD.replace(b"line 18\n", b"line 18, changed here\n"),
        OLD.replace(b"line 22\n", b""),
        OLD.replace(b"\n", b"\r\n"),
        b"",
        b"line 20\n",
    ],
)
def test_changes_around_a_hunk_are_a_conflict(local: bytes) -> None:
    with pytest.raises(MergeConflict, match="the lines around line 17 differ"):
        merged(local, OLD, NEW)


def test_hunks_at_the_ends_stay_there() -> None:
    # The line is not removed from another place that happens to have the same content.
    with pytest.raises(MergeConflict):
        merged(b"1\n2\nonly\n3\n", b"only\n", b"")
    with pytest.raises(MergeConflict):
        merged(b"local\n", b"", b"new\n")
    appended = OLD + b"appended\n"
    with pytest.raises(MergeConflict):
        merged(OLD + b"other\n", OLD, appended)
    assert merged(b"0\n" + OLD, OLD, appended) == b"0\n" + appended


def test_a_missing_newline_is_a_difference() -> None:
    assert merged(b"top\n" + b"1\n2\n3\n4\n5", b"1\n2\n3\n4\n5", b"1\n2\n3\n4\n5\n") == (
        b"top\n1\n2\n3\n4\n5\n"
    )
    with pytest.raises(MergeConflict):
        merged(b"1\n2\n3\n4\n5\n", b"1\n2\n3\n4\n5", b"1\n2\n3\n4\n6")


def test_lines_in_other_encodings_are_unchanged() -> None:
    old, new = OLD.replace(b"line 20", b"caf\xe9\r"), OLD.replace(b"line 20", b"th\xe9\r")
    assert merged(b"\xff\n" + old, old, new) == b"\xff\n" + new


@pytest.mark.parametrize(
    "change",
    [
        {"old_start": 0, "old_lines": 3},
        {"old_start": -5, "old_lines": 1},
        {"new_lines": -1},
        {"old_lines": 10**9},
        {"new_start": 1},
    ],
)
def test_hunks_that_contradict_the_contents_are_rejected(change: DiffHunk) -> None:
    [hunk] = hunks(OLD, NEW)
    with pytest.raises(ValueError, match="hunk"):
        merge(b"top\n" + OLD, OLD, NEW, [hunk | change])
    with pytest.raises(ValueError, match="do not lead"):
        merge(b"top\n" + OLD, OLD, NEW, [])


def test_a_text_that_has_the_changes_already_is_recognized() -> None:
    changes = hunks(OLD, NEW)
    assert is_merged(b"top\n" + NEW + b"end\n", OLD, NEW, changes)
    assert not is_merged(b"top\n" + OLD, OLD, NEW, changes)
    assert not is_merged(b"", OLD, NEW, changes)
    # Neither is certain if both the old and the new lines are there.
    assert not is_merged(OLD + NEW, OLD, NEW, changes)
    with pytest.raises(ValueError, match="outside of the content"):
        is_merged(NEW, b"", NEW, changes)


LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"\n", b"\xff\r\n", b"last"]), max_size=30)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LINES, LINES)
def test_the_old_text_always_becomes_the_new_one(old: list[bytes], new: list[bytes]) -> None:
    before, after = b"".join(old), b"".join(new)
    assert merged(before, before, after) == after
