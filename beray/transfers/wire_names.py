"""File names on the wire: any bytes, written as valid Unicode.

A file name on Linux is a sequence of bytes, and archives often contain names in old encodings.
JSON, URLs and ZIP archives carry Unicode. On the wire, a byte that is not part of valid UTF-8 is
written as ``ESCAPE`` and two hexadecimal digits: ``b"caf\\xe9"`` is ``caf␦E9``. Every other name is
unchanged, except that an ``ESCAPE`` in front of something that looks like such a byte is written
as the three bytes of its UTF-8. So ``encode`` is injective, and ``decode`` is its inverse.

Names are converted where they come from a file system or go to one, and nowhere else. Windows and
macOS have no names of arbitrary bytes: there, a file has its wire name.

Source: Unicode Standard, chapter 3.9 (UTF-8); PEP 383 (surrogateescape).
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

ESCAPE: Final = "\u2426"
"""SYMBOL FOR SUBSTITUTE FORM TWO. Printable, and the same in all normalization forms and cases."""
ANY_BYTES: Final = os.name == "posix" and sys.platform != "darwin"
"""True if file systems of this platform have names that are not UTF-8."""
LONGEST_BYTE: Final = 5
"""Most bytes of UTF-8 that one byte of a name becomes."""

_ESCAPED: Final = re.compile(ESCAPE.encode() + b"([89A-F][0-9A-F])")
_AMBIGUOUS: Final = re.compile(ESCAPE + "(?=[89A-F][0-9A-F])")
_ESCAPED_ESCAPE: Final = "".join(f"{ESCAPE}{byte:02X}" for byte in ESCAPE.encode())
_UNDECODABLE: Final = re.compile("[\udc80-\udcff]")


def encode(name: bytes, *, any_bytes: bool = ANY_BYTES) -> str:
    """Return the wire name of a file or path.

    Args:
        name: as the file system has it, which is as ``os.fsencode`` returns it.
        any_bytes: True if names of the file system are arbitrary bytes; see ``decode``.
    """
    text = name.decode("utf-8", "surrogateescape")
    return accepted(_AMBIGUOUS.sub(_ESCAPED_ESCAPE, text) if any_bytes else text)


def decode(name: str, *, any_bytes: bool = ANY_BYTES) -> bytes:
    """Return the name of a file or path on disk, for ``os.fsdecode``.

    Escapes that ``encode`` does not produce, such as those of a whole character, are bytes too.
    None is the byte of ``/``, ``.`` or NUL, so a path has the same parts on the wire and on disk.

    Args:
        name: its wire name.
        any_bytes: True if names of the file system are arbitrary bytes. If not, the name is kept.

    Raises:
        UnicodeEncodeError: ``name`` contains a lone surrogate.
    """
    data = name.encode()
    return _ESCAPED.sub(_byte, data) if any_bytes else data


def accepted(name: str | bytes | os.PathLike[str]) -> str:
    """Return the wire name for a name that a user gives: a wire name, or as Python lists it.

    Python has a lone surrogate, which cannot be sent, in the place of each undecodable byte.
    """
    return _UNDECODABLE.sub(_escape, os.fsdecode(name))


def _byte(escaped: re.Match[bytes]) -> bytes:
    return bytes((int(escaped[1], 16),))


def _escape(undecodable: re.Match[str]) -> str:
    return f"{ESCAPE}{ord(undecodable[0]) - 0xDC00:02X}"
