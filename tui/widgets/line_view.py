"""Scrolling view of a document."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.document import Document
from tui.widgets.drawing import foreground_style
from tui.wrapping import wrapped


class _Row(NamedTuple):
    text: str
    style: str
    mark: str


class LineView(ScrollView, can_focus=True):
    """Document viewer that wraps lines to its width and draws them without child widgets."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"line--gutter", "event--output", "event--note"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home,g", "scroll_home", "Top", show=False),
        Binding("end,G", "scroll_end", "End", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._document = Document()
        self._rows: list[_Row] = []
        self._width = 0

    @property
    def row_texts(self) -> list[str]:
        """Text of each row without its gutter."""
        return [row.text for row in self._rows]

    def show(self, document: Document) -> None:
        """Show another document from its top."""
        self._document = document
        self._lay_out()
        self.scroll_to(y=0, animate=False)

    def _lay_out(self) -> None:
        self._rows = []
        for line in self._document.lines:
            mark = line.mark
            for text in wrapped(line.text, self._width - self._document.gutter):
                self._rows.append(_Row(text, line.style, mark))
                mark = ""
        self.virtual_size = Size(0, len(self._rows))
        self.refresh()

    def on_resize(self, event: Resize) -> None:
        width = self.scrollable_content_region.width
        if width != self._width:
            self._width = width
            self._lay_out()

    def render_line(self, y: int) -> Strip:
        number = self.scroll_offset.y + y
        base = self.rich_style
        if number >= len(self._rows):
            return Strip.blank(self.size.width, base)
        row = self._rows[number]
        gutter = self._document.gutter
        segments = [Segment(row.text, base + foreground_style(self, row.style))]
        if gutter:
            mark = f"{row.mark:<{gutter}}"
            segments.insert(0, Segment(mark, base + foreground_style(self, "line--gutter")))
        return Strip(segments).adjust_cell_length(self.size.width, base)
