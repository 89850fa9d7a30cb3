"""HTTP validators and byte ranges of files.

Source: RFC 9110, sections 8.8.3 (ETag), 13.1.2 (If-None-Match), 13.1.5 (If-Range), 14 (Range).
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import BinaryIO, Final

BLOCK_BYTES: Final = 1024 * 1024

# Limits the digits: no file has positions with more.
_RANGE: Final = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,999})-([0-9]{0,999})[ \t]*", re.IGNORECASE)
_ETAG: Final = re.compile(r'(?:W/)?("[^"]*")')


class IncompleteFile(Exception):
    """A file became shorter while it was sent, so the response is incomplete."""


class RangeNotSatisfiable(ValueError):
    """The range begins after the end of the file."""


def etag(status: os.stat_result) -> str:
    """Return a strong validator, which changes with the content and with the file."""
    # Includes ctime, because programs can reset mtime after writing.
    numbers = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return '"{}"'.format("-".join(f"{number:x}" for number in numbers))


def matches_if_none_match(if_none_match: str | None, current: str) -> bool:
    """Return True if the client has the representation with the ETag ``current``.

    Uses the weak comparison.
    """
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or current in _ETAG.findall(if_none_match)


def parse_range(header: str | None, if_range: str | None, current: str, size: int) -> range | None:
    """Return the byte positions that a Range header requests, or None for the whole file.

    A header is ignored if it is malformed, uses another unit or has several ranges, or if
    If-Range is not exactly the strong ETag ``current``. Dates in If-Range never match.

    Args:
        header: Value of Range, or None.
        if_range: Value of If-Range, or None.
        current: ETag of the file.
        size: Size of the file in bytes.

    Raises:
        RangeNotSatisfiable: The range begins after the end of the file.
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
    # The last bytes of an empty file are the whole file; there is no range to send.
    return range(max(size - int(last), 0), size) if size else None


def read_range(file: BinaryIO, positions: range) -> Generator[bytes, None, None]:
    """Yield exactly the bytes at ``positions``, in blocks of at most ``BLOCK_BYTES``.

    Raises:
        IncompleteFile: The file has become too short.
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
