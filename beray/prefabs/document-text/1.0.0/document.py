"""What all kinds of documents have in common: what one is, and text that can be passed on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from beray.prefab import InputError

_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufdd0-\ufdef\ufffe\uffff]")
_SURROGATES = re.compile("[\ud800-\udfff]")


class Unreadable(InputError):
    """The document cannot be read. The text is shown to the caller."""


class Encrypted(Unreadable):
    """It cannot be read without a password, or not with the one that was given."""


@dataclass(frozen=True)
class Wishes:
    """How somebody wants the text."""

    markdown: bool = False
    layout: bool = False
    page_marks: bool = False
    keep_links: bool = False
    keep_navigation: bool = False
    pages: str = ""
    password: str = ""


@dataclass(frozen=True)
class Part:
    """A part of a document's text, with whatever separates it from the part before."""

    text: str
    page: int | None = None
    """Counted from 1, where the document has pages."""
    fraction: float = 1.0
    """How much of the document is read with it, from 0 to 1."""


@dataclass
class Document:
    """A document that is open. ``parts`` reads it; ``problems`` grows while it is read."""

    kind: str
    parts: Iterator[Part]
    pages: int | None = None
    title: str | None = None
    author: str | None = None
    created: str | None = None
    """ISO 8601."""
    problems: list[str] = field(default_factory=list)


def clean(text: str) -> str:
    """``text`` with nothing in it that is no text: it can be encoded, and is obeyed by nobody.

    Line ends become newlines; a form feed becomes one too.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    return _SURROGATES.sub("\ufffd", _UNWANTED.sub("", text))


def label(value: object) -> str | None:
    """A title or a name out of a document: one line, or ``None`` where it is empty."""
    if not isinstance(value, str):
        return None
    return " ".join(clean(value[:4000]).split())[:500] or None
