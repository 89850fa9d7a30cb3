"""Text as printable lines with a gutter, the input of ``LineView``."""

from __future__ import annotations

from typing import Final, NamedTuple

from beray.sanitize import printable

MAX_LINE_CHARACTERS: Final = 2000
"""Longer lines are broken at this length, which limits the layout cost of a line."""
_TAB: Final = 8


class DocumentLine(NamedTuple):
    """Line of a document."""

    text: str
    style: str
    """Component class of the view."""
    mark: str = ""
    """Text of the gutter in the first row of the line."""


class Document:
    """Lines with an optional gutter. ``append`` makes all text printable.

    Args:
        gutter: Width of the gutter in cells.
    """

    def __init__(self, gutter: int = 0) -> None:
        self.gutter = gutter
        self.lines: list[DocumentLine] = []

    def append(self, text: str, style: str, mark: str = "") -> None:
        """Add ``text`` as separate lines; ``mark`` is shown in front of the first one."""
        for whole in printable(text).split("\n"):
            line = whole.expandtabs(_TAB)
            for at in range(0, len(line) or 1, MAX_LINE_CHARACTERS):
                self.lines.append(DocumentLine(line[at : at + MAX_LINE_CHARACTERS], style, mark))
                mark = ""
