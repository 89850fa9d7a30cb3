"""Encodings of text files."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from table_names import BadInput

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_START = 1 << 16
_SAMPLE = 1 << 18
_AROUND = 200
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def decoded(path: Path) -> tuple[str, list[str]]:
    """Return a file's text, and messages about its encoding.

    A byte order mark decides; else it is UTF-8 if the whole file is valid UTF-8, UTF-16 by its
    pattern of NUL bytes, or the most likely older encoding.

    Raises:
        BadInput: The file is not text.
    """
    data = path.read_bytes()
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _without_nul(path, *_by(data[len(mark) :], encoding))
    if (wide := _wide(data[:_START])) is not None:
        text, problems = _by(data, wide)
        return _without_nul(path, text, [f"read as {wide}, detected by its NUL bytes", *problems])
    try:
        return _without_nul(path, data.decode("utf-8"), [])
    except UnicodeDecodeError as error:
        at = f"byte 0x{data[error.start]:02x} at position {error.start:,} is not valid"
    encoding = _likely(path, data)
    text, problems = _by(data, encoding)
    if encoding != "utf-8":
        problems.insert(0, f"read as {encoding}, the most likely encoding: in UTF-8, {at}")
    return _without_nul(path, text, problems)


def _wide(start: bytes) -> str | None:
    """Return UTF-16 if almost every other byte is NUL, as in text of mostly ASCII."""
    if start.count(0) * 10 < len(start) * 3:
        return None
    even, odd = start[::2].count(0), start[1::2].count(0)
    if min(even, odd) * 20 > max(even, odd):
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


def _likely(path: Path, data: bytes) -> str:
    from charset_normalizer import from_bytes

    text = data.decode("utf-8", errors="replace")
    if text.count("\ufffd") * 10 < len(text) - len(text.encode("ascii", errors="ignore")):
        return "utf-8"  # with a few damaged bytes
    sample = _sample(data)
    beyond = [letter for letter in sample.decode("cp1252", errors="replace") if letter > "\x7f"]
    if not any(letter.isalpha() or letter == "\ufffd" for letter in beyond):
        return "cp1252"  # nothing but signs, such as € and typographic quotes
    found = list(from_bytes(sample))
    if not found:
        raise BadInput(f"{path.name} is not text")
    best = found[0]
    equal = [one for one in found if (one.chaos, one.coherence) == (best.chaos, best.coherence)]
    names = [one.encoding for one in found]
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


def _by(data: bytes, encoding: str) -> tuple[str, list[str]]:
    text = data.decode(encoding, errors="replace")
    damaged = text.count("\ufffd")
    return text, [f"{damaged:,} characters cannot be read as {encoding}"] if damaged else []


def _without_nul(path: Path, text: str, problems: list[str]) -> tuple[str, list[str]]:
    """Remove a few NUL characters; a file with many control characters is not text."""
    if len(_CONTROL.findall(text[:_START])) * 10 > len(text[:_START]):
        raise BadInput(f"{path.name} is not text")
    if count := text.count("\0"):
        return text.replace("\0", ""), [*problems, f"{count:,} NUL characters are left out"]
    return text, problems
