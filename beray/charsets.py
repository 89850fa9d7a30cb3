"""Character encodings of text files, by their content. For functions of prefabs."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 1 << 18
_AROUND = 200
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")


def likely_encoding(data: bytes, aliases: Mapping[str, str] | None = None) -> str | None:
    """Return the most likely encoding of text without a byte order mark; None if it is not text.

    UTF-8 is returned also for text with a few damaged bytes. Needs charset-normalizer.

    Args:
        aliases: encodings to use in place of detected ones, by Python's names.
    """
    from charset_normalizer import from_bytes

    text = data.decode("utf-8", errors="replace")
    if text.count("\ufffd") * 10 < len(text) - len(text.encode("ascii", errors="ignore")):
        return "utf-8"
    sample = _sample(data)
    beyond = [letter for letter in sample.decode("cp1252", errors="replace") if letter > "\x7f"]
    if not any(letter.isalpha() or letter == "\ufffd" for letter in beyond):
        return "cp1252"  # nothing but signs, such as € and typographic quotes
    found = list(from_bytes(sample))
    if not found:
        return None
    # Among equally likely encodings, the one that is most in use.
    best = found[0]
    equal = [one for one in found if (one.chaos, one.coherence) == (best.chaos, best.coherence)]
    names = [(aliases or {}).get(one.encoding, one.encoding) for one in found]
    if any("cp1252" in one.could_be_from_charset for one in equal):
        names.insert(0, "cp1252")
    return next((name for name in names if _fits(data, name)), names[0])


def _sample(data: bytes) -> bytes:
    """Return lines with bytes beyond ASCII, wherever they are."""
    pieces: list[bytes] = []
    size = end = 0
    while size < _SAMPLE and (found := _BEYOND_ASCII.search(data, end)):
        line = data.rfind(b"\n", end, found.start()) + 1
        start = max(end, line, found.start() - _AROUND)
        end = min(len(data), found.start() + _AROUND)
        pieces.append(data[start:end])
        size += end - start
    return b"\n".join(pieces)


def _fits(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
