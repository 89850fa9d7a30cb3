"""Detection of PDF files by header and structure (ISO 32000-2, 7.5).

Real files have up to 1,024 bytes of other content before the header ``%PDF-``. A document about PDF
may contain the same characters, so the structure of the file is checked as well.
"""

from __future__ import annotations

import re
from pathlib import Path

HEADER = b"%PDF-"
HEADER_BYTES = 1024
"""Number of bytes at the start of a file within which the header begins."""
_HEAD_BYTES = 1 << 16
_TAIL_BYTES = 2048
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_OBJECT = re.compile(rb"(?:^|\s)\d{1,10}\s+\d{1,5}\s+obj\b")
_END = re.compile(rb"startxref\s+(\d{1,12})\s+%%EOF\s*$")
_XREF_TABLE = re.compile(rb"\s*(?:xref\b|\d{1,10}\s+\d{1,5}\s+obj\b)")


def is_pdf(path: Path) -> bool:
    """Return True if the file is a PDF, complete or damaged.

    A file with a header is a PDF if at least one of these conditions is met:

    - Its name ends in ``.pdf``.
    - It begins with the header or has a PDF object, and also contains binary data.
    - It begins with the header and has a PDF object.
    - Its end points to a cross-reference table.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        header_start = head.find(HEADER, 0, HEADER_BYTES + len(HEADER))
        if header_start < 0:
            return False
        if path.suffix.lower() == ".pdf":
            return True
        begins_with_header = not head[:header_start].removeprefix(b"\xef\xbb\xbf").strip()
        has_object = _OBJECT.search(head, header_start) is not None
        if _BINARY.search(head):
            return begins_with_header or has_object
        if begins_with_header and has_object:
            return True
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        end = _END.search(file.read())
        if end is None:
            return False
        for start in {int(end[1]), header_start + int(end[1])}:
            file.seek(start)
            if _XREF_TABLE.match(file.read(64)):
                return True
    return False
