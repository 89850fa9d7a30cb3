"""Bytes of a text or an HTML file as text, whatever their encoding."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from document import Unreadable

_MOST_BYTES = 64 << 20
_SAMPLE = 1 << 18
_AROUND = 200
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_MOST_DAMAGED = 20
"""Characters, where they are more than a tenth; beyond that it is no text."""
_META = re.compile(rb"""<meta[^>]{0,500}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# As browsers read them (WHATWG Encoding Standard): pages say the one and mean the other.
_MEANT = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030"}


def decoded(path: Path, *, of_html: bool) -> tuple[str, list[str]]:
    """The text of the file, and what was wrong with it.

    A byte order mark says the encoding, then an HTML page's ``<meta>``; else it is UTF-8 if
    it can be, and else what its letters make likely.

    Raises:
        Unreadable: it is too large, or not text.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise Unreadable(f"{path.name} has {size:,} bytes; text is read up to {_MOST_BYTES:,}")
    data = path.read_bytes()
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _by(path, data[len(mark) :], encoding)
    declared = _declared(data) if of_html else None
    if declared is not None:
        return _by(path, data, declared)
    if b"\0" not in data[:_SAMPLE]:
        try:
            return data.decode("utf-8"), []
        except UnicodeDecodeError:
            pass  # most likely an older encoding; the guess below says UTF-8 if it is that, damaged
    return _by(path, data, _likely(path, data))


def _declared(data: bytes) -> str | None:
    found = _META.search(data[:4096])
    if found is None:
        return None
    try:
        name = codecs.lookup(found[1].decode("ascii")).name
        "".encode(name)  # some codecs of Python are not of text
    except (LookupError, UnicodeDecodeError):
        return None
    # What can be read as ASCII up to this place is not UTF-16.
    return "utf-8" if name.startswith("utf-16") else _MEANT.get(name, name)


def _likely(path: Path, data: bytes) -> str:
    from charset_normalizer import from_bytes

    text = data.decode("utf-8", errors="replace")
    beyond_ascii = len(text) - len(text.encode("ascii", errors="ignore"))
    if text.count("\ufffd") * 10 < beyond_ascii:
        return "utf-8"  # a few broken bytes in what is UTF-8 otherwise
    sample = _sample(data)
    beyond = [letter for letter in sample.decode("cp1252", errors="replace") if letter > "\x7f"]
    if not any(letter.isalpha() or letter == "\ufffd" for letter in beyond):
        return "cp1252"  # nothing but signs, such as € and typographic quotes
    found = list(from_bytes(sample))
    if not found:
        raise Unreadable(f"{path.name} is not text")
    # Among those that are as good, the one that is most in use.
    best = found[0]
    equal = [one for one in found if (one.chaos, one.coherence) == (best.chaos, best.coherence)]
    names = [_MEANT.get(one.encoding, one.encoding) for one in found]
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


def _by(path: Path, data: bytes, encoding: str) -> tuple[str, list[str]]:
    text = data.decode(encoding, errors="replace")
    damaged = text.count("\ufffd")
    if damaged > _MOST_DAMAGED and damaged * 10 > len(text):
        raise Unreadable(f"{path.name} is not text")
    if damaged:
        return text, [f"{damaged:,} characters of {path.name} cannot be read as {encoding}"]
    return text, []
