"""Detection of PDF files (ISO 32000-2, 7.5): a header alone is not enough.

Real files have up to 1,024 bytes of other content before the header ``%PDF-``. A text about PDF
contains the same characters, so the structure of the file decides as well.
"""

from __future__ import annotations

import re
from pathlib import Path

HEADER = b"%PDF-"
HEADER_BYTES = 1024
"""The header begins within them."""
_HEAD_BYTES = 1 << 16
_TAIL_BYTES = 2048
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_OBJECT = re.compile(rb"(?:^|\s)\d{1,10}\s+\d{1,5}\s+obj\b")
_END = re.compile(rb"startxref\s+(\d{1,12})\s+%%EOF\s*$")
_TABLE = re.compile(rb"\s*(?:xref\b|\d{1,10}\s+\d{1,5}\s+obj\b)")


def is_pdf(path: Path) -> bool:
    """Return True if the file is a PDF, complete or damaged.

    With a header, any one of these makes it one: the name ends in ``.pdf``; the header or an
    object occurs together with binary data; the file begins with the header and has an object;
    or its end points to a cross-reference table.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        at = head.find(HEADER, 0, HEADER_BYTES + len(HEADER))
        if at < 0:
            return False
        if path.suffix.lower() == ".pdf":
            return True
        begins = not head[:at].removeprefix(b"\xef\xbb\xbf").strip()
        has_object = _OBJECT.search(head, at) is not None
        if _CONTROL.search(head):
            return begins or has_object
        if begins and has_object:
            return True
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        end = _END.search(file.read())
        if end is None:
            return False
        for start in {int(end[1]), at + int(end[1])}:
            file.seek(start)
            if _TABLE.match(file.read(64)):
                return True
    return False
