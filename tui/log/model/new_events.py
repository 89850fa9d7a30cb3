"""How much has come below, while the reader is above."""

from __future__ import annotations

from textual.content import Content
from textual.events import Click
from textual.widgets import Static

from tui.log.messages import EdgeWanted


class NewEvents(Static):
    """Says how much has come below; a click goes there."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._words = ""

    def show(self, count: int) -> None:
        words = f"▼ {count:,} new" if count > 0 else ""
        if words != self._words:
            # As long as it is as wide as before, nothing has to move.
            same = len(words) == len(self._words)
            self._words = words
            self.display = bool(words)
            self.update(Content(words), layout=not same)

    def on_click(self, event: Click) -> None:
        event.stop()
        self.post_message(EdgeWanted(end=True))
