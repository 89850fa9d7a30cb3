r"""File names on the wire: arbitrary bytes, encoded as valid Unicode.

A file name on Linux is a sequence of bytes, and archives often contain names in old encodings.
JSON, URLs and ZIP archives carry Unicode. On the wire, a byte that is not part of valid UTF-8 is
encoded as ``ESCAPE`` and two hexadecimal digits: ``b"caf\\xe9"`` becomes ``caf␦E9``. All other
names are unchanged, except that an ``ESCAPE`` before two such digits is itself encoded, as the
three bytes of its UTF-8. ``encode`` is therefore injective, and ``decode`` is its inverse.

Names are converted only when they are read from a file system or passed to one. Windows and macOS
do not allow arbitrary bytes in names: there, wire names and local names are the same.

Source: Unicode Standard, chapter 3.9 (UTF-8); PEP 383 (surrogateescape).
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

ESCAPE: Final = "\u2426"
"""SYMBOL FOR SUBSTITUTE FORM TWO: printable, unaffected by normalization and case folding."""
ANY_BYTES: Final = os.name == "posix" and sys.platform != "darwin"
"""True if file systems of this platform have names that are not UTF-8."""
MAX_BYTES_PER_NAME_BYTE: Final = 5
"""Maximum number of UTF-8 bytes that encode one byte of a name."""

_ESCAPED: Final = re.compile(ESCAPE.encode() + b"([89A-F][0-9A-F])")
_AMBIGUOUS: Final = re.compile(ESCAPE + "(?=[89A-F][0-9A-F])")
_ESCAPED_ESCAPE: Final = "".join(f"{ESCAPE}{byte:02X}" for byte in ESCAPE.encode())
_UNDECODABLE: Final = re.compile("[\udc80-\udcff]")


def encode(name: bytes, *, any_bytes: bool = ANY_BYTES) -> str:
    """Return the wire name of a file or path.

    Args:
        name: Local name as bytes, such as the result of ``os.fsencode``.
        any_bytes: True if names of the file system are arbitrary bytes; see ``decode``.
    """
    text = name.decode("utf-8", "surrogateescape")
    return to_wire_name(_AMBIGUOUS.sub(_ESCAPED_ESCAPE, text) if any_bytes else text)


def decode(name: str, *, any_bytes: bool = ANY_BYTES) -> bytes:
    """Return the local name of a file or path as bytes, for ``os.fsdecode``.

    Escapes that ``encode`` does not produce, such as those of valid UTF-8, are decoded as well. No
    escape stands for ``/``, ``.`` or NUL, so a path has the same parts on the wire and on disk.

    Args:
        name: Wire name.
        any_bytes: True if names of the file system are arbitrary bytes; False keeps escapes.

    Raises:
        UnicodeEncodeError: ``name`` contains a lone surrogate.
    """
    data = name.encode()
    return _ESCAPED.sub(_byte, data) if any_bytes else data


def to_wire_name(name: str | bytes | os.PathLike[str]) -> str:
    """Return the wire name for a name that may be a wire name or a local name.

    In local names, Python replaces each undecodable byte by a lone surrogate (PEP 383), which
    cannot be sent.
    """
    return _UNDECODABLE.sub(_escape, os.fsdecode(name))


def _byte(escaped: re.Match[bytes]) -> bytes:
    return bytes((int(escaped[1], 16),))


def _escape(undecodable: re.Match[str]) -> str:
    return f"{ESCAPE}{ord(undecodable[0]) - 0xDC00:02X}"
