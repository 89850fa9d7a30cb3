"""Reader for PDF files, based on pypdf."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pypdf import DocumentInformation, PageObject, PasswordType, PdfReader
from pypdf.generic import DictionaryObject

from beray.prefab import library_cause
from document import (
    Document,
    DocumentError,
    EncryptedDocumentError,
    ExtractOptions,
    TextPart,
    clean,
    metadata_line,
)
from pdf_detection import HEADER, HEADER_BYTES

_RANGE = re.compile(r"(\d{1,7})?\s*(?:(-)\s*(\d{1,7})?)?")
_MAX_PAGES = 100_000
_MAX_LISTED_PAGES = 20

# The problems of a document contain the errors; the log of pypdf would repeat them.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


def open_pdf(path: Path, options: ExtractOptions) -> Document:
    """Open a PDF, and decrypt it if necessary.

    Raises:
        DocumentError: The file is damaged, or does not have any of the selected pages.
        EncryptedDocumentError: The password is missing or wrong.
    """
    try:
        reader, pages = _read(path, path, options.password)
    except DocumentError:
        raise
    except Exception as error:  # noqa: BLE001 - pypdf raises arbitrary exceptions for damaged files
        retried = _read_from_header(path, options.password)
        if retried is None:
            raise DocumentError(f"{path.name} is damaged: {_cause(error)}") from None
        reader, pages = retried
    if pages == 0:
        raise DocumentError(f"{path.name} has no pages")
    if pages > _MAX_PAGES:
        raise DocumentError(f"{path.name} has {pages:,} pages; the limit is {_MAX_PAGES:,}")
    selected = selected_pages(options.pages, pages)
    if not selected:
        reason = f"selects no page of {path.name}, whose last page is {pages:,}"
        raise DocumentError(f"pages: {options.pages!r} {reason}")
    document = Document("pdf", iter(()), pages=pages)
    with suppress(Exception):  # invalid metadata does not make the text unreadable
        _describe(document, reader.metadata)
    document.parts = _parts(reader, selected, options, document.problems)
    return document


def selected_pages(ranges: str, pages: int) -> list[int]:
    """Return the existing pages that ``ranges`` selects, in ascending order.

    Args:
        ranges: Pages such as ``1-3,7,10-``; empty for all.
        pages: Number of pages of the document.

    Raises:
        DocumentError: ``ranges`` does not have this form.
    """
    if not ranges.strip():
        return list(range(1, pages + 1))
    selected: set[int] = set()
    for part in ranges.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None or not (found[1] or found[3]):
            raise DocumentError(
                f"pages: {part.strip()!r} is neither a page nor a range such as 2-5"
            )
        first = int(found[1] or 1)
        last = int(found[3] or pages) if found[2] else first
        selected.update(range(max(first, 1), min(last, pages) + 1))
    return sorted(selected)


def _read(path: Path, source: Path | io.BytesIO, password: str) -> tuple[PdfReader, int]:
    reader = PdfReader(source)
    if reader.is_encrypted:
        _decrypt(reader, path, password)
    return reader, len(reader.pages)


def _read_from_header(path: Path, password: str) -> tuple[PdfReader, int] | None:
    """Read a PDF without the bytes before its header: its offsets may be relative to the header.

    Return None if the file begins with the header, or cannot be read this way either.
    """
    data = path.read_bytes()
    start = data.find(HEADER, 0, HEADER_BYTES + len(HEADER))
    if start <= 0:
        return None
    try:
        return _read(path, io.BytesIO(data[start:]), password)
    except DocumentError:
        raise
    except Exception:  # noqa: BLE001 - the error of the first attempt is reported
        return None


def _decrypt(reader: PdfReader, path: Path, password: str) -> None:
    if reader.decrypt("") is not PasswordType.NOT_DECRYPTED:
        return
    if not password:
        raise EncryptedDocumentError(
            f"{path.name} is encrypted; pass its password in the parameter password"
        )
    if reader.decrypt(password) is PasswordType.NOT_DECRYPTED:
        raise EncryptedDocumentError(f"{path.name} is encrypted, and the password is wrong")


def _describe(document: Document, metadata: DocumentInformation | None) -> None:
    if metadata is None:
        return
    document.title = metadata_line(metadata.title)
    document.author = metadata_line(metadata.author)
    created = metadata.creation_date
    document.created = created.isoformat() if created is not None else None


def _parts(
    reader: PdfReader, selected: Sequence[int], options: ExtractOptions, problems: list[str]
) -> Iterator[TextPart]:
    empty: list[int] = []
    any_images = False
    separator = ""
    for done, number in enumerate(selected, 1):
        fraction = done / len(selected)
        text = ""
        try:
            page = reader.pages[number - 1]
            text = _page_text(page, options)
            if not text:
                page.get_contents()  # raises errors that extract_text hides
                empty.append(number)
                any_images = any_images or _has_images(page)
        except Exception as error:  # noqa: BLE001 - as above, for damaged pages
            problems.append(f"page {number} cannot be read: {_cause(error)}")
        if not text:
            yield TextPart("", number, fraction)
            continue
        mark = f"[page {number}]\n\n" if options.page_marks else ""
        yield TextPart(separator + mark + text + "\n", number, fraction)
        separator = "\n"
    if empty:
        problems.append(_empty_pages_message(empty, len(selected), any_images))


def _page_text(page: PageObject, options: ExtractOptions) -> str:
    text = clean(page.extract_text(extraction_mode="layout" if options.layout else "plain"))
    text = "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")
    if options.keep_links and (links := list(dict.fromkeys(_links(page)))):
        text += "\n\n" + "\n".join(f"<{link}>" if options.markdown else link for link in links)
    return text if text.strip() else ""


def _links(page: PageObject) -> Iterator[str]:
    for reference in page.get("/Annots", ()):
        annotation = reference.get_object()
        action = annotation.get("/A") if isinstance(annotation, DictionaryObject) else None
        target = action.get_object() if action is not None else None
        link = metadata_line(target.get("/URI")) if isinstance(target, DictionaryObject) else None
        if link is not None:
            yield link


def _has_images(page: PageObject) -> bool:
    resources = page.get("/Resources", DictionaryObject()).get_object()
    objects = resources.get("/XObject", DictionaryObject()).get_object()
    return any(each.get_object().get("/Subtype") == "/Image" for each in objects.values())


def _empty_pages_message(empty: list[int], read: int, any_images: bool) -> str:
    if len(empty) == read:
        message = "no page has text"
    else:
        more = ", …" if len(empty) > _MAX_LISTED_PAGES else ""
        listed = ", ".join(map(str, empty[:_MAX_LISTED_PAGES])) + more
        message = f"{len(empty)} of {read} pages ({listed}) have no text"
    if any_images:
        message += "; text in images, such as scanned pages, is not recognised"
    return message


def _cause(error: Exception) -> str:
    """Return the cause of an error in one line."""
    return library_cause(error, __file__) or f"unexpected content ({type(error).__name__})"
