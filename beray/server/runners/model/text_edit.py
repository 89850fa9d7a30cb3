r"""Replacement of text in files, independent of their line endings.

Models write ``\n`` as line ending, even if the file has CRLF. Searching therefore treats both as
equal, and the replacement gets the line endings of the surrounding text, so that an edit never
mixes them.
"""

from __future__ import annotations

import re
from typing import Final

_NEWLINE: Final = rb"\r?\n"


def find(data: bytes, old: bytes) -> list[tuple[int, int]]:
    r"""Return the ``(start, end)`` offsets of ``old`` in ``data``, without overlaps.

    ``\n`` and ``\r\n`` are treated as equal, unless ``old`` occurs exactly once byte for byte:
    then only that occurrence is returned.
    """
    exact = [(start, start + len(old)) for start in _occurrences(data, old)]
    if len(exact) == 1:
        return exact
    lines = _with_lf(old).split(b"\n")
    pattern = re.compile(_NEWLINE.join(re.escape(line) for line in lines))
    return [match.span() for match in pattern.finditer(data)]


def replace(data: bytes, places: list[tuple[int, int]], new: bytes) -> bytes:
    r"""Return ``data`` with ``new`` in all ``places`` that ``find`` returned.

    The line endings of ``new`` become those of the replaced text, or of the line that contains
    it. If that has ``\n`` and ``new`` has ``\r\n``, ``new`` is inserted unchanged, because the
    edit changes the line endings on purpose.
    """
    with_lf = _with_lf(new)
    with_crlf = with_lf.replace(b"\n", b"\r\n")
    parts: list[bytes] = []
    position, newline, last = 0, -1, data.rfind(b"\n")
    for start, end in places:
        parts.append(data[position:start])
        # The first line ending in or after the replaced text; after the last one, the last.
        if newline < start <= last:
            newline = data.find(b"\n", start)
        at = newline if start <= last else last
        parts.append(with_crlf if at > 0 and data[at - 1] == ord("\r") else new)
        position = end
    parts.append(data[position:])
    return b"".join(parts)


def _occurrences(data: bytes, old: bytes) -> list[int]:
    """Return the offsets where ``old`` occurs and does not begin within a CRLF."""
    starts = []
    start = data.find(old)
    while start >= 0:
        if data[start - 1 : start + 1] != b"\r\n":
            starts.append(start)
        start = data.find(old, start + len(old))
    return starts


def _with_lf(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n")
