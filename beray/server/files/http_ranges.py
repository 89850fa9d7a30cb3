"""Which part of a file is asked for, whether the asker has it already, and its bytes.

Source: RFC 9110, 8.8.3 (ETag), 13.1.2 (If-None-Match), 13.1.5 (If-Range), 14 (Range).
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import BinaryIO, Final

BLOCK_BYTES: Final = 1024 * 1024

# Numbers of more digits than these are no position in any file.
_RANGE: Final = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,999})-([0-9]{0,999})[ \t]*", re.IGNORECASE)
_ETAG: Final = re.compile(r'(?:W/)?("[^"]*")')


class IncompleteFile(Exception):
    """A file changed under its reader: what was sent of it is not the whole."""


class RangeNotSatisfiable(ValueError):
    """The range begins behind the end of the file."""


def etag(status: os.stat_result) -> str:
    """A strong validator: it changes with the file's bytes, and with the file."""
    # ctime, too: a program can set mtime back after it has written.
    marks = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return '"{}"'.format("-".join(f"{mark:x}" for mark in marks))


def matches_if_none_match(if_none_match: str | None, current: str) -> bool:
    """Whether the asker has the representation with the ETag ``current`` (weak comparison)."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or current in _ETAG.findall(if_none_match)


def parse_range(header: str | None, if_range: str | None, current: str, size: int) -> range | None:
    """Return the byte positions that a Range header asks for; None for the whole file.

    A header that is malformed, in another unit or of several ranges is ignored, and so
    is one whose If-Range is not exactly the strong ETag ``current``: a date never is.

    Raises:
        RangeNotSatisfiable: nothing of the range is in the file.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None or (if_range is not None and if_range.strip() != current):
        return None
    first, last = match.groups()
    if first:
        if last and int(last) < int(first):
            return None
        if int(first) >= size:
            raise RangeNotSatisfiable
        return range(int(first), min(int(last) + 1 if last else size, size))
    if not last:
        return None
    if int(last) == 0:
        raise RangeNotSatisfiable
    # The end of an empty file is all of it, and has no positions to name.
    return range(max(size - int(last), 0), size) if size else None


def read_range(file: BinaryIO, positions: range) -> Generator[bytes, None, None]:
    """Give exactly the bytes at ``positions``, in blocks of at most ``BLOCK_BYTES``.

    Raises:
        IncompleteFile: the file has become shorter than that.
    """
    left = len(positions)
    if left and positions.start:
        file.seek(positions.start)
    while left:
        block = file.read(min(left, BLOCK_BYTES))
        if not block:
            raise IncompleteFile(f"a file became {left} bytes shorter while it was sent")
        left -= len(block)
        yield block
