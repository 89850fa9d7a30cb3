"""Text as lines in a bounded window: what the line views show.

A document holds safe text only: ``append`` and ``extend`` pass what they get
through the gate. Lines are numbered from the first that was ever added, so that a
view can tell what it has shown, what is new and what has left the window.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from beray.text import printable

MAX_LINES: Final = 6000
_TRIM_LINES: Final = 1000
MAX_LINE_CHARACTERS: Final = 2000
"""A longer line is broken here, so that no line costs more than this to lay out."""
_TAB: Final = 8


class Line(NamedTuple):
    text: str
    style: str
    """A component class of the view."""
    mark: str = ""
    """What stands in the gutter before the line's first row."""


class Document:
    """Lines, the oldest of which leave when there are more than ``max_lines``."""

    def __init__(self, gutter: int = 0, max_lines: int = MAX_LINES) -> None:
        self.gutter = gutter
        self.lines: list[Line] = []
        self.dropped = 0
        self._max_lines = max_lines
        self._ends_open = False

    @property
    def end(self) -> int:
        """The number that the next line gets."""
        return self.dropped + len(self.lines)

    def append(self, text: str, style: str, mark: str = "") -> None:
        """Add ``text`` as lines of their own; the mark stands before the first."""
        self._ends_open = False
        for part in self._parts(text):
            self.lines.append(Line(part, style, mark))
            mark = ""
        self._trim()

    def extend(self, text: str, style: str, mark: str = "") -> None:
        """Add flowing text: it goes on where the last ``extend`` left off.

        A final newline ends the line; without one the next text continues it.
        """
        if not text:
            return
        if self._ends_open and self.lines and self.lines[-1].style == style:
            last = self.lines.pop()
            text, mark = last.text + text, last.mark
        safe = printable(text)
        self._ends_open = not safe.endswith("\n")
        for part in self._parts(safe if self._ends_open else safe[:-1]):
            self.lines.append(Line(part, style, mark))
            mark = ""
        self._trim()

    def close_line(self) -> None:
        """Let the next text begin on a line of its own."""
        self._ends_open = False

    @staticmethod
    def _parts(text: str) -> list[str]:
        parts: list[str] = []
        for whole in printable(text).split("\n"):
            line = whole.expandtabs(_TAB)
            if len(line) <= MAX_LINE_CHARACTERS:
                parts.append(line)
            else:
                steps = range(0, len(line), MAX_LINE_CHARACTERS)
                parts.extend(line[at : at + MAX_LINE_CHARACTERS] for at in steps)
        return parts

    def _trim(self) -> None:
        if len(self.lines) > self._max_lines:
            # In large steps: a view moves its rows at each.
            excess = len(self.lines) - self._max_lines + min(_TRIM_LINES, self._max_lines // 2)
            del self.lines[:excess]
            self.dropped += excess
