"""Lines of a changed file, and the rows in which they are displayed, without widgets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from beray.history_schema import DiffHunk
from tui.diff.alignment import AlignmentBudget, aligned

MAX_LINES: Final = 200_000
"""Lines of one file that are displayed."""


class LineKind(StrEnum):
    """Type of a line, which is its first character in a hunk."""

    CONTEXT = " "
    DELETED = "-"
    ADDED = "+"


class DiffLine(NamedTuple):
    """Line of a hunk.

    Attributes:
        kind: Type of the line.
        text: The line as sent by the server.
        old: Number in the old version; 0 if the line was added.
        new: Number in the new version; 0 if the line was deleted.
        unended: Whether the line is the last one and has no newline.
    """

    kind: LineKind
    text: str
    old: int
    new: int
    unended: bool = False


class DiffRow(NamedTuple):
    """Logical row of a displayed file; long lines need several rows of the screen.

    Attributes:
        old: Line on the left; in a unified view, a deleted line or context.
        new: Line on the right; in a unified view, an added line or context.
        other: In a unified view, the other version of a deleted or added line.
        note: Text of a row without lines, such as the heading of a hunk.
        starts_change: Whether the row is the first one of a change.
    """

    old: DiffLine | None = None
    new: DiffLine | None = None
    other: DiffLine | None = None
    note: str = ""
    starts_change: bool = False


LinePair = tuple[DiffLine | None, DiffLine | None]


def hunk_lines(hunk: DiffHunk) -> list[DiffLine]:
    """Return the lines of a hunk with their numbers."""
    lines: list[DiffLine] = []
    old, new = hunk["old_start"], hunk["new_start"]
    for line in hunk["lines"]:
        mark, text = line[:1], line[1:]
        if mark == "\\":
            if lines:
                lines[-1] = lines[-1]._replace(unended=True)
        elif mark == "-":
            lines.append(DiffLine(LineKind.DELETED, text, old, 0))
            old += 1
        elif mark == "+":
            lines.append(DiffLine(LineKind.ADDED, text, 0, new))
            new += 1
        else:  # some servers omit the space of an empty line
            lines.append(DiffLine(LineKind.CONTEXT, text, old, new))
            old, new = old + 1, new + 1
    return lines


def line_pairs(lines: Sequence[DiffLine], budget: AlignmentBudget) -> Iterator[list[LinePair]]:
    """Yield the context lines and the changes of a hunk in order, each as pairs of lines.

    Args:
        lines: Lines of a hunk.
        budget: Limits the time for finding similar lines.
    """
    index = 0
    while index < len(lines):
        line = lines[index]
        if line.kind is LineKind.CONTEXT:
            yield [(line, line)]
            index += 1
            continue
        first = index
        while index < len(lines) and lines[index].kind is not LineKind.CONTEXT:
            index += 1
        changed = lines[first:index]
        deleted = [line for line in changed if line.kind is LineKind.DELETED]
        added = [line for line in changed if line.kind is LineKind.ADDED]
        pairs = aligned([one.text for one in deleted], [one.text for one in added], budget)
        yield [
            (
                deleted[left] if left is not None else None,
                added[right] if right is not None else None,
            )
            for left, right in pairs
        ]


def diff_rows(hunks: Sequence[DiffHunk], *, side_by_side: bool) -> list[DiffRow]:
    """Return the rows of a file.

    Args:
        hunks: Changes of the file.
        side_by_side: Whether old and new lines are on the same row.
    """
    rows: list[DiffRow] = []
    budget, left = AlignmentBudget(), MAX_LINES
    for hunk in hunks:
        rows.append(DiffRow(note=hunk_heading(hunk)))
        lines = hunk_lines(hunk)
        omitted = len(lines) - left
        for pairs in line_pairs(lines[:left], budget):
            rows += _rows_of_pairs(pairs, side_by_side=side_by_side)
        if omitted > 0:
            rows.append(DiffRow(note=f"… {omitted:,} more lines of this change are not shown"))
        left = max(0, left - len(lines))
        if not left:
            break
    return rows


def hunk_heading(hunk: DiffHunk) -> str:
    """Return the ranges of a hunk in the notation of unified diffs."""
    old = _line_range(hunk["old_start"], hunk["old_lines"])
    new = _line_range(hunk["new_start"], hunk["new_lines"])
    return f"@@ -{old} +{new} @@"


def _line_range(start: int, count: int) -> str:
    return f"{start}" if count == 1 else f"{start},{count}"


def _rows_of_pairs(pairs: list[LinePair], *, side_by_side: bool) -> list[DiffRow]:
    old, new = pairs[0]
    if old is not None and old is new:
        return [DiffRow(old, new)]
    if side_by_side:
        rows = [DiffRow(old, new) for old, new in pairs]
    else:
        rows = [DiffRow(old=old, other=new) for old, new in pairs if old is not None]
        rows += [DiffRow(new=new, other=old) for old, new in pairs if new is not None]
    rows[0] = rows[0]._replace(starts_change=True)
    return rows
