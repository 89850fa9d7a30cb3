"""Drawing of the rows of a changed file."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui.diff.intraline import Span, changed_spans
from tui.diff.layout import DiffLayout, line_excerpt, text_rows
from tui.diff.line_text import display_text
from tui.diff.lines import DiffLine, DiffRow, LineKind

COMPONENT_STYLES: Final = frozenset(
    {
        "diff--context",
        "diff--added",
        "diff--deleted",
        "diff--added-words",
        "diff--deleted-words",
        "diff--number",
        "diff--current",
        "diff--heading",
        "diff--empty",
        "diff--divider",
    }
)
_LINE_STYLES: Final = {
    LineKind.CONTEXT: "diff--context",
    LineKind.DELETED: "diff--deleted",
    LineKind.ADDED: "diff--added",
}
_MARKS: Final = {LineKind.CONTEXT: " ", LineKind.DELETED: "-", LineKind.ADDED: "+"}
_CACHED_ROWS: Final = 400

StyleOf = Callable[[str], Style]
"""Returns the style of a component class."""


class DiffPainter:
    """Painter of the rows of one layout. Rows that were drawn are kept.

    Args:
        layout: Layout of the file.
        style_of: Returns the styles of ``COMPONENT_STYLES``. Those of numbers and of the current
            change have no background.
    """

    def __init__(self, layout: DiffLayout, style_of: StyleOf) -> None:
        self._layout = layout
        self._style_of = style_of
        self._drawn: OrderedDict[tuple[int, bool], list[Strip]] = OrderedDict()

    def strip(self, number: int, current: range) -> Strip | None:
        """Return a row of the screen, or ``None`` after the last one.

        Args:
            number: Row of the screen.
            current: Indices of the logical rows of the current change.
        """
        found = self._layout.locate(number)
        if found is None:
            return None
        index, row = found
        key = index, index in current
        strips = self._drawn.get(key)
        if strips is None:
            strips = self._drawn[key] = self._draw(self._layout.rows[index], is_current=key[1])
            if len(self._drawn) > _CACHED_ROWS:
                self._drawn.popitem(last=False)
        return strips[row]

    def _draw(self, row: DiffRow, *, is_current: bool) -> list[Strip]:
        if row.note:
            return [Strip([Segment(f" {display_text(row.note)}", self._style_of("diff--heading"))])]
        columns = self._layout.columns
        number = self._style_of("diff--current" if is_current else "diff--number")
        if not columns.side_by_side:
            line = row.new or row.old
            assert line is not None
            gutter = f"{self._digits(line.old)} {self._digits(line.new)} "
            return self._line(line, row.other, gutter, columns.old, number)
        is_context = row.old is row.new
        left = right = []
        if row.old is not None:
            other = None if is_context else row.new
            left = self._line(row.old, other, f"{self._digits(row.old.old)} ", columns.old, number)
        if row.new is not None:
            other = None if is_context else row.old
            right = self._line(row.new, other, f"{self._digits(row.new.new)} ", columns.new, number)
        return self._beside(left, right)

    def _digits(self, number: int) -> str:
        return f"{number or '':>{self._layout.columns.digits}}"

    def _line(
        self, line: DiffLine, other: DiffLine | None, gutter: str, width: int, number: Style
    ) -> list[Strip]:
        """Return the rows of a line, each with a gutter and text of exactly ``width`` cells."""
        style = self._style_of(_LINE_STYLES[line.kind])
        text, spans = line_excerpt(line, other), []
        if other is not None:
            old, new = changed_spans(*_in_order(line, text, line_excerpt(other, line)))
            spans = old if line.kind is LineKind.DELETED else new
        highlight = style + self._style_of(f"{_LINE_STYLES[line.kind]}-words") if spans else style
        strips, mark, start = [], _MARKS[line.kind], 0
        for row in text_rows(text, width):
            content = Strip(_segments(row, start, spans, style, highlight))
            margin = [Segment(gutter, style + number), Segment(f"{mark} ", style)]
            strips.append(Strip([*margin, *content.adjust_cell_length(width, style)]))
            gutter, mark, start = " " * len(gutter), " ", start + len(row)
        return strips

    def _beside(self, left: Sequence[Strip], right: Sequence[Strip]) -> list[Strip]:
        columns = self._layout.columns
        empty, divider = self._style_of("diff--empty"), self._style_of("diff--divider")
        gutter = columns.digits + 3
        rows = []
        for index in range(max(len(left), len(right))):
            one, other = (
                side[index] if index < len(side) else Strip.blank(width + gutter, empty)
                for side, width in ((left, columns.old), (right, columns.new))
            )
            rows.append(Strip([*one, Segment("│", divider), *other]))
        return rows


def _in_order(line: DiffLine, text: str, other: str) -> tuple[str, str]:
    """Return the text of a line and of its other version, with the old version first."""
    return (text, other) if line.kind is LineKind.DELETED else (other, text)


def _segments(
    row: str, start: int, spans: Sequence[Span], style: Style, highlight: Style
) -> list[Segment]:
    """Return the segments of a row that starts at character ``start`` of its line."""
    segments: list[Segment] = []
    at = 0
    for first, last in spans:
        first, last = max(first - start, at), min(last - start, len(row))
        if first >= last:
            continue
        segments += Segment(row[at:first], style), Segment(row[first:last], highlight)
        at = last
    segments.append(Segment(row[at:], style))
    return [segment for segment in segments if segment.text]
