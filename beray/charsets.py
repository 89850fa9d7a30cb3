"""Detection of the character encoding of text files, for prefab functions."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, as it begins with the same bytes
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 1 << 18
_CONTEXT_BYTES = 200
_NON_ASCII = re.compile(rb"[\x80-\xff]")


def likely_encoding(data: bytes, aliases: Mapping[str, str] | None = None) -> str | None:
    """Return the most likely encoding of text without a byte order mark; None if it is not text.

    UTF-8 is also returned for text with a few invalid bytes. Requires charset-normalizer.

    Args:
        data: Content of the file.
        aliases: Encodings to return instead of detected ones, by Python's names.
    """
    from charset_normalizer import from_bytes

    text = data.decode("utf-8", errors="replace")
    if text.count("\ufffd") * 10 < len(text) - len(text.encode("ascii", errors="ignore")):
        return "utf-8"
    sample = _sample(data)
    non_ascii = [letter for letter in sample.decode("cp1252", errors="replace") if letter > "\x7f"]
    if not any(letter.isalpha() or letter == "\ufffd" for letter in non_ascii):
        return "cp1252"  # only symbols, such as € and typographic quotes
    found = list(from_bytes(sample))
    if not found:
        return None
    # Of equally likely encodings, the most common one.
    best = found[0]
    equal = [
        match for match in found if (match.chaos, match.coherence) == (best.chaos, best.coherence)
    ]
    names = [(aliases or {}).get(match.encoding, match.encoding) for match in found]
    if any("cp1252" in match.could_be_from_charset for match in equal):
        names.insert(0, "cp1252")
    return next((name for name in names if _can_decode(data, name)), names[0])


def _sample(data: bytes) -> bytes:
    """Return excerpts around non-ASCII bytes, from the whole data."""
    pieces: list[bytes] = []
    size = end = 0
    while size < _SAMPLE_BYTES and (found := _NON_ASCII.search(data, end)):
        line = data.rfind(b"\n", end, found.start()) + 1
        start = max(end, line, found.start() - _CONTEXT_BYTES)
        end = min(len(data), found.start() + _CONTEXT_BYTES)
        pieces.append(data[start:end])
        size += end - start
    return b"\n".join(pieces)


def _can_decode(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
