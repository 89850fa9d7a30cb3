"""Line wrapping by terminal cells."""

from __future__ import annotations

from rich.cells import cell_len, chop_cells


def wrapped(text: str, width: int) -> list[str]:
    """Split ``text``, which contains no newline, into rows of at most ``width`` cells.

    Rows break after a space if there is one in their second half, otherwise anywhere.
    """
    width = max(2, width)  # a wide character needs two cells
    if text.isascii():
        if len(text) <= width:
            return [text]
        return _words(text, width)
    if cell_len(text) <= width:
        return [text]
    rows: list[str] = []
    rest = text
    while rest:
        row = chop_cells(rest, width)[0]
        if len(row) < len(rest):
            row = _shortened(row, rest[len(row)])
        rows.append(row)
        rest = rest[len(row) :]
    return rows


def _words(text: str, width: int) -> list[str]:
    rows = []
    start = 0
    while start < len(text):
        row = text[start : start + width]
        if start + width < len(text):
            row = _shortened(row, text[start + width])
        rows.append(row)
        start += len(row)
    return rows


def _shortened(row: str, following: str) -> str:
    """Cut ``row`` after its last space, unless it ends with a word or is one long word."""
    if following == " ":
        return row
    space = row.rfind(" ")
    return row[: space + 1] if space >= len(row) // 2 else row
