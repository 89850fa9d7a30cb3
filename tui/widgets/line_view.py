"""A scrolling view of a document: lines, wrapped to its width, drawn row by row."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui import status, transcript
from tui.document import Document
from tui.widgets.ink import ink
from tui.wrapping import wrapped


class _Row(NamedTuple):
    text: str
    style: str
    mark: str


class LineView(ScrollView, can_focus=True):
    """Shows a document, and follows its end unless the reader has scrolled up.

    There is no widget for a line: a row is made when it is drawn. ``sync`` lays out
    only what is new in the document since the last time.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"line--gutter", *status.STYLES, *transcript.STYLES}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home,g", "scroll_home", "Top", show=False),
        Binding("end,G", "follow", "End", show=False),
    ]

    def __init__(self, *, follow: bool = True, id: str | None = None) -> None:
        super().__init__(id=id)
        self._document = Document()
        self._follow_end = follow
        self._following = follow
        self._rows: list[_Row] = []
        self._heights: list[int] = []
        self._first_line = 0
        self._width = 0

    @property
    def document(self) -> Document:
        return self._document

    @property
    def row_texts(self) -> list[str]:
        """The text of every row, without its gutter."""
        return [row.text for row in self._rows]

    def show(self, document: Document) -> None:
        """Show another document, from its end if the view follows, else from its top."""
        self._document = document
        self._following = self._follow_end
        self._lay_out_again()
        if not self._follow_end:
            self.scroll_to(y=0, animate=False)

    def sync(self) -> None:
        """Take over what has changed in the document."""
        document = self._document
        gone = min(document.dropped - self._first_line, len(self._heights))
        if gone > 0:
            rows_gone = sum(self._heights[:gone])
            del self._heights[:gone]
            del self._rows[:rows_gone]
            if not self._following:
                self.scroll_to(y=max(0, self.scroll_y - rows_gone), animate=False)
        self._first_line = document.dropped
        if self._heights:
            # The last line may have been continued.
            del self._rows[len(self._rows) - self._heights.pop() :]
        for line in document.lines[len(self._heights) :]:
            texts = wrapped(line.text, self._width - document.gutter)
            marks = [line.mark] + [""] * (len(texts) - 1)
            self._rows.extend(
                _Row(text, line.style, mark) for text, mark in zip(texts, marks, strict=True)
            )
            self._heights.append(len(texts))
        self.virtual_size = Size(0, len(self._rows))
        self._stay_at_end()
        self.refresh()

    def _stay_at_end(self) -> None:
        if self._following:
            # Forced: the scrollbar that allows it may not be there before the next layout.
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True)

    def _lay_out_again(self) -> None:
        self._rows.clear()
        self._heights.clear()
        self._first_line = self._document.dropped
        self.sync()

    def on_resize(self, event: Resize) -> None:
        width = self.scrollable_content_region.width
        if width != self._width:
            self._width = width
            self._lay_out_again()
        else:
            self._stay_at_end()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if self._follow_end:
            self._following = round(new_value) >= self.max_scroll_y

    def action_follow(self) -> None:
        """Go to the end, and stay there."""
        self._following = self._follow_end
        self.scroll_to(y=self.max_scroll_y, animate=False)

    def render_line(self, y: int) -> Strip:
        number = self.scroll_offset.y + y
        base = self.rich_style
        if number >= len(self._rows):
            return Strip.blank(self.size.width, base)
        row = self._rows[number]
        style = ink(self, row.style)
        gutter = self._document.gutter
        segments = []
        if gutter:
            mark_style = style if gutter == 2 else ink(self, "line--gutter")
            segments.append(Segment(f"{row.mark:<{gutter}}", base + mark_style))
        segments.append(Segment(row.text, base + style))
        return Strip(segments).adjust_cell_length(self.size.width, base)
