"""Layout of a changed file: the rows of the screen that each of its lines needs.

Only the heights of all lines are computed. Their text is divided into rows when it is drawn.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len

from tui.diff.line_text import MAX_LINE_CHARS, excerpt, excerpt_start
from tui.diff.lines import DiffLine, DiffRow
from tui.wrapping import wrapped

_PIECE_CHARS: Final = 2000
"""Length at which lines are broken anyway, to limit the cost of measuring them."""
_MIN_CELLS: Final = 8
"""Minimum width of the text of a line."""
MIN_DIGITS: Final = 3
"""Minimum width of line numbers."""
UNENDED: Final = " (no newline at end of file)"
"""Text after a last line that has no newline."""


class Columns(NamedTuple):
    """Widths of the columns in cells.

    Attributes:
        digits: Width of a line number.
        old: Width of the text on the left; in a unified view, of all text.
        new: Width of the text on the right.
        side_by_side: Whether there are two columns of text.
    """

    digits: int
    old: int
    new: int
    side_by_side: bool


def columns(width: int, last_number: int, *, side_by_side: bool) -> Columns:
    """Divide a width among the columns.

    A unified row has two line numbers and a mark, each side of another row has one line number and
    a mark; all are followed by a space.

    Args:
        width: Width of the view in cells.
        last_number: Greatest line number.
        side_by_side: Whether there are two columns of text.
    """
    digits = max(MIN_DIGITS, len(str(last_number)))
    if not side_by_side:
        text = max(_MIN_CELLS, width - 2 * (digits + 1) - 2)
        return Columns(digits, text, text, side_by_side=False)
    left = (width - 1) // 2
    gutter = digits + 3
    return Columns(
        digits, max(_MIN_CELLS, left - gutter), max(_MIN_CELLS, width - 1 - left - gutter), True
    )


def line_excerpt(line: DiffLine, other: DiffLine | None) -> str:
    """Return the displayed text of a line; ``other`` is the other version of the line."""
    start = excerpt_start(line.text, None if other is None else other.text)
    return excerpt(line.text, start) + (UNENDED if line.unended else "")


def text_rows(text: str, width: int) -> list[str]:
    """Divide displayed text into rows of a column."""
    if len(text) <= _PIECE_CHARS:
        return wrapped(text, width)
    return [
        row
        for at in range(0, len(text), _PIECE_CHARS)
        for row in wrapped(text[at : at + _PIECE_CHARS], width)
    ]


class DiffLayout:
    """Rows of a file in columns of given widths.

    Args:
        rows: Logical rows of the file.
        columns: Widths of the columns.

    Attributes:
        rows: As above.
        columns: As above.
        total: Number of rows on the screen.
        changes: First row of the screen of each change.
    """

    def __init__(self, rows: Sequence[DiffRow], columns: Columns) -> None:
        self.rows = rows
        self.columns = columns
        self._starts = array("L")
        self.changes: list[int] = []
        total = 0
        for row in rows:
            self._starts.append(total)
            if row.starts_change:
                self.changes.append(total)
            total += self._height(row)
        self.total = total

    def _height(self, row: DiffRow) -> int:
        if row.note:
            return 1
        if row.old is row.new and row.old is not None:
            narrow = min(self.columns.old, self.columns.new)
            return _line_height(row.old, None, narrow)
        old = new = 1
        if row.old is not None:
            old = _line_height(row.old, row.new or row.other, self.columns.old)
        if row.new is not None:
            new = _line_height(row.new, row.old or row.other, self.columns.new)
        return max(old, new)

    def locate(self, number: int) -> tuple[int, int] | None:
        """Return the index of a logical row, and the row in it, at a row of the screen."""
        if not 0 <= number < self.total:
            return None
        index = bisect_right(self._starts, number) - 1
        return index, number - self._starts[index]

    def first_row(self, index: int) -> int:
        """Return the first row of the screen of a logical row."""
        return self._starts[index]

    def next_change(self, number: int, step: int) -> int | None:
        """Return the index of the first change after a row of the screen.

        Args:
            number: Row of the screen.
            step: 1, or -1 for the last change before the row.
        """
        if step > 0:
            index = bisect_right(self.changes, number)
        else:
            index = bisect_left(self.changes, number) - 1
        return index if 0 <= index < len(self.changes) else None


def _line_height(line: DiffLine, other: DiffLine | None, width: int) -> int:
    text = line.text
    if len(text) <= width and text.isascii() and text.isprintable() and not line.unended:
        return 1
    if len(text) > MAX_LINE_CHARS:
        return len(text_rows(line_excerpt(line, other), width))
    shown = line_excerpt(line, None)
    return 1 if cell_len(shown) <= width else len(text_rows(shown, width))
