"""Types and text clean-up shared by the readers of all document formats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from beray.prefab import InputError

_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufdd0-\ufdef\ufffe\uffff]")
_SURROGATES = re.compile("[\ud800-\udfff]")


class DocumentError(InputError):
    """The document cannot be read. The message is shown to the caller."""


class EncryptedDocumentError(DocumentError):
    """The document is encrypted, and the password is missing or wrong."""


@dataclass(frozen=True)
class ExtractOptions:
    """Options of the function ``extract``."""

    markdown: bool = False
    """Keep headings, lists and tables as Markdown; otherwise return plain text."""
    layout: bool = False
    page_marks: bool = False
    keep_links: bool = False
    keep_navigation: bool = False
    pages: str = ""
    password: str = ""


@dataclass(frozen=True)
class TextPart:
    """Part of a document's text, including the separator from the previous part."""

    text: str
    page: int | None = None
    """Page number, counted from 1; None for formats without pages."""
    fraction: float = 1.0
    """Fraction of the document that has been read up to the end of this part, from 0 to 1."""


@dataclass
class Document:
    """Open document.

    Iterating over ``parts`` reads the text and adds to ``problems``.
    """

    kind: str
    """``pdf``, ``docx``, ``html`` or ``text``."""
    parts: Iterator[TextPart]
    pages: int | None = None
    title: str | None = None
    author: str | None = None
    created: str | None = None
    """Time of creation, ISO 8601."""
    problems: list[str] = field(default_factory=list)


def clean(text: str) -> str:
    """Remove control characters and noncharacters, and normalize line ends to newlines.

    Terminals would obey control characters. Surrogates, which cannot be encoded in UTF-8, are
    replaced by U+FFFD. A form feed becomes a newline.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    return _SURROGATES.sub("\ufffd", _CONTROL_CHARACTERS.sub("", text))


def metadata_line(value: object) -> str | None:
    """Return a title or a name from a document's metadata in one line; None if it is empty."""
    if not isinstance(value, str):
        return None
    return " ".join(clean(value[:4000]).split())[:500] or None
