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

    def follow(self, document: Document, begin: int | None = None) -> None:
        """Show ``document``, which goes on where the last one ended.

        Args:
            begin: the line to be at the top, if the reader was at the end.
        """
        was_at_end = self.scroll_offset.y >= self.max_scroll_y
        self._document = document
        self._lay_out()
        if not was_at_end:
            return
        if begin is None:
            self.scroll_end(animate=False, immediate=True)
        else:
            row = sum(
                len(wrapped(line.text, self._width - document.gutter))
                for line in document.lines[:begin]
            )
            self.scroll_to(y=row, animate=False, immediate=True)
