"""Table with a cursor, whose first column takes the space that the others leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui import sanitize

_WIDE: Final = 90
"""Width from which columns have their wide form."""
_FIRST_CELLS: Final = 16
"""Minimum width of the first column."""


class Column(NamedTuple):
    """Column after the first one.

    Attributes:
        title: Heading.
        cells: Width.
        wide_cells: Width in a wide table; 0 for the same width.
        right: Whether the values are aligned to the right.
    """

    title: str
    cells: int
    wide_cells: int = 0
    right: bool = False


class TableRow(NamedTuple):
    """Row of a table.

    Attributes:
        key: Identifies the row.
        values: Values of the columns, which may be untrusted.
        style: Style of the row, or "".
        wide_values: Values in a wide table; empty for the same values.
    """

    key: str
    values: Sequence[str]
    style: str = ""
    wide_values: Sequence[str] = ()


class TableRows(OptionList):
    """Rows of a table."""

    BINDING_GROUP_TITLE = "Rows"

    def __init__(self) -> None:
        super().__init__(markup=False, compact=True)


class Table(Vertical):
    """Table of rows that fit the width.

    Args:
        first: Heading of the first column.
        columns: The other columns.
        id: Id of the widget.
    """

    @dataclass(eq=False, repr=False)
    class Highlighted(Message):
        """The cursor is on another row, or the table is empty."""

        table: Table

        @property
        def control(self) -> Table:
            return self.table

    @dataclass(eq=False, repr=False)
    class EndReached(Message):
        """The cursor is on the last row, after which more rows can be read."""

        table: Table

        @property
        def control(self) -> Table:
            return self.table

    def __init__(self, first: str, columns: Sequence[Column], *, id: str) -> None:
        super().__init__(id=id)
        self._first = first
        self._columns = columns
        self._rows: Sequence[TableRow] = ()
        self._end = ""

    def compose(self) -> ComposeResult:
        yield Static(classes="table-head", markup=False)
        yield TableRows()

    @property
    def rows(self) -> TableRows:
        """The list of rows, which takes the focus."""
        return self.query_one(TableRows)

    @property
    def selected(self) -> str | None:
        """Key of the row under the cursor."""
        # The footer also calls this while the list is not mounted.
        at = next((rows.highlighted for rows in self.query(TableRows)), None)
        return self._rows[at].key if at is not None and at < len(self._rows) else None

    def show(self, rows: Sequence[TableRow], end: str = "") -> None:
        """Show ``rows``. The cursor stays on its row, or at its position if the row is missing.

        Args:
            rows: The rows.
            end: Text of the last line, if more rows can be read. "" if there are none.
        """
        before, options = self.selected, self.rows
        at = options.highlighted or 0
        self._rows, self._end = rows, end
        keys = [row.key for row in rows]
        if before in keys:
            at = keys.index(before)
        self._draw(min(at, len(keys) - 1) if keys else None)

    def on_resize(self) -> None:
        self._draw(self.rows.highlighted)

    def _draw(self, highlighted: int | None) -> None:
        width = self.rows.scrollable_content_region.width or self.rows.size.width
        wide = width >= _WIDE
        lines = [self._line(row, width, wide) for row in self._rows]
        head = self._cells([self._first, *(one.title for one in self._columns)], width, wide)
        self.query_one(".table-head", Static).update(Content(head))
        options = self.rows
        with options.prevent(OptionList.OptionHighlighted):
            options.set_options([Option(line) for line in lines])
            if self._end:
                options.add_option(Option(sanitize.line(self._end, 100, "dim")))
            options.highlighted = highlighted
        self.call_after_refresh(options.scroll_to_highlight)
        self.post_message(self.Highlighted(self))

    def _line(self, row: TableRow, width: int, wide: bool) -> Content:
        values = row.wide_values if wide and row.wide_values else row.values
        return Content.styled(self._cells(values, width, wide), row.style)

    def _cells(self, values: Sequence[str], width: int, wide: bool) -> str:
        gap = "  " if wide else " "
        widths = [one.wide_cells or one.cells if wide else one.cells for one in self._columns]
        # A narrow table has no space for the last columns.
        while widths and width < _FIRST_CELLS + sum(widths) + len(gap) * len(widths):
            widths.pop()
        left = width - sum(widths) - len(gap) * len(widths)
        parts = [sanitize.fitted(values[0], left)]
        for value, cells, column in zip(values[1:], widths, self._columns, strict=False):
            text = sanitize.fitted(value, cells)
            parts.append(text.rstrip().rjust(cells) if column.right else text)
        return gap.join(parts)

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self.post_message(self.Highlighted(self))
        if self._end and event.option_index >= len(self._rows) - 1:
            self.post_message(self.EndReached(self))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
