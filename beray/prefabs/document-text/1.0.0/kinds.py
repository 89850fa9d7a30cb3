"""What kind of document a file is: by what is in it first, by its name where that is open."""

from __future__ import annotations

import enum
import re
import zipfile
from pathlib import Path

from document import Encrypted, Unreadable
from pdf_evidence import is_pdf

_HTML_NAMES = (".html", ".htm", ".xhtml")
_HTML_START = re.compile(
    rb"(?:\s|\xef\xbb\xbf|<\?xml[^>]*>|<!--.*?-->)*<(!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")


class Kind(enum.Enum):
    PDF = "pdf"
    DOCX = "docx"
    HTML = "html"
    TEXT = "text"


def kind_of(path: Path) -> Kind:
    """Return the kind of a file.

    Raises:
        Unreadable: The file is missing, or of a kind that is not supported.
    """
    if not path.is_file():
        raise Unreadable(f"{path.name} does not exist or is not a file")
    with path.open("rb") as file:
        start = file.read(4096)
    if is_pdf(path):
        return Kind.PDF
    if start.startswith(b"PK\x03\x04"):
        return _of_archive(path)
    if start.startswith(_OLE):
        _refuse_ole(path)
    suffix = path.suffix.lower()
    if not start and suffix in (".pdf", ".docx"):
        raise Unreadable(f"{path.name} is empty")  # a text can be, but such a file is cut
    if suffix == ".pdf":
        raise Unreadable(f"{path.name} is not a PDF: it has no %PDF- in its first 1,024 bytes")
    if suffix == ".docx":
        raise Unreadable(f"{path.name} is not a Word document (DOCX): it is not a ZIP archive")
    if suffix in _HTML_NAMES or (suffix == "" and _HTML_START.match(start)):
        return Kind.HTML
    return Kind.TEXT


def _of_archive(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise Unreadable(f"{path.name} is damaged: {error}") from None
    if "[Content_Types].xml" in names and any(name.startswith("word/") for name in names):
        return Kind.DOCX
    raise Unreadable(f"{path.name} is an archive or a document of a kind that is not read here")


def _refuse_ole(path: Path) -> None:
    """Word encrypts into a container that old Word files are, too."""
    with path.open("rb") as file:
        head = file.read(8 << 20)
    if _ENCRYPTED_STREAM in head:
        raise Encrypted(f"{path.name} is encrypted; save it without a password")
    raise Unreadable(f"{path.name} is in an old format of Office; save it as DOCX")
