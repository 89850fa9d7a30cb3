"""Encodings of text files."""

from __future__ import annotations

import re
from pathlib import Path

from beray.charsets import BYTE_ORDER_MARKS, likely_encoding
from table_columns import TableInputError

_SAMPLE_SIZE = 1 << 16
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def decode_file(path: Path) -> tuple[str, list[str]]:
    """Return a file's text, and messages about its encoding.

    The encoding is that of the byte order mark; then UTF-16 if every other byte is NUL; then
    UTF-8 if the whole file is valid UTF-8; then the most likely older encoding.

    Raises:
        TableInputError: The file is not text.
    """
    data = path.read_bytes()
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _without_nul(path, *_decode(data[len(mark) :], encoding))
    if (utf_16 := _detect_utf_16(data[:_SAMPLE_SIZE])) is not None:
        text, problems = _decode(data, utf_16)
        return _without_nul(path, text, [f"read as {utf_16}, detected by its NUL bytes", *problems])
    try:
        return _without_nul(path, data.decode("utf-8"), [])
    except UnicodeDecodeError as error:
        invalid = f"byte 0x{data[error.start]:02x} at position {error.start:,} is not valid"
    likely = likely_encoding(data)
    if likely is None:
        raise TableInputError(f"{path.name} is not text")
    text, problems = _decode(data, likely)
    if likely != "utf-8":
        problems.insert(0, f"read as {likely}, the most likely encoding: in UTF-8, {invalid}")
    return _without_nul(path, text, problems)


def _detect_utf_16(start: bytes) -> str | None:
    """Return the UTF-16 encoding if almost every other byte is NUL, as in mostly ASCII text."""
    if start.count(0) * 10 < len(start) * 3:
        return None
    even, odd = start[::2].count(0), start[1::2].count(0)
    if min(even, odd) * 20 > max(even, odd):
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


def _decode(data: bytes, encoding: str) -> tuple[str, list[str]]:
    text = data.decode(encoding, errors="replace")
    invalid = text.count("\ufffd")
    return text, [f"characters that are invalid in {encoding}: {invalid:,}"] if invalid else []


def _without_nul(path: Path, text: str, problems: list[str]) -> tuple[str, list[str]]:
    """Remove NUL characters, and reject files with many control characters, which are not text."""
    if len(_CONTROL.findall(text[:_SAMPLE_SIZE])) * 10 > len(text[:_SAMPLE_SIZE]):
        raise TableInputError(f"{path.name} is not text")
    if count := text.count("\0"):
        return text.replace("\0", ""), [*problems, f"{count:,} NUL characters were removed"]
    return text, problems
