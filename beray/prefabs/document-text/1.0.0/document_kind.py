"""Detection of a file's document format, by its content first and its name second."""

from __future__ import annotations

import enum
import re
import zipfile
from pathlib import Path
from typing import NoReturn

from document import DocumentError, EncryptedDocumentError
from pdf_detection import is_pdf

_HTML_NAMES = (".html", ".htm", ".xhtml")
_HTML_START = re.compile(
    rb"(?:\s|\xef\xbb\xbf|<\?xml[^>]*>|<!--.*?-->)*<(!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_OLE_SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_SEARCH_BYTES = 8 << 20
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")


class DocumentKind(enum.Enum):
    """Supported document formats."""

    PDF = "pdf"
    DOCX = "docx"
    HTML = "html"
    TEXT = "text"


def detect_kind(path: Path) -> DocumentKind:
    """Return the format of a file.

    Raises:
        DocumentError: The file does not exist, or its format is not supported.
        EncryptedDocumentError: The file is an encrypted Word document.
    """
    if not path.is_file():
        raise DocumentError(f"{path.name} does not exist or is not a file")
    with path.open("rb") as file:
        start = file.read(4096)
    if is_pdf(path):
        return DocumentKind.PDF
    if start.startswith(b"PK\x03\x04"):
        return _archive_kind(path)
    if start.startswith(_OLE_SIGNATURE):
        _reject_ole(path)
    suffix = path.suffix.lower()
    if not start and suffix in (".pdf", ".docx"):
        raise DocumentError(f"{path.name} is empty")  # unlike a text file, it was truncated
    if suffix == ".pdf":
        raise DocumentError(f"{path.name} is not a PDF: no %PDF- in its first 1,024 bytes")
    if suffix == ".docx":
        raise DocumentError(f"{path.name} is not a Word document (DOCX): it is not a ZIP archive")
    if suffix in _HTML_NAMES or (suffix == "" and _HTML_START.match(start)):
        return DocumentKind.HTML
    return DocumentKind.TEXT


def _archive_kind(path: Path) -> DocumentKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DocumentError(f"{path.name} is damaged: {error}") from None
    if "[Content_Types].xml" in names and any(name.startswith("word/") for name in names):
        return DocumentKind.DOCX
    raise DocumentError(
        f"{path.name} is a ZIP archive, but not a Word document (DOCX); "
        "supported formats are PDF, DOCX, HTML and text"
    )


def _reject_ole(path: Path) -> NoReturn:
    """Raise the error for an OLE container: an encrypted DOCX, or a legacy Office file."""
    with path.open("rb") as file:
        head = file.read(_OLE_SEARCH_BYTES)
    if _ENCRYPTED_STREAM in head:
        raise EncryptedDocumentError(f"{path.name} is encrypted; save it without a password")
    raise DocumentError(f"{path.name} is in a legacy Office format; save it as DOCX")
