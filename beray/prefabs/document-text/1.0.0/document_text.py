"""Text of documents: ``extract`` and ``info``."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Literal

from beray.prefab import Call, Progress, all_failed, library_cause
from document import Document, Encrypted, Part, Unreadable, Wishes, clean
from kinds import Kind, kind_of

_PIECE = 32_768
"""Characters of one piece of content: small enough for whatever carries it."""
_MOST_CHARACTERS = 50_000_000
"""Of one document. What claims to have more is not text that somebody wrote."""
_MOST_CONTENT_BYTES = 8 << 20
"""Of all pieces of a call, as JSON: what a call may say has an end, and files have more room."""
_LEAST_STEP = 0.005
"""Of what is told as progress."""
_MOST_PROBLEMS = 50
_LONGEST_STEM = 120


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
    """The text of each document, in a file and in pieces.

    Yields:
        ``{"document", "page", "text"}`` for each piece: joined, those of one document are
        what is in its file, unless there is too much of it (``complete_in_pieces``).

    Raises:
        ValueError: there is no document, or none that could be read.
    """
    wishes = Wishes(
        markdown=format == "markdown",
        layout=layout,
        page_marks=page_marks,
        keep_links=keep_links,
        keep_navigation=keep_navigation,
        pages=pages,
        password=password,
    )
    paths = _documents(call)
    names = _output_names(paths, ".md" if wishes.markdown else ".txt")
    results: list[dict[str, Any]] = []
    left = _MOST_CONTENT_BYTES if in_pieces else 0
    told = 0.0
    for index, (path, name) in enumerate(zip(paths, names, strict=True)):
        yield Progress(index / len(paths), path.name)
        try:
            document = _open(path, wishes)
        except Unreadable as error:
            results.append(_nothing_of(path, str(error)))
            continue
        characters = 0
        told = max(told, index / len(paths))
        try:
            for part, piece in _written(document, path, call.output("texts", name)):
                characters += len(piece)
                content = {"document": path.name, "page": part.page, "text": piece}
                left -= len(json.dumps(content)) if piece else 0
                if piece and left >= 0:
                    yield content
                if (fraction := (index + part.fraction) / len(paths)) >= told + _LEAST_STEP:
                    told = fraction
                    yield Progress(fraction, _where(path, part, document))
        except Unreadable as error:
            results.append(_nothing_of(path, str(error)))
            continue
        if characters == 0 and not document.problems:
            document.problems.append(f"{path.name} has no text")
        results.append(
            {"name": path.name, "kind": document.kind, "file": name, "characters": characters}
            | _known(document)
        )
    failed = [result for result in results if result["file"] is None]
    if len(failed) == len(results):
        raise Unreadable(all_failed([result["problems"][0] for result in failed]))
    return {
        "documents": results,
        "characters": sum(result["characters"] for result in results),
        "read": len(results) - len(failed),
        "failed": len(failed),
        "complete_in_pieces": left >= 0,
    }


def info(call: Call, *, password: str = "") -> dict[str, Any]:
    """What documents are, without their text.

    Raises:
        ValueError: there is no document.
    """
    documents: list[dict[str, Any]] = []
    for path in _documents(call):
        try:
            document = _open(path, Wishes(password=password))
            known = {"kind": document.kind, "encrypted": False} | _known(document)
        except Unreadable as error:
            known = _nothing_of(path, str(error)) | {"encrypted": isinstance(error, Encrypted)}
            del known["file"], known["characters"]
        size = path.stat().st_size if path.is_file() else 0
        documents.append({"name": path.name, "bytes": size} | known)
    return {"documents": documents}


def _documents(call: Call) -> list[Path]:
    paths = list(call.files.get("documents", ()))
    if not paths:
        raise Unreadable("documents: at least one file is needed")
    return paths


def _open(path: Path, wishes: Wishes) -> Document:
    """Open a document.

    Raises:
        Unreadable: With the reason.
    """
    try:
        return _opened(path, wishes)
    except Unreadable:
        raise
    except Exception as error:
        cause = library_cause(error, __file__)
        if cause is None:
            raise
        raise Unreadable(f"{path.name} cannot be read: {cause}") from None


def _opened(path: Path, wishes: Wishes) -> Document:
    kind = kind_of(path)
    # One library for each kind, and only that of this kind is imported.
    if kind is Kind.PDF:
        from pdf_text import open_pdf

        return open_pdf(path, wishes)
    if kind is Kind.DOCX:
        from docx_text import open_docx

        return open_docx(path, wishes)
    from plain_text import decoded

    text, problems = decoded(path, of_html=kind is Kind.HTML)
    if not text:
        problems.append(f"{path.name} is empty")
    if kind is Kind.HTML:
        from html_text import open_html

        return open_html(text, wishes, problems)
    return Document("text", iter([Part(clean(text))]), problems=problems)


def _written(document: Document, path: Path, target: Path) -> Iterator[tuple[Part, str]]:
    """Write the text to a file, and yield it in pieces, each with its part.

    A part without text has one empty piece.

    Raises:
        Unreadable: The document is damaged, and nothing was read of it.
    """
    characters = 0
    try:
        with target.open("w", encoding="utf-8", newline="\n") as file:
            for part in _bounded(document):
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
            raise Unreadable(f"{path.name} is damaged: {cause}") from None
        document.problems.append(f"it is damaged after {characters:,} characters: {cause}")


def _bounded(document: Document) -> Iterator[Part]:
    left = _MOST_CHARACTERS
    for part in document.parts:
        if len(part.text) > left:
            document.problems.append(f"only its first {_MOST_CHARACTERS:,} characters were taken")
            yield Part(part.text[:left], part.page)
            return
        left -= len(part.text)
        yield part


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text) or 1, _PIECE):
        yield text[start : start + _PIECE]


def _where(path: Path, part: Part, document: Document) -> str:
    if part.page is None:
        return path.name
    return f"{path.name}, page {part.page} of {document.pages}"


def _known(document: Document) -> dict[str, Any]:
    return {
        "pages": document.pages,
        "title": document.title,
        "author": document.author,
        "created": document.created,
        "problems": document.problems[:_MOST_PROBLEMS],
    }


def _nothing_of(path: Path, problem: str) -> dict[str, Any]:
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
    """A name for each output, told apart also where case makes no difference."""
    taken: set[str] = set()
    names = []
    for path in paths:
        stem = clean(path.stem)[:_LONGEST_STEM].strip() or "document"
        name = next(
            name
            for number in count(1)
            if (name := f"{stem}{f'-{number}' if number > 1 else ''}{suffix}").casefold()
            not in taken
        )
        taken.add(name.casefold())
        names.append(name)
    return names
