"""Rendering and selection of the rows of a log."""

from __future__ import annotations

from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Offset
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from tui._textual_compat import clear_rendered_strips
from tui.log.render.match_highlights import MatchHighlights
from tui.log.render.row_layout import RowLayout, RowPosition
from tui.log.render.row_segments import COMPONENT_STYLES, GUTTER_WIDTH, Palette, StyleSpan

_UNBOUNDED: Final = 1 << 30
_CACHE_CLEAR_ROWS: Final = 1000
"""Number of rendered rows after which Textual's cache of rendered styles is cleared.

The cache has 16,384 entries. The row number is part of the styles here, so that most entries
would belong to rows that are no longer shown.
"""


class RowRenderer(ScrollView):
    """Scrollable view that renders the rows of a ``RowLayout`` on demand.

    For selections, rows keep the number they had when they were first shown, even if rows are
    added or dropped before them. So a selection stays on its text.
    """

    ALLOW_SELECT = True
    COMPONENT_CLASSES: ClassVar[set[str]] = set(COMPONENT_STYLES)
    DEFAULT_CSS = """
    RowRenderer {
        height: 1fr; overflow-x: hidden; scrollbar-gutter: stable; scrollbar-size-vertical: 1;
        padding: 0 0 0 1; background: $surface;
        .log--heading { color: $text-accent; text-style: bold; }
        .log--code { color: $text-warning; }
        .log--quote { color: $foreground 40%; }
        .log--bullet { color: $text-primary; }
        .log--link { color: $text-primary; }
        .log--address { color: $foreground 55%; }
        .log--strong { text-style: bold; }
        .log--faint { color: $foreground 50%; }
        .log--cursor { background: $primary 25%; }
        .log--match { background: $warning 35%; color: $foreground; }
        .log--found { background: $warning; color: $background; text-style: bold; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.highlights = MatchHighlights()
        self._palette = Palette(self)
        self._row_layout = RowLayout(lambda *_: None)
        self._cursor: int | None = None
        """Number of the first event of the block under the cursor."""
        self._first_row_number = 0
        self._rendered_rows = 0

    @property
    def row_texts(self) -> list[str]:
        """Text of every row, without its gutter."""
        return [row.text for row in self._row_layout.all_rows()]

    @property
    def unfolded(self) -> set[int]:
        """Numbers of the first events of unfolded blocks."""
        return self._row_layout.unfolded

    @property
    def row_layout(self) -> RowLayout:
        """Layout of the rows that are shown."""
        return self._row_layout

    # Rows and events

    def is_row_visible(self, position: RowPosition) -> bool:
        """Return True if the row is on the screen."""
        number = self._row_layout.first_row(position.block) + position.row
        return 0 <= number - self.scroll_offset.y < self.size.height

    def screen_edge(self, step: int) -> RowPosition | None:
        """Return the first row on the screen, or for -1 the row after the last one."""
        top = self.scroll_offset.y
        if step > 0:
            return self._row_layout.position(top)
        last = self._row_layout.position(min(top + self.size.height, self._row_layout.total) - 1)
        return None if last is None else RowPosition(last.block, last.row + 1)

    # Rendering

    def render_line(self, y: int) -> Strip:
        number = self.scroll_offset.y + y
        base = self._palette.base()
        position = self._row_layout.position(number)
        width = self.size.width
        if position is None:
            return Strip.blank(width, base)
        row, block = self._row_layout.row(position), self._row_layout.blocks[position.block]
        overlays = self._overlays(position, number)
        if block.first == self._cursor and position.row == 0 and self.has_focus:
            base += Style(bgcolor=self._palette.background("log--cursor").bgcolor)
        offset_meta = Style(meta={"offset": (0, number + self._first_row_number)})
        gutter = Segment(
            f"{row.symbol:<{GUTTER_WIDTH}}"[:GUTTER_WIDTH],
            base + self._palette.foreground(row.style) + offset_meta,
        )
        content = Strip(self._palette.segments(row, base, overlays, block.faint))
        if not row.text:
            content = Strip([Segment(" ", base)])
        self._rendered_rows += 1
        if self._rendered_rows % _CACHE_CLEAR_ROWS == 0:
            clear_rendered_strips()
        strip = Strip([gutter, *content.apply_offsets(0, number + self._first_row_number)])
        return strip.adjust_cell_length(width, base)

    def _overlays(self, position: RowPosition, number: int) -> list[StyleSpan]:
        overlays = [
            (start, end, self._palette.background("log--found" if is_current else "log--match"))
            for start, end, is_current in self.highlights.in_row(position)
        ]
        selection = self.text_selection
        span = (
            selection.get_span(number + self._first_row_number) if selection is not None else None
        )
        if span is not None:
            start, end = span
            style = self.screen.get_component_rich_style("screen--selection")
            overlays.append((start, _UNBOUNDED if end == -1 else end, style))
        return overlays

    # Selection

    @property
    def allow_select(self) -> bool:
        return True

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """Return the selected text; wrapped rows are joined to lines."""
        start = selection.start or Offset(0, self._first_row_number)
        end = selection.end or Offset(
            _UNBOUNDED, self._first_row_number + self._row_layout.total - 1
        )
        parts: list[str] = []
        for y in range(start.y, end.y + 1):
            position = self._row_layout.position(y - self._first_row_number)
            if position is None:
                continue
            row = self._row_layout.row(position)
            part = row.text[start.x if y == start.y else 0 : end.x if y == end.y else None]
            if parts and not row.continues_line:
                parts.append("\n")
            parts.append(part)
        return "".join(parts), "\n"
