"""Functions of the prefab ``document-text``: ``extract`` and ``info``."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Literal

from beray.prefab import Call, Progress, all_failed, library_cause
from document import (
    Document,
    DocumentError,
    EncryptedDocumentError,
    ExtractOptions,
    TextPart,
    clean,
)
from document_kind import DocumentKind, detect_kind

_PIECE_CHARACTERS = 32_768
"""Maximum length of one yielded piece, well below the limits of the transports."""
_MAX_CHARACTERS = 50_000_000
"""Maximum number of characters extracted from one document."""
_MAX_CONTENT_BYTES = 8 << 20
"""Maximum size of all pieces of a call as JSON, in bytes. Files are not limited by it."""
_MIN_PROGRESS_STEP = 0.005
"""Minimum difference between the fractions of two progress reports within a document."""
_MAX_PROBLEMS = 50
_MAX_STEM_CHARACTERS = 120


def extract(
    call: Call,
    *,
    format: Literal["text", "markdown"] = "text",
    pages: str = "",
    password: str = "",
    layout: bool = False,
    page_marks: bool = False,
    keep_links: bool = False,
    keep_navigation: bool = False,
    in_pieces: bool = True,
) -> Generator[Progress | dict[str, Any], None, dict[str, Any]]:
    """Extract the text of each document into a file, and yield it in pieces.

    ``prefab.toml`` documents the parameters and the result.

    Yields:
        ``{"document", "page", "text"}`` for each piece. The pieces of a document joined are the
        content of its file, unless ``complete_in_pieces`` is false in the result.

    Raises:
        DocumentError: The call has no document, or no document could be read.
    """
    options = ExtractOptions(
        markdown=format == "markdown",
        layout=layout,
        page_marks=page_marks,
        keep_links=keep_links,
        keep_navigation=keep_navigation,
        pages=pages,
        password=password,
    )
    paths = _documents(call)
    names = _output_names(paths, ".md" if options.markdown else ".txt")
    results: list[dict[str, Any]] = []
    remaining = _MAX_CONTENT_BYTES if in_pieces else 0
    reported = 0.0
    for index, (path, name) in enumerate(zip(paths, names, strict=True)):
        yield Progress(index / len(paths), path.name)
        try:
            document = _open_document(path, options)
        except DocumentError as error:
            results.append(_failed_document(path, str(error)))
            continue
        characters = 0
        reported = max(reported, index / len(paths))
        try:
            for part, piece in _write_text(document, path, call.output("texts", name)):
                characters += len(piece)
                content = {"document": path.name, "page": part.page, "text": piece}
                remaining -= len(json.dumps(content)) if piece else 0
                if piece and remaining >= 0:
                    yield content
                fraction = (index + part.fraction) / len(paths)
                if fraction >= reported + _MIN_PROGRESS_STEP:
                    reported = fraction
                    yield Progress(fraction, _position(path, part, document))
        except DocumentError as error:
            results.append(_failed_document(path, str(error)))
            continue
        if characters == 0 and not document.problems:
            document.problems.append(f"{path.name} has no text")
        results.append(
            {"name": path.name, "kind": document.kind, "file": name, "characters": characters}
            | _metadata(document)
        )
    failed = [result for result in results if result["file"] is None]
    if len(failed) == len(results):
        raise DocumentError(all_failed([result["problems"][0] for result in failed]))
    return {
        "documents": results,
        "characters": sum(result["characters"] for result in results),
        "read": len(results) - len(failed),
        "failed": len(failed),
        "complete_in_pieces": remaining >= 0,
    }


def info(call: Call, *, password: str = "") -> dict[str, Any]:
    """Describe documents without reading their text.

    Raises:
        DocumentError: The call has no document.
    """
    documents: list[dict[str, Any]] = []
    for path in _documents(call):
        try:
            document = _open_document(path, ExtractOptions(password=password))
            description = {"kind": document.kind, "encrypted": False} | _metadata(document)
        except DocumentError as error:
            description = _failed_document(path, str(error))
            description["encrypted"] = isinstance(error, EncryptedDocumentError)
            del description["file"], description["characters"]
        size = path.stat().st_size if path.is_file() else 0
        documents.append({"name": path.name, "bytes": size} | description)
    return {"documents": documents}


def _documents(call: Call) -> list[Path]:
    paths = list(call.files.get("documents", ()))
    if not paths:
        raise DocumentError("documents: at least one file is required")
    return paths


def _open_document(path: Path, options: ExtractOptions) -> Document:
    """Open a document, and convert exceptions of libraries.

    Raises:
        DocumentError: The document cannot be read.
    """
    try:
        return _open_by_kind(path, options)
    except DocumentError:
        raise
    except Exception as error:
        cause = library_cause(error, __file__)
        if cause is None:
            raise
        raise DocumentError(f"{path.name} cannot be read: {cause}") from None


def _open_by_kind(path: Path, options: ExtractOptions) -> Document:
    kind = detect_kind(path)
    # Only the library for this format is imported.
    if kind is DocumentKind.PDF:
        from pdf_text import open_pdf

        return open_pdf(path, options)
    if kind is DocumentKind.DOCX:
        from docx_text import open_docx

        return open_docx(path, options)
    from text_decoding import decode_text

    text, problems = decode_text(path, is_html=kind is DocumentKind.HTML)
    if not text:
        problems.append(f"{path.name} is empty")
    if kind is DocumentKind.HTML:
        from html_text import open_html

        return open_html(text, options, problems)
    return Document("text", iter([TextPart(clean(text))]), problems=problems)


def _write_text(document: Document, path: Path, target: Path) -> Iterator[tuple[TextPart, str]]:
    """Write the text to a file, and yield it in pieces, each with its part.

    A part without text yields one empty piece.

    Raises:
        DocumentError: The document is damaged, and no text could be read.
    """
    characters = 0
    try:
        with target.open("w", encoding="utf-8", newline="\n") as file:
            for part in _limited_parts(document):
                for piece in _pieces(part.text):
                    file.write(piece)
                    characters += len(piece)
                    yield part, piece
    except Exception as error:
        cause = library_cause(error, __file__)
        if cause is None:
            raise
        if characters == 0:
            target.unlink()
            raise DocumentError(f"{path.name} is damaged: {cause}") from None
        document.problems.append(
            f"the document is damaged after {characters:,} characters: {cause}"
        )


def _limited_parts(document: Document) -> Iterator[TextPart]:
    remaining = _MAX_CHARACTERS
    for part in document.parts:
        if len(part.text) > remaining:
            document.problems.append(
                f"only the first {_MAX_CHARACTERS:,} characters were extracted"
            )
            yield TextPart(part.text[:remaining], part.page)
            return
        remaining -= len(part.text)
        yield part


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text) or 1, _PIECE_CHARACTERS):
        yield text[start : start + _PIECE_CHARACTERS]


def _position(path: Path, part: TextPart, document: Document) -> str:
    if part.page is None:
        return path.name
    return f"{path.name}, page {part.page} of {document.pages}"


def _metadata(document: Document) -> dict[str, Any]:
    return {
        "pages": document.pages,
        "title": document.title,
        "author": document.author,
        "created": document.created,
        "problems": document.problems[:_MAX_PROBLEMS],
    }


def _failed_document(path: Path, problem: str) -> dict[str, Any]:
    return {
        "name": path.name,
        "kind": None,
        "file": None,
        "pages": None,
        "characters": 0,
        "title": None,
        "author": None,
        "created": None,
        "problems": [problem],
    }


def _output_names(paths: list[Path], suffix: str) -> list[str]:
    """Return an output name for each path, unique also on case-insensitive file systems."""
    used: set[str] = set()
    names = []
    for path in paths:
        stem = clean(path.stem)[:_MAX_STEM_CHARACTERS].strip() or "document"
        name = next(
            name
            for number in count(1)
            if (name := f"{stem}{f'-{number}' if number > 1 else ''}{suffix}").casefold()
            not in used
        )
        used.add(name.casefold())
        names.append(name)
    return names
