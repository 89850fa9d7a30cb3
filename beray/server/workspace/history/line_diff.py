r"""Differences of an old and a new text as hunks of lines, in bounded time and memory.

Lines end at ``\n`` only, as in git: a carriage return is part of its line. The lines are bytes, so
a diff is exact for any content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from beray.server.workspace.history.alignment import matching_runs

CONTEXT_LINES: Final = 3
"""Default number of unchanged lines before and after a change."""
NO_NEWLINE: Final = b"\\ No newline at end of file"
"""Line of a hunk that states that the line before it has no newline at its end."""
MAX_LINES: Final = 1_000_000
"""Maximum number of lines, of both texts and without equal lines at their start and end, that are
aligned. More are one change."""

_MAX_SHIFT: Final = 100
"""Maximum number of lines by which a change is moved to a more readable position."""
_INDENTED_LINES: Final = 8
"""Maximum number of lines of which the first that is not empty states the indentation."""
_BLOCK: Final = 65_536


class LineChange(NamedTuple):
    """Replaced lines: ``old[old_start:old_end]`` by ``new[new_start:new_end]``."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int

    def shifted(self, lines: int) -> LineChange:
        """Return the change ``lines`` further down."""
        return LineChange(*(number + lines for number in self))

    def joined(self, following: LineChange) -> LineChange:
        """Return the change that includes this one, the adjacent one and the lines between."""
        return LineChange(self.old_start, following.old_end, self.new_start, following.new_end)


@dataclass(frozen=True, slots=True)
class LineHunk:
    r"""Changed lines with lines around them.

    Attributes:
        old_start: Number of the first line in the old text; starts at 1. Without lines, the number
            of the line before, which is 0 at the start.
        old_lines: Number of lines in the old text.
        new_start: The same as ``old_start`` for the new text.
        new_lines: Number of lines in the new text.
        lines: Lines without ``\n`` after a space, ``-`` or ``+``; or ``NO_NEWLINE``.
    """

    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    lines: list[bytes]


@dataclass(frozen=True, slots=True)
class LineDiff:
    """Differences of an old and a new text.

    Attributes:
        added: Number of lines that are in the new text only.
        deleted: Number of lines that are in the old text only.
    """

    added: int
    deleted: int
    _old: _Lines = field(repr=False)
    _new: _Lines = field(repr=False)
    _changes: list[LineChange] = field(repr=False)
    _context: int = field(repr=False)

    def hunks(self) -> Iterator[LineHunk]:
        """Yield the changes with their context, in ascending order."""
        group: list[LineChange] = []
        for change in self._changes:
            if group and change.old_start - group[-1].old_end > 2 * self._context:
                yield self._hunk(group)
                group = []
            group.append(change)
        if group:
            yield self._hunk(group)

    def _hunk(self, changes: list[LineChange]) -> LineHunk:
        old, new = self._old.lines, self._new.lines
        before = min(self._context, changes[0].old_start)
        after = min(self._context, len(old) - changes[-1].old_end)
        old_start = position = changes[0].old_start - before
        new_start = changes[0].new_start - before
        lines: list[bytes] = []
        for change in changes:
            _append(lines, b" ", old[position : change.old_start])
            _append(lines, b"-", old[change.old_start : change.old_end])
            _append(lines, b"+", new[change.new_start : change.new_end])
            position = change.old_end
        _append(lines, b" ", old[position : position + after])
        old_lines = changes[-1].old_end + after - old_start
        new_lines = changes[-1].new_end + after - new_start
        return LineHunk(
            self._old.skipped + old_start + (old_lines > 0),
            old_lines,
            self._new.skipped + new_start + (new_lines > 0),
            new_lines,
            lines,
        )


class _Lines(NamedTuple):
    """Lines of a part of the old or new text, without their newlines.

    A line that contains a newline is the last one of the text and has none at its end; so it
    differs from the same line with a newline.
    """

    lines: list[bytes]
    skipped: int
    """Number of lines before the part."""


def compare(old: bytes, new: bytes, context: int = CONTEXT_LINES) -> LineDiff:
    """Compare an old and a new text.

    Args:
        old: Content before the change; may be arbitrary bytes.
        new: Content after the change.
        context: Number of unchanged lines before and after changes in hunks.
    """
    if old == new:
        return LineDiff(0, 0, _Lines([], 0), _Lines([], 0), [], context)
    prefix, suffix = _common_ends(old, new)
    # A shift and the context need some of the equal lines.
    start = _lines_before(old, prefix, context + _MAX_SHIFT)
    suffix -= _lines_after(old, len(old) - suffix, context + _MAX_SHIFT) - (len(old) - suffix)
    skipped = old.count(b"\n", 0, start)
    old_lines = _Lines(_split(old[start : len(old) - suffix]), skipped)
    new_lines = _Lines(_split(new[start : len(new) - suffix]), skipped)
    changes = _changes(old_lines.lines, new_lines.lines)
    return LineDiff(
        sum(change.new_end - change.new_start for change in changes),
        sum(change.old_end - change.old_start for change in changes),
        old_lines,
        new_lines,
        changes,
        context,
    )


def _common_ends(old: bytes, new: bytes) -> tuple[int, int]:
    """Return the number of bytes of the equal lines at the start and at the end."""
    shorter = min(len(old), len(new))
    prefix = 0
    while prefix < shorter and old[prefix : prefix + _BLOCK] == new[prefix : prefix + _BLOCK]:
        prefix += _BLOCK
    prefix = min(prefix, shorter)
    size = _BLOCK
    while size := size // 2:
        if prefix + size <= shorter and old[prefix : prefix + size] == new[prefix : prefix + size]:
            prefix += size
    prefix = old.rfind(b"\n", 0, prefix) + 1

    longest = shorter - prefix
    suffix = 0
    size = _BLOCK
    while size:
        end = suffix + size
        if (
            end <= longest
            and old[len(old) - end : len(old) - suffix] == new[len(new) - end : len(new) - suffix]
        ):
            suffix = end
        else:
            size //= 2
    # The first line of the equal bytes may be the end of different lines.
    newline = old.find(b"\n", len(old) - suffix)
    return prefix, 0 if newline < 0 else len(old) - newline - 1


def _lines_before(text: bytes, position: int, count: int) -> int:
    """Return the start of the line that is ``count`` lines before the line at ``position``."""
    for _ in range(count):
        if position == 0:
            break
        position = text.rfind(b"\n", 0, position - 1) + 1
    return position


def _lines_after(text: bytes, position: int, count: int) -> int:
    """Return the start of the line that is ``count`` lines after the line at ``position``."""
    for _ in range(count):
        newline = text.find(b"\n", position)
        if newline < 0:
            return len(text)
        position = newline + 1
    return position


def _split(text: bytes) -> list[bytes]:
    """Return lines as described at ``_Lines``."""
    lines = text.split(b"\n")
    last = lines.pop()
    if last:
        lines.append(last + b"\n")
    return lines


def _append(lines: list[bytes], sign: bytes, added: list[bytes]) -> None:
    """Append lines as described at ``_Lines`` to those of a hunk."""
    lines.extend([sign + line for line in added])
    if added and added[-1].endswith(b"\n"):
        lines[-1] = lines[-1][:-1]
        lines.append(NO_NEWLINE)


def _changes(old: list[bytes], new: list[bytes]) -> list[LineChange]:
    if len(old) + len(new) > MAX_LINES:
        return [_single_change(old, new)]
    numbers: dict[bytes, int] = {}
    old_numbers = [numbers.setdefault(line, len(numbers)) for line in old]
    new_numbers = [numbers.setdefault(line, len(numbers)) for line in new]
    changes = []
    old_end = new_end = 0
    for run in matching_runs(old_numbers, new_numbers):
        if (run.old, run.new) != (old_end, new_end):
            changes.append(LineChange(old_end, run.old, new_end, run.new))
        old_end, new_end = run.old + run.length, run.new + run.length
    if (old_end, new_end) != (len(old), len(new)):
        changes.append(LineChange(old_end, len(old), new_end, len(new)))
    return _shift_changes(changes, old, new)


def _single_change(old: list[bytes], new: list[bytes]) -> LineChange:
    """Return the change of all lines except equal ones at the start and at the end."""
    shorter = min(len(old), len(new))
    start = 0
    while start < shorter and old[start] == new[start]:
        start += 1
    end = 0
    while end < shorter - start and old[-1 - end] == new[-1 - end]:
        end += 1
    return LineChange(start, len(old) - end, start, len(new) - end)


def _shift_changes(
    changes: list[LineChange], old: list[bytes], new: list[bytes]
) -> list[LineChange]:
    """Move changes that have several possible positions, and join those that become adjacent.

    If the line before added lines equals the last of them, it may be regarded as added instead.
    """
    done: list[LineChange] = []
    waiting = changes[::-1]
    while waiting:
        change = waiting.pop()
        if change.old_start < change.old_end and change.new_start < change.new_end:
            done.append(change)
            continue
        is_added = change.old_start == change.old_end
        lines = new if is_added else old
        start, end = change[2:] if is_added else change[:2]
        # Runs of equal lines have the same length in both texts.
        equal_before = change.old_start - (done[-1].old_end if done else 0)
        equal_after = (waiting[-1].old_start if waiting else len(old)) - change.old_end
        up = _possible_shift(lines, start - 1, end - 1, -1, equal_before)
        if up == equal_before and done:
            waiting.append(done.pop().joined(change.shifted(-up)))
            continue
        down = _possible_shift(lines, start, end, 1, equal_after)
        if down == equal_after and waiting:
            waiting.append(change.shifted(down).joined(waiting.pop()))
            continue
        done.append(change.shifted(_most_readable_shift(lines, start, end, up, down)))
    return done


def _possible_shift(lines: list[bytes], first: int, second: int, step: int, longest: int) -> int:
    for shift in range(min(longest, _MAX_SHIFT)):
        if lines[first + shift * step] != lines[second + shift * step]:
            return shift
    return min(longest, _MAX_SHIFT)


def _most_readable_shift(lines: Sequence[bytes], start: int, end: int, up: int, down: int) -> int:
    """Return the shift after which the lines probably are a unit, such as a function.

    Units often end with an empty line and start with the smallest indentation. If several
    positions are equal in this, the last one is used.
    """
    return min(
        range(-up, down + 1),
        key=lambda shift: (
            bool(lines[end + shift - 1].strip()),
            _indentation(lines, start + shift, end + shift),
            -shift,
        ),
    )


def _indentation(lines: Sequence[bytes], start: int, end: int) -> int:
    """Return the columns before the first line that is not empty."""
    for line in lines[start : min(end, start + _INDENTED_LINES)]:
        text = line[:200].expandtabs()
        if stripped := text.lstrip():
            return len(text) - len(stripped)
    return 0
