"""Content encodings, undone piece by piece: and whether what was encoded came whole.

A compressed body says itself where it ends. The HTTP library does not look, so that a
body without a length which is cut by an orderly close would pass for a whole one.

Source: RFC 9110, 8.4.1 (gzip, deflate); RFC 1952, 2.2 (a gzip file has one or more members).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import requests
import urllib3

READ_BYTES: Final = 64 * 1024
ACCEPTED: Final = "gzip, deflate"
"""What can be undone here, for ``Accept-Encoding``."""
_GZIP: Final = 16 + zlib.MAX_WBITS
# In practice both forms go by the name of deflate; the first byte tells them apart.
_ZLIB_METHOD: Final = 8


def receiver(response: requests.Response) -> Callable[[], bytes]:
    """Give a function that returns the content as it arrives; b"" behind the last.

    It raises ``EOFError`` where an encoded body ends in the middle, ``zlib.error`` where it
    is not what it says it is, and otherwise what the HTTP library raises.
    """
    if not isinstance(response.raw, urllib3.BaseHTTPResponse):
        # A session of the caller's own may have another way to the server.
        pieces = response.iter_content(READ_BYTES)
        return lambda: next(pieces, b"")
    names = response.headers.get("Content-Encoding", "").lower().split(",")
    encodings = [name.strip() for name in names if name.strip() not in ("", "identity")]
    if len(encodings) != 1 or encodings[0] not in ("gzip", "x-gzip", "deflate"):
        return lambda: response.raw.read1(READ_BYTES, decode_content=True)
    inflater = Inflater(is_gzip=encodings[0] != "deflate")

    def receive() -> bytes:
        while not (content := inflater.more()):
            received = response.raw.read1(READ_BYTES, decode_content=False)
            if not received:
                inflater.require_end()
                return b""
            inflater.feed(received)
        return content

    return receive


class Inflater:
    """Undoes one encoding: ``feed`` it, then take all that there is ``more`` of."""

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._member = zlib.decompressobj(_GZIP) if is_gzip else None
        self._data = b""
        self._full = False  # the last piece was as large as can be: there may be more behind it
        self._begun = False
        self._ended = False  # at the end of a member, behind which there may be another

    def feed(self, data: bytes) -> None:
        self._data += data

    def more(self) -> bytes:
        """At most 64 KiB of content; b"" where more has to be fed first.

        Raises:
            zlib.error: it is not what it says it is.
        """
        while self._data or self._full:
            if self._ended and not self._goes_on():
                return b""
            self._begun = True
            if self._member is None:
                wraps = self._data[0] & 15 == _ZLIB_METHOD
                self._member = zlib.decompressobj(zlib.MAX_WBITS if wraps else -zlib.MAX_WBITS)
            content = self._member.decompress(self._data, READ_BYTES)
            self._full = len(content) == READ_BYTES
            self._ended = self._member.eof
            self._data = self._member.unused_data if self._ended else self._member.unconsumed_tail
            if content:
                return content
        return b""

    def _goes_on(self) -> bool:
        """Whether another member begins here. Padding, and what is no member, is left out."""
        self._full = False
        self._data = self._data.lstrip(b"\0") if self._is_gzip else b""
        if not self._data.startswith(b"\x1f"):
            self._data = b""
            return False
        self._member = zlib.decompressobj(_GZIP)
        return True

    def require_end(self) -> None:
        """Raise ``EOFError`` where the body has ended before its content did."""
        if self._begun and not self._ended:
            raise EOFError("the encoded body ends in the middle")
