"""Decoding of text and HTML files in any encoding."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from beray.charsets import BYTE_ORDER_MARKS, likely_encoding
from document import DocumentError

_MAX_BYTES = 64 << 20
_SAMPLE_BYTES = 1 << 18
_MAX_INVALID_CHARACTERS = 20
"""A file with more invalid characters is not text if they are also more than a tenth of it."""
_META = re.compile(rb"""<meta[^>]{0,500}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
# Browsers decode these labels with a superset (WHATWG Encoding Standard), and pages rely on it.
_SUPERSETS = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030"}


def decode_text(path: Path, *, is_html: bool) -> tuple[str, list[str]]:
    """Return the text of a file, and messages about invalid characters.

    The encoding is that of the byte order mark; then, for HTML, the one in ``<meta>``; then
    UTF-8 if the whole file is valid UTF-8; then the most likely older encoding.

    Args:
        path: The file.
        is_html: Whether to look for an encoding in ``<meta>``.

    Raises:
        DocumentError: The file is too large, or is not text.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise DocumentError(f"{path.name} has {size:,} bytes; the limit for text is {_MAX_BYTES:,}")
    data = path.read_bytes()
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _decode(path, data[len(mark) :], encoding)
    declared = _declared_encoding(data) if is_html else None
    if declared is not None:
        return _decode(path, data, declared)
    if b"\0" not in data[:_SAMPLE_BYTES]:
        try:
            return data.decode("utf-8"), []
        except UnicodeDecodeError:
            pass  # an older encoding or damaged UTF-8; the detection below distinguishes them
    likely = likely_encoding(data, _SUPERSETS)
    if likely is None:
        raise DocumentError(f"{path.name} is not text")
    return _decode(path, data, likely)


def _declared_encoding(data: bytes) -> str | None:
    found = _META.search(data[:4096])
    if found is None:
        return None
    try:
        name = codecs.lookup(found[1].decode("ascii")).name
        "".encode(name)  # raises LookupError for codecs that are not text encodings, such as rot13
    except (LookupError, UnicodeDecodeError):
        return None
    # The declaration was found as ASCII bytes, so the file is not UTF-16.
    return "utf-8" if name.startswith("utf-16") else _SUPERSETS.get(name, name)


def _decode(path: Path, data: bytes, encoding: str) -> tuple[str, list[str]]:
    text = data.decode(encoding, errors="replace")
    invalid = text.count("\ufffd")
    if invalid > _MAX_INVALID_CHARACTERS and invalid * 10 > len(text):
        raise DocumentError(f"{path.name} is not text")
    if invalid:
        return text, [f"{path.name}: characters that are invalid in {encoding}: {invalid:,}"]
    return text, []
