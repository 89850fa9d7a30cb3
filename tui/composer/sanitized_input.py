"""Input for text from untrusted sources."""

from __future__ import annotations

from textual import events
from textual.widgets import Input

from beray.sanitize import one_line

MAX_CHARS = 100_000


class SanitizedInput(Input):
    """``Input`` whose value is sanitized and on one line."""

    def validate_value(self, value: str) -> str:
        if value.isprintable():
            return value
        # Spaces at the ends are kept, because the user may be typing.
        blanks = len(value) - len(value.lstrip(" ")), len(value) - len(value.rstrip(" "))
        return " " * blanks[0] + one_line(value, MAX_CHARS) + " " * blanks[1]

    def on_paste(self, event: events.Paste) -> None:
        """Insert all lines of the text; ``Input`` would insert only the first one."""
        event.prevent_default()
        event.stop()
        self.replace(" ".join(event.text.split("\n")), *sorted(self.selection))
