"""Scrolling view of a document that grows."""

from __future__ import annotations

from typing import ClassVar

from tui.document import Document
from tui.widgets.line_view import LineView
from tui.wrapping import wrapped


class ReportView(LineView):
    """Document viewer that follows new lines while it is scrolled to the end."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "event--text",
        "event--call",
        "event--file",
        "event--failure",
    }

    _due = False
    _line: int | None = None

    def follow(self, document: Document, line: int | None = None) -> None:
        """Show ``document``, an extended version of the current one.

        Args:
            document: Document to show.
            line: Line to scroll to if the view was at the end; by default the new end.
        """
        was_at_end = self._due or self.scroll_offset.y >= self.max_scroll_y
        self._document = document
        self._lay_out()
        if was_at_end:
            self._due, self._line = True, line
            # Row positions are known only after the next layout.
            self.call_after_refresh(self._go)

    def _go(self) -> None:
        self._due = False
        if self._line is None:
            self.scroll_end(animate=False)
            return
        width = self._width - self._document.gutter
        before = self._document.lines[: self._line]
        row = sum(len(wrapped(line.text, width)) for line in before)
        self.scroll_to(y=row, animate=False)
