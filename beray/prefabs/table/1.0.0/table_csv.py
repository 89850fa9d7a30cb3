"""Reader for CSV and similar formats (RFC 4180 and common deviations from it)."""

from __future__ import annotations

import csv
import io
import operator
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, dropwhile, islice
from pathlib import Path

import polars as pl

from table_columns import TableInputError, rename_messages, unique_names
from table_encoding import decode_file

_DELIMITERS = ",;\t|"
_SAMPLE_CHARACTERS = 1 << 16
_SAMPLE_ROWS = 50
_MAX_CELL_CHARACTERS = 10_000_000
_MAX_COLUMNS = 20_000
_MAX_CELLS = 50_000_000
"""Maximum number of cells of an irregular table, including the cells that fill up short rows."""
_CARRIAGE_RETURN = re.compile(r"\r(?!\n)")
_END = "end"
_SEPARATOR_LINE = re.compile(r'"?sep=(\\t|[^\w\r\n"])"?[ \t,;|]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)


@dataclass(frozen=True)
class CsvTable:
    """Table of a text file; all cells are strings."""

    frame: pl.DataFrame
    problems: list[str]
    separator: str
    header: dict[str, str]
    """Names in the file, by the unique names of the columns."""


def read_csv_file(path: Path, delimiter: str, header: bool) -> CsvTable:
    """Read the table in a text file.

    Args:
        path: The file.
        delimiter: Separator of cells; empty to detect it.
        header: Whether the first row contains the names of the columns.

    Raises:
        TableInputError: The file is empty, not text, or too large, or ``delimiter`` is invalid.
    """
    text, problems = decode_file(path)
    hint, text = _split_separator_line(text)
    if not text.strip():
        raise TableInputError(f"{path.name} is empty")
    if hint and delimiter and hint != delimiter:
        problems.append(f"the first line sets the separator {hint!r}; {delimiter!r} is used")
    separator = delimiter or hint or _detect_separator(text, path)
    if separator in '"\r\n' or not separator.isascii():
        raise TableInputError(
            f"delimiter: {separator!r} is invalid; pass an ASCII character, not a quote or newline"
        )
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    try:
        first, more = _first_row(text, separator)
        # Polars does not treat a carriage return as a line end, nor report an unclosed quote in the
        # header.
        fast = more and not _CARRIAGE_RETURN.search(text)
        frame = _read_regular(text, separator, header) if fast else None
        if frame is None:
            frame = _read_irregular(path, text, separator, header, problems)
        elif frame.width > 1 and frame[:, -1].null_count():  # a short row has an empty last cell
            rows = dropwhile(operator.not_, _rows(text, separator, problems))
            problems += _short_row_messages(rows, frame.width, header)
    except csv.Error as error:
        raise TableInputError(f"{path.name} cannot be read: {error}") from None
    if frame.width > _MAX_COLUMNS:
        raise TableInputError(
            f"{path.name} has {frame.width:,} columns; the limit is {_MAX_COLUMNS:,}"
        )
    if not header:
        frame.columns = unique_names([""] * frame.width)
    if header and len(first) == frame.width:
        frame.columns = unique_names(first)  # Polars makes names unique in another way
    original = dict(zip(frame.columns, first, strict=False)) if header else {}
    problems += rename_messages(list(original.values()), list(original))
    return CsvTable(frame, problems, separator, original)


def _split_separator_line(text: str) -> tuple[str, str]:
    """Return the separator that a first line such as ``sep=;`` sets, and the text after it."""
    found = _SEPARATOR_LINE.match(text)
    if found is None:
        return "", text
    return "\t" if found[1] == "\\t" else found[1], text[found.end() :]


def _detect_separator(text: str, path: Path) -> str:
    """Return the separator that splits the first rows into equal numbers of cells, and most."""
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    sample = text[:_SAMPLE_CHARACTERS]
    best = (0.0, ",")
    for candidate in _DELIMITERS:
        try:
            reader = csv.reader(io.StringIO(sample, newline=""), delimiter=candidate)
            widths = [len(row) for row in islice(reader, _SAMPLE_ROWS) if row]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            even = sum(width == widths[0] for width in widths) / len(widths)
            score = even + min(widths[0], 100) / 1000
            if candidate != "," and even == 1 and len(widths) > 1:
                score += 1  # any commas are decimal commas, or part of the text
            if score > best[0]:
                best = (score, candidate)
    return best[1]


def _first_row(text: str, separator: str) -> tuple[list[str], bool]:
    """Return the first row that is not empty, and whether more text follows it."""
    lines = io.StringIO(text, newline="")
    row = next(filter(None, csv.reader(lines, delimiter=separator)), [])
    return row, lines.tell() < len(text)


def _read_regular(text: str, separator: str, header: bool) -> pl.DataFrame | None:
    """Read a table by Polars; None if its rows are too long or its quotes are invalid."""
    try:
        return pl.read_csv(
            io.BytesIO(text.encode()),
            separator=separator,
            infer_schema=False,
            has_header=header,
            extra_columns="raise",
            glob=False,
        )
    except pl.exceptions.PolarsError:
        return None


def _rows(text: str, separator: str, problems: list[str]) -> Iterator[list[str]]:
    """Yield the rows, and report an unclosed quote after the last one."""
    # The additional last line becomes a row of its own, unless a quote is still open.
    lines = chain(io.StringIO(text, newline=""), ["\n", _END])
    reader = csv.reader(lines, delimiter=separator)
    buffered: list[list[str]] = []
    begin = after = 1
    for row in reader:
        begin, after = after, reader.line_num + 1
        buffered.append(row)
        if len(buffered) > 2:
            yield buffered.pop(0)
    if buffered[-1] == [_END]:
        return
    problems.append(f"unclosed quote, starting in line {begin:,}")
    buffered[-1][-1] = buffered[-1][-1].removesuffix("\n" + _END)
    yield from buffered


def _short_row_messages(rows: Iterable[list[str]], width: int, header: bool) -> list[str]:
    short = sum(len(row) < width for row in rows)
    reference = "header" if header else "longest row"
    message = f"{short:,} rows have fewer than the {width:,} cells of the {reference}"
    return [message] if short else []


def _read_irregular(
    path: Path, text: str, separator: str, header: bool, problems: list[str]
) -> pl.DataFrame:
    """Read a table with rows of different lengths.

    Rows that are too long get additional columns, rows that are too short empty cells.
    """
    all_rows = list(_rows(text, separator, problems))
    rows = [row for row in all_rows if row]
    if empty := len(all_rows) - len(rows):
        problems.append(f"{empty:,} empty lines were removed")
    width = max(map(len, rows))
    if width * len(rows) > _MAX_CELLS or width > _MAX_COLUMNS:
        size = f"{len(rows):,} rows and a longest row of {width:,} cells"
        limits = f"{_MAX_CELLS:,} cells and {_MAX_COLUMNS:,} columns"
        raise TableInputError(f"{path.name} has {size}; the limits are {limits}")
    names = rows.pop(0) if header else []
    longer = sum(len(row) > len(names) for row in rows) if header else 0
    if longer:
        problems.append(f"{longer:,} rows have more than the {len(names)} cells of the header")
    problems += _short_row_messages(rows, len(names) if header else width, header)
    names += [""] * (width - len(names))
    cells = {
        name: [row[index] or None if index < len(row) else None for row in rows]
        for index, name in enumerate(unique_names(names))
    }
    return pl.DataFrame(cells, schema=dict.fromkeys(cells, pl.String))
