"""Encodings of text files."""

from __future__ import annotations

import re
from pathlib import Path

from beray.charsets import BYTE_ORDER_MARKS, likely_encoding
from table_names import BadInput

_START = 1 << 16
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def decoded(path: Path) -> tuple[str, list[str]]:
    """Return a file's text, and messages about its encoding.

    A byte order mark decides; else it is UTF-8 if the whole file is valid UTF-8, UTF-16 by its
    pattern of NUL bytes, or the most likely older encoding.

    Raises:
        BadInput: The file is not text.
    """
    data = path.read_bytes()
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _without_nul(path, *_by(data[len(mark) :], encoding))
    if (wide := _wide(data[:_START])) is not None:
        text, problems = _by(data, wide)
        return _without_nul(path, text, [f"read as {wide}, detected by its NUL bytes", *problems])
    try:
        return _without_nul(path, data.decode("utf-8"), [])
    except UnicodeDecodeError as error:
        at = f"byte 0x{data[error.start]:02x} at position {error.start:,} is not valid"
    likely = likely_encoding(data)
    if likely is None:
        raise BadInput(f"{path.name} is not text")
    text, problems = _by(data, likely)
    if likely != "utf-8":
        problems.insert(0, f"read as {likely}, the most likely encoding: in UTF-8, {at}")
    return _without_nul(path, text, problems)


def _wide(start: bytes) -> str | None:
    """Return UTF-16 if almost every other byte is NUL, as in text of mostly ASCII."""
    if start.count(0) * 10 < len(start) * 3:
        return None
    even, odd = start[::2].count(0), start[1::2].count(0)
    if min(even, odd) * 20 > max(even, odd):
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


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
