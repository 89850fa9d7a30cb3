"""PDFs, by pypdf."""

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
from document import Document, Encrypted, Part, Unreadable, Wishes, clean, label
from pdf_evidence import HEADER, HEADER_BYTES

_RANGE = re.compile(r"(\d{1,7})?\s*(?:(-)\s*(\d{1,7})?)?")
_MOST_PAGES = 100_000
_MOST_NAMED = 20

# What it finds wrong is told in a document's problems; its log would say it once more.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


def open_pdf(path: Path, wishes: Wishes) -> Document:
    """A PDF, decrypted.

    Raises:
        Unreadable: it is damaged, or lacks all of the pages that are wished for.
        Encrypted: the password is missing, or wrong.
    """
    try:
        reader, pages = _read(path, path, wishes.password)
    except Unreadable:
        raise
    except Exception as error:  # noqa: BLE001 - of a damaged PDF, pypdf raises anything
        found = _from_header(path, wishes.password)
        if found is None:
            raise Unreadable(f"{path.name} is damaged: {_said(error)}") from None
        reader, pages = found
    if pages == 0:
        raise Unreadable(f"{path.name} has no pages")
    if pages > _MOST_PAGES:
        raise Unreadable(f"{path.name} claims to have {pages:,} pages; {_MOST_PAGES:,} are read")
    chosen = chosen_pages(wishes.pages, pages)
    if not chosen:
        raise Unreadable(f"none of the {pages} pages of {path.name} is among {wishes.pages}")
    document = Document("pdf", iter(()), pages=pages)
    with suppress(Exception):  # a title is an extra; a PDF without a sound one is no problem
        _describe(document, reader.metadata)
    document.parts = _parts(reader, chosen, wishes, document.problems)
    return document


def chosen_pages(wish: str, pages: int) -> list[int]:
    """The pages that ``wish`` names and that there are, each once, in their order.

    Raises:
        Unreadable: ``wish`` is not of the form ``1-3,7,10-``.
    """
    if not wish.strip():
        return list(range(1, pages + 1))
    chosen: set[int] = set()
    for part in wish.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None or not (found[1] or found[3]):
            raise Unreadable(f"pages: {part.strip()!r} is neither a page nor a range such as 2-5")
        first = int(found[1] or 1)
        last = int(found[3] or pages) if found[2] else first
        chosen.update(range(max(first, 1), min(last, pages) + 1))
    return sorted(chosen)


def _read(path: Path, source: Path | io.BytesIO, password: str) -> tuple[PdfReader, int]:
    reader = PdfReader(source)
    if reader.is_encrypted:
        _decrypt(reader, path, password)
    return reader, len(reader.pages)


def _from_header(path: Path, password: str) -> tuple[PdfReader, int] | None:
    """Read a PDF from its header on: places in it may count from there."""
    data = path.read_bytes()
    at = data.find(HEADER, 0, HEADER_BYTES + len(HEADER))
    if at <= 0:
        return None
    try:
        return _read(path, io.BytesIO(data[at:]), password)
    except Unreadable:
        raise
    except Exception:  # noqa: BLE001 - the error of the first attempt is reported
        return None


def _decrypt(reader: PdfReader, path: Path, password: str) -> None:
    if reader.decrypt("") is not PasswordType.NOT_DECRYPTED:
        return
    if not password:
        raise Encrypted(f"{path.name} is encrypted; pass its password as the parameter password")
    if reader.decrypt(password) is PasswordType.NOT_DECRYPTED:
        raise Encrypted(f"{path.name} is encrypted, and the password does not open it")


def _describe(document: Document, metadata: DocumentInformation | None) -> None:
    if metadata is None:
        return
    document.title = label(metadata.title)
    document.author = label(metadata.author)
    created = metadata.creation_date
    document.created = created.isoformat() if created is not None else None


def _parts(
    reader: PdfReader, chosen: Sequence[int], wishes: Wishes, problems: list[str]
) -> Iterator[Part]:
    empty: list[int] = []
    pictures = False
    said = False
    for done, number in enumerate(chosen, 1):
        fraction = done / len(chosen)
        text = ""
        try:
            page = reader.pages[number - 1]
            text = _text_of(page, wishes)
            if not text:
                page.get_contents()  # raises what the search for text keeps to itself
                empty.append(number)
                pictures = pictures or _has_pictures(page)
        except Exception as error:  # noqa: BLE001 - of a damaged page, pypdf raises anything
            problems.append(f"page {number} cannot be read: {_said(error)}")
        if not text:
            yield Part("", number, fraction)
            continue
        mark = f"[page {number}]\n\n" if wishes.page_marks else ""
        yield Part(("\n" if said else "") + mark + text + "\n", number, fraction)
        said = True
    if empty:
        problems.append(_about_empty(empty, len(chosen), pictures))


def _text_of(page: PageObject, wishes: Wishes) -> str:
    text = clean(page.extract_text(extraction_mode="layout" if wishes.layout else "plain"))
    text = "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")
    if wishes.keep_links and (links := list(dict.fromkeys(_links(page)))):
        text += "\n\n" + "\n".join(f"<{link}>" if wishes.markdown else link for link in links)
    return text if text.strip() else ""


def _links(page: PageObject) -> Iterator[str]:
    for reference in page.get("/Annots", ()):
        annotation = reference.get_object()
        action = annotation.get("/A") if isinstance(annotation, DictionaryObject) else None
        target = action.get_object() if action is not None else None
        link = label(target.get("/URI")) if isinstance(target, DictionaryObject) else None
        if link is not None:
            yield link


def _has_pictures(page: PageObject) -> bool:
    resources = page.get("/Resources", DictionaryObject()).get_object()
    objects = resources.get("/XObject", DictionaryObject()).get_object()
    return any(each.get_object().get("/Subtype") == "/Image" for each in objects.values())


def _about_empty(empty: list[int], read: int, pictures: bool) -> str:
    named = ", ".join(map(str, empty[:_MOST_NAMED])) + (", …" if len(empty) > _MOST_NAMED else "")
    what = (
        "no page has" if len(empty) == read else f"{len(empty)} of {read} pages ({named}) have no"
    )
    text = f"{what} text"
    if pictures:
        text += ": they are pictures, as scanned pages are, and text in pictures is not recognised"
    return text


def _said(error: Exception) -> str:
    """Return the cause of an error in one line."""
    return library_cause(error, __file__) or f"unexpected content ({type(error).__name__})"
