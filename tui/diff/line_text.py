"""Text of a changed line for display: characters that hide or imitate a difference are visible."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len

from beray.sanitize import printable

MAX_LINE_CHARS: Final = 10_000
"""Characters of a line that are displayed."""
_TAB: Final = 4
"""Distance between tab stops, in cells."""
_LEAD_CHARS: Final = 400
"""Characters that are displayed before the first difference of a very long line."""

_INVISIBLE = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u200c\u2060\u2061\u2062\u2063\u2064\u3164"
    "\ufeff\uffa0"
)


def _substitutes() -> dict[int, str]:
    # Before ``printable``, which removes colours and turns CR into a line break: the two
    # versions of a line could look the same.
    table = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) != "\t"}
    table |= dict.fromkeys((0x85, 0x2028, 0x2029), "\u2424")
    table |= dict.fromkeys(map(ord, _INVISIBLE), "\ufffd")
    table |= dict.fromkeys(range(0xE0000, 0xE0080), "\ufffd")  # tags
    return table


_SUBSTITUTES: Final = _substitutes()


def display_text(line: str) -> str:
    """Return a line without control characters, with its tabs as spaces."""
    if line.isascii() and line.isprintable():
        return line
    text = printable(line.translate(_SUBSTITUTES))
    return _expand_tabs(text) if "\t" in text else text


def _expand_tabs(text: str) -> str:
    first, *rest = text.split("\t")
    parts, column = [first], cell_len(first)
    for part in rest:
        spaces = _TAB - column % _TAB
        parts += " " * spaces, part
        column += spaces + cell_len(part)
    return "".join(parts)


def excerpt_start(line: str, other: str | None) -> int:
    """Return the index of the first displayed character of a line.

    It is 0, unless the line is too long to be displayed as a whole and differs from ``other``
    late.

    Args:
        line: The line.
        other: The other version of the line, if there is one.
    """
    if other is None or len(line) <= MAX_LINE_CHARS:
        return 0
    equal = common_prefix(line, other)
    last = len(line) - MAX_LINE_CHARS // 2
    return 0 if equal < MAX_LINE_CHARS // 2 else max(0, min(equal - _LEAD_CHARS, last))


def excerpt(line: str, start: int = 0) -> str:
    """Return the displayed characters of a line; ellipses replace the others.

    Args:
        line: The line, of any length.
        start: Index of the first displayed character.
    """
    shown = line[start : start + MAX_LINE_CHARS]
    omitted = len(line) - start - len(shown)
    text = display_text(shown)
    if start:
        text = f"… {text}"
    return f"{text} … {omitted:,} more characters" if omitted else text


def common_prefix(one: str, other: str) -> int:
    """Return the number of equal characters at the start of two strings."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high:  # bisection: slices are compared faster than characters
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def common_suffix(one: str, other: str, limit: int) -> int:
    """Return the number of equal characters at the end of two strings, at most ``limit``."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if one[len(one) - middle : len(one) - low] == other[len(other) - middle : len(other) - low]:
            low = middle
        else:
            high = middle - 1
    return low
