"""A line to type into, for what may be pasted from anywhere."""

from __future__ import annotations

from textual import events
from textual.widgets import Input

from beray.sanitize import one_line

MAX_GOAL_LENGTH = 100_000


class Line(Input):
    """An ``Input`` that holds printable text alone, whatever is put into it."""

    def validate_value(self, value: str) -> str:
        if value.isprintable():
            return value
        # Blanks at the ends are being typed.
        kept = len(value) - len(value.lstrip(" ")), len(value) - len(value.rstrip(" "))
        return " " * kept[0] + one_line(value, MAX_GOAL_LENGTH) + " " * kept[1]

    def _on_paste(self, event: events.Paste) -> None:
        """Put all of the lines, which ``Input`` would not."""
        event.prevent_default()
        event.stop()
        self.replace(" ".join(event.text.split("\n")), *sorted(self.selection))
