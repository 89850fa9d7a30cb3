"""Rows of the log on the screen: drawn, selected, and found by their events."""

from __future__ import annotations

from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Offset
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from tui.log.model.match_highlights import Marks
from tui.log.render.row_layout import Place, Sheet
from tui.log.render.row_segments import GUTTER, STYLES, Palette, Span

_FAR: Final = 1 << 30
_REMEMBERED_ROWS: Final = 1000
"""Textual remembers of 16,384 styles how each is written. The number of a row is a part of
its styles here, so that nearly all of them would be those of rows that are long gone."""


class Drawing(ScrollView):
    """Draws a sheet. There is no widget for a row: it is made when it is drawn.

    Rows keep the number that they got when they were first shown, whatever is put
    before them or taken away there, so that what is selected stays selected.
    """

    ALLOW_SELECT = True
    COMPONENT_CLASSES: ClassVar[set[str]] = set(STYLES)
    DEFAULT_CSS = """
    Drawing {
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
        self.marks = Marks()
        self._palette = Palette(self)
        self._sheet = Sheet(lambda *_: None)
        self._cursor: int | None = None
        """The first event of the block that the cursor is on."""
        self._origin = 0
        self._drawn = 0

    @property
    def row_texts(self) -> list[str]:
        """The text of every row, without its gutter."""
        return [row.text for row in self._sheet.all_rows()]

    @property
    def unfolded(self) -> set[int]:
        return self._sheet.unfolded

    @property
    def sheet(self) -> Sheet:
        return self._sheet

    # Rows and events

    def shows(self, place: Place) -> bool:
        number = self._sheet.start(place.block) + place.row
        return 0 <= number - self.scroll_offset.y < self.size.height

    def edge(self, step: int) -> Place | None:
        """The first row on the screen, or for -1 the one behind the last."""
        top = self.scroll_offset.y
        if step > 0:
            return self._sheet.place(top)
        last = self._sheet.place(min(top + self.size.height, self._sheet.total) - 1)
        return None if last is None else Place(last.block, last.row + 1)

    # Drawing

    def render_line(self, y: int) -> Strip:
        number = self.scroll_offset.y + y
        base = self._palette.base()
        place = self._sheet.place(number)
        width = self.size.width
        if place is None:
            return Strip.blank(width, base)
        row, block = self._sheet.row(place), self._sheet.blocks[place.block]
        over = self._over(place, number)
        if block.first == self._cursor and place.row == 0 and self.has_focus:
            base += Style(bgcolor=self._palette.paper("log--cursor").bgcolor)
        mark = Style(meta={"offset": (0, number + self._origin)})
        gutter = Segment(
            f"{row.mark:<{GUTTER}}"[:GUTTER], base + self._palette.ink(row.style) + mark
        )
        content = Strip(self._palette.segments(row, base, over, block.faint))
        if not row.text:
            content = Strip([Segment(" ", base)])
        self._drawn += 1
        if self._drawn % _REMEMBERED_ROWS == 0:
            Strip.render_ansi.cache_clear()
        strip = Strip([gutter, *content.apply_offsets(0, number + self._origin)])
        return strip.adjust_cell_length(width, base)

    def _over(self, place: Place, number: int) -> list[Span]:
        over = [
            (start, end, self._palette.paper("log--found" if found else "log--match"))
            for start, end, found in self.marks.on(place)
        ]
        selection = self.text_selection
        span = selection.get_span(number + self._origin) if selection is not None else None
        if span is not None:
            start, end = span
            style = self.screen.get_component_rich_style("screen--selection")
            over.append((start, _FAR if end == -1 else end, style))
        return over

    # Selecting

    @property
    def allow_select(self) -> bool:
        return True

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected rows; those that are one line of the text are put together again."""
        start = selection.start or Offset(0, self._origin)
        end = selection.end or Offset(_FAR, self._origin + self._sheet.total - 1)
        parts: list[str] = []
        for y in range(start.y, end.y + 1):
            place = self._sheet.place(y - self._origin)
            if place is None:
                continue
            row = self._sheet.row(place)
            part = row.text[start.x if y == start.y else 0 : end.x if y == end.y else None]
            if parts and not row.joined:
                parts.append("\n")
            parts.append(part)
        return "".join(parts), "\n"
