"""Line wrapping by terminal cells."""

from __future__ import annotations

from bisect import bisect_left

from rich.cells import cell_len, split_graphemes


def wrapped(text: str, width: int) -> list[str]:
    """Split ``text``, which contains no newline, into rows of at most ``width`` cells.

    Rows break after a space if there is one in their second half, otherwise between any
    two graphemes.
    """
    width = max(2, width)  # a wide character needs two cells
    if text.isascii():
        if len(text) <= width:
            return [text]
        return _words(text, width)
    if cell_len(text) <= width:
        return [text]
    return _graphemes(text, width)


def _graphemes(text: str, width: int) -> list[str]:
    spans, _ = split_graphemes(text)
    starts = [start for start, _, _ in spans]
    rows: list[str] = []
    first = 0  # grapheme at which the row starts
    while first < len(spans):
        after, used = first, 0
        while after < len(spans) and (used + spans[after][2] <= width or after == first):
            used += spans[after][2]
            after += 1
        start = starts[first]
        if after < len(spans):
            end = starts[after]
            row = _shortened(text[start:end], text[end])
            after = bisect_left(starts, start + len(row), first + 1, after)
            end = starts[after]
        else:
            end = len(text)
        rows.append(text[start:end])
        first = after
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
