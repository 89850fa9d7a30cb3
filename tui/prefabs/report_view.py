"""What a run says and gives, as it comes."""

from __future__ import annotations

from typing import ClassVar

from tui.document import Document
from tui.widgets.line_view import LineView
from tui.wrapping import wrapped


class ReportView(LineView):
    """Follows what comes, as long as the reader is at its end."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "event--text",
        "event--call",
        "event--file",
        "event--failure",
    }

    _due = False
    _line: int | None = None

    def follow(self, document: Document, line: int | None = None) -> None:
        """Show ``document``, which goes on where the last one ended.

        Args:
            line: what the reader comes to see, where he was at the end; otherwise the end.
        """
        was_at_end = self._due or self.scroll_offset.y >= self.max_scroll_y
        self._document = document
        self._lay_out()
        if was_at_end:
            self._due, self._line = True, line
            # How wide the lines are, and so where they are, is known behind a layout.
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
