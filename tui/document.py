"""Text as lines, safe to show: what the view of a file is made of."""

from __future__ import annotations

from typing import Final, NamedTuple

from beray.sanitize import printable

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
    """Lines with a gutter of so many cells before them. All that is added goes through the gate."""

    def __init__(self, gutter: int = 0) -> None:
        self.gutter = gutter
        self.lines: list[Line] = []

    def append(self, text: str, style: str, mark: str = "") -> None:
        """Add ``text`` as lines of their own; the mark stands before the first."""
        for whole in printable(text).split("\n"):
            line = whole.expandtabs(_TAB)
            for at in range(0, len(line) or 1, MAX_LINE_CHARACTERS):
                self.lines.append(Line(line[at : at + MAX_LINE_CHARACTERS], style, mark))
                mark = ""
