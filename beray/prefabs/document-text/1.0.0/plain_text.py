"""Bytes of a text or an HTML file as text, whatever their encoding."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from beray.charsets import BYTE_ORDER_MARKS, likely_encoding
from document import Unreadable

_MOST_BYTES = 64 << 20
_SAMPLE = 1 << 18
_MOST_DAMAGED = 20
"""Characters, where they are more than a tenth; beyond that it is no text."""
_META = re.compile(rb"""<meta[^>]{0,500}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
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
    for mark, encoding in BYTE_ORDER_MARKS:
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
    likely = likely_encoding(data, _MEANT)
    if likely is None:
        raise Unreadable(f"{path.name} is not text")
    return _by(path, data, likely)


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


def _by(path: Path, data: bytes, encoding: str) -> tuple[str, list[str]]:
    text = data.decode(encoding, errors="replace")
    damaged = text.count("\ufffd")
    if damaged > _MOST_DAMAGED and damaged * 10 > len(text):
        raise Unreadable(f"{path.name} is not text")
    if damaged:
        return text, [f"{damaged:,} characters of {path.name} cannot be read as {encoding}"]
    return text, []
